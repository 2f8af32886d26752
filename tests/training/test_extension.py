"""More species for a finished run: the new run is a run like any other, and the old answers keep their ratios."""

from __future__ import annotations

from pathlib import Path

import taxakey.torchvision_guard  # noqa: F401  before timm

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from taxakey.artifacts import read_manifest
from taxakey.calibration import Calibration
from taxakey.cli.add_species import add_species
from taxakey.dataset.preprocess import Preprocess
from taxakey.dataset.reader import Dataset
from taxakey.errors import BadInput
from taxakey.export import export
from taxakey.models.backbones import Network
from taxakey.models.head_options import build_head
from taxakey.prediction.predict import predict
from taxakey.predictions import Predictions
from taxakey.serving.identifier import load
from taxakey.taxonomy import Taxonomy
from taxakey.training.checkpoint import load_model, save_model
from taxakey.training.extension import extend
from taxakey.training.recipe import recipe_from

BACKBONE = "test_byobnet"  # one of timm's own for tests
SIZE = (3, 64, 64)


def random_run(folder: Path, taxonomy: Taxonomy, kind: str) -> Path:
    torch.manual_seed(0)
    recipe = recipe_from({"name": "little", "backbone": {"name": BACKBONE, "weights": "none"}, "head": {"kind": kind}}, "a test")
    backbone = timm.create_model(BACKBONE, num_classes=0)
    network = Network(backbone, build_head(recipe.head, backbone.num_features, taxonomy))
    save_model(folder / "model", network.eval(), taxonomy, Preprocess(input_size=SIZE), recipe)
    Calibration(1.5, 0.4, {"observations": 9, "precision": None, "target_precision": 0.9}).write(
        folder / "model" / "calibration.json"
    )
    (folder / "model" / "README.md").write_text("# little\n\nThe card of before.\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module", params=["linear", "tree"])
def runs(request: pytest.FixtureRequest, sheets_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run that knows five of the eight species, and the one made of it that knows all."""
    folder = tmp_path_factory.mktemp("add")
    rows = Dataset.open(sheets_dataset).taxonomy.table.to_pylist()
    before = random_run(folder / "before", Taxonomy.from_rows(rows[1:6]), request.param)
    extend(before, sheets_dataset, folder / "after", device="cpu")
    return before, folder / "after"


def test_it_says_what_it_is(runs: tuple[Path, Path], sheets_dataset: Path) -> None:
    before, after = runs
    manifest = read_manifest(after, "run")
    dataset = Dataset.open(sheets_dataset)
    model = load_model(after)
    assert manifest.counts["classes"] == len(dataset.taxonomy)
    assert manifest.counts["added"] == 3
    assert manifest.taxonomy == model.taxonomy.fingerprint == dataset.taxonomy.fingerprint
    assert "isn't measured" in manifest.notes[0]
    assert model.calibration is not None
    assert (model.calibration.temperature, model.calibration.unsure_below) == (1.5, 0.4)
    assert model.calibration.measured["species_added_since"] == 3
    assert "before 3 species were added" in model.calibration.meaning
    card = (after / "model" / "README.md").read_text(encoding="utf-8")
    assert manifest.notes[0] in card
    assert "The card of before." in card
    assert dataset.taxonomy.names[0] in card
    assert load_model(before).taxonomy.names == dataset.taxonomy.names[1:6]  # untouched


def test_the_backbone_stays_and_old_species_keep_their_ratios_in_a_flat_head(runs: tuple[Path, Path]) -> None:
    before, after = (load_model(run) for run in runs)
    for name, weight in before.network.backbone.state_dict().items():
        assert torch.equal(weight, after.network.backbone.state_dict()[name])
    if before.config["taxakey"]["head"]["kind"] != "linear":
        return
    pixels = torch.randn(4, *SIZE)
    with torch.no_grad():
        old_BC, new_BC = before.network(pixels), after.network(pixels)[:, after.taxonomy.index_of(before.taxonomy.names)]
    torch.testing.assert_close(new_BC, old_BC, rtol=0, atol=1e-5)  # unnormalised: not even their sum changes


def test_everything_that_takes_a_run_takes_it(runs: tuple[Path, Path], sheets_dataset: Path, tmp_path: Path) -> None:
    _, after = runs
    predict(after, sheets_dataset, tmp_path / "predictions")
    assert len(Predictions.read(tmp_path / "predictions" / "observations.parquet"))
    if load_model(after).config["taxakey"]["head"]["kind"] == "linear":
        return  # its export is a flat head's as ever, and takes seconds
    export(after, tmp_path / "bundle")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (80, 80, 3), dtype=np.uint8)).save(tmp_path / "plant.png")
    answers = [load(model).identify([tmp_path / "plant.png"])[0].species for model in (after, tmp_path / "bundle")]
    assert [taxon.scientific_name for taxon in answers[0]] == [taxon.scientific_name for taxon in answers[1]]


def test_the_command_prints_the_card(runs: tuple[Path, Path], sheets_dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, after = runs
    add_species(before, sheets_dataset, after, device="cpu")
    printed = capsys.readouterr().out
    assert (after / "model" / "README.md").read_text(encoding="utf-8") in printed
    assert "species: 8, 3 of them new" in printed


def test_running_it_again_changes_nothing(runs: tuple[Path, Path], sheets_dataset: Path) -> None:
    before, after = runs
    written = (after / "model" / "model.safetensors").stat().st_mtime_ns
    extend(before, sheets_dataset, after, device="cpu")
    assert (after / "model" / "model.safetensors").stat().st_mtime_ns == written


def test_a_dataset_without_a_new_species_is_refused(runs: tuple[Path, Path], sheets_dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="knows all its 8 species already"):
        extend(runs[1], sheets_dataset, tmp_path / "out", device="cpu")
    assert not (tmp_path / "out").exists()
