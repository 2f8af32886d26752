"""Bundles for phones: ExecuTorch's own runtime answers as torch does, or nothing is kept."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from torch import Tensor, nn
from typer.testing import CliRunner
from untrained import SIZE, train_nothing

import taxakey.export.phone_file as phone_file
from taxakey.artifacts import read_manifest
from taxakey.cli.export import export as export_command
from taxakey.errors import BadInput, ExportMismatch, MissingExtra
from taxakey.export import ExportOptions, check, export, write_pte
from taxakey.export.pictures import validation_pictures
from taxakey.export.runtimes import PhoneScorer
from taxakey.models.grouped_softmax import log_softmax
from taxakey.serving.identifier import load
from taxakey.training import checkpoint
from taxakey.training.checkpoint import Model, load_model


@pytest.fixture(scope="module")
def executorch() -> None:
    pytest.importorskip("executorch.exir", reason="the extra phone isn't installed")


@pytest.fixture(scope="module")
def linear(executorch: None, sheets_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run and its bundle, judged on real files."""
    folder = tmp_path_factory.mktemp("linear")
    run = train_nothing(folder / "run", "linear")
    export(run, folder / "bundle", ExportOptions(format="executorch", dataset=sheets_dataset, pictures=9))
    return run, folder / "bundle"


@pytest.mark.slow
def test_the_bundle_of_a_linear_head_answers_as_torch_and_says_what_was_measured(
    linear: tuple[Path, Path], sheets_dataset: Path
) -> None:
    run, bundle = linear
    assert {file.name for file in bundle.iterdir()} == {
        *("model.pte", "taxonomy.parquet", "config.json", "calibration.json", "measured.json", "README.md"),
        *("plan.json", "manifest.json"),
    }
    model, measured = load_model(run), json.loads((bundle / "measured.json").read_text())
    judged, _ = validation_pictures(sheets_dataset, 9, model.preprocess, None)
    pixels = np.concatenate([given["pixels"] for given in judged.batches()])
    found_BC = PhoneScorer(bundle / "model.pte", threads=1).scores(pixels)
    with torch.no_grad():
        expected_BC = model.network(torch.from_numpy(pixels)).numpy()
    np.testing.assert_allclose(found_BC, expected_BC, atol=1e-4)
    assert len(np.unique(found_BC[:, 0])) == len(pixels)  # each picture its own answer
    assert measured["pictures"] == len(pixels) > 3
    assert measured["agreement"] == 1.0
    assert measured["runtime"] == "ExecuTorch"
    assert measured["bytes"] == (bundle / "model.pte").stat().st_size
    manifest = read_manifest(bundle, "bundle")
    assert manifest.counts["bytes"] == measured["bytes"]
    assert "images a second with ExecuTorch" in manifest.notes[1]
    card = (bundle / "README.md").read_text()
    assert "`model.pte` takes `pixels` float32 [1, 3, 64, 64]" in card
    assert "taxakey serve" not in card
    assert b"backbones.py" not in (bundle / "model.pte").read_bytes()  # no paths of our machine


@pytest.mark.slow
def test_taxakey_says_that_it_is_for_phones(linear: tuple[Path, Path]) -> None:
    with pytest.raises(BadInput, match=r"exported for phones \(executorch\)"):
        load(linear[1])


@pytest.mark.slow
def test_a_changed_weight_is_refused_and_nothing_is_left(
    linear: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, finished = linear

    def load_a_little_changed(folder: Path) -> Model:
        model = load_model(folder)
        with torch.no_grad():
            model.network.head.linear.bias[3] += 0.01  # type: ignore[union-attr, index]
        return model

    # What the exporter would write, without waiting for it again.
    monkeypatch.setattr(phone_file, "write_pte", lambda network, size, file, **_: shutil.copy(finished / "model.pte", file))
    monkeypatch.setattr(checkpoint, "load_model", load_a_little_changed)
    with pytest.raises(ExportMismatch, match=r"differ from torch's by up to 0\.0"):
        export(run, tmp_path / "bundle", ExportOptions(format="executorch"))
    assert not (tmp_path / "bundle").exists()


@pytest.mark.slow
def test_an_even_tree_for_some_of_its_species_by_the_command(executorch: None, tmp_path: Path) -> None:
    run = train_nothing(tmp_path / "run", "tree")
    app = typer.Typer()
    app.command()(export_command)
    arguments = [str(run), str(tmp_path / "bundle"), "--format", "executorch", "--only", "Genusb, Genusc"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "6 species, fp32" in result.output
    assert "how an app runs it" in result.output
    # The same another way: the whole tree's scores of these species, up to a constant.
    trained = load_model(run)
    kept = [at for at, name in enumerate(trained.taxonomy.names) if name.startswith(("Genusb", "Genusc"))]
    pixels = torch.randn(3, *SIZE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected_BA = trained.network(pixels)[:, kept].softmax(1)
    found_BA = torch.from_numpy(PhoneScorer(tmp_path / "bundle" / "model.pte").scores(pixels.numpy())).softmax(1)
    torch.testing.assert_close(found_BA, expected_BA, atol=1e-5, rtol=1e-4)


class Told(nn.Module):
    """Scores of a picture and of what is known about it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head = nn.Conv2d(3, 4, 3, stride=2), nn.Linear(4 + 5, 6)

    def forward(self, pixels: Tensor, metadata: Tensor) -> Tensor:
        return self.head(torch.cat([self.conv(pixels).relu().mean((2, 3)), metadata], 1))


@pytest.mark.slow
def test_metadata_is_a_second_input(executorch: None, tmp_path: Path) -> None:
    network, file = Told().eval(), tmp_path / "model.pte"
    write_pte(network, (3, 16, 16), file, metadata=5)
    assert check(network, (3, 16, 16), file, classes=6, metadata=5) < 1e-5
    with torch.no_grad():
        network.head.weight[2, 6] += 0.1  # of a metadata input
    with pytest.raises(ExportMismatch, match="differ from torch's"):
        check(network, (3, 16, 16), file, classes=6, metadata=5)


class Uneven(nn.Module):
    """What a tree does whose nodes have different numbers of children."""

    def forward(self, pixels: Tensor) -> Tensor:
        return log_softmax(pixels.mean((2, 3)), torch.tensor([0, 0, 1]), 2)


@pytest.mark.slow
def test_an_operation_without_a_kernel_is_named_and_nothing_written(executorch: None, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"can't compute aten::scatter_reduce.two_out, .* --format onnx"):
        write_pte(Uneven(), (3, 8, 8), tmp_path / "model.pte")
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_no_program_is_named(executorch: None, tmp_path: Path) -> None:
    (tmp_path / "model.pte").write_bytes(b"nothing of the kind" * 20)
    with pytest.raises(BadInput, match=r"model\.pte: ExecuTorch can't run it"):
        PhoneScorer(tmp_path / "model.pte")


def test_the_missing_extra_names_the_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*(name for name in sys.modules if name.split(".")[0] == "executorch"), "executorch"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtra, match=r"pip install 'taxakey\[phone\]'"):
        export(train_nothing(tmp_path / "run", "linear"), tmp_path / "bundle", ExportOptions(format="executorch"))
    assert not (tmp_path / "bundle").exists()


def test_what_it_can_not_do_is_said() -> None:
    with pytest.raises(BadInput, match="int8-weights is for --format onnx"):
        ExportOptions("int8-weights", format="executorch")
    with pytest.raises(BadInput, match="one of onnx, executorch"):
        ExportOptions(format="litert")  # type: ignore[arg-type]
