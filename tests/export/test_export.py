"""A bundle answers like the model it was made from; one that doesn't is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from untrained import BACKBONE, SIZE, train_nothing

import taxakey.export.onnx_file as exporting
from taxakey.artifacts import read_manifest
from taxakey.dataset.preprocess import Preprocess
from taxakey.errors import BadInput, ExportMismatch, MissingArtifact, PlanMismatch
from taxakey.export import check, export, write_onnx
from taxakey.metadata.encoder import MetadataEncoder, MetadataOptions
from taxakey.metadata.observation import encoded
from taxakey.models.backbones import Network
from taxakey.models.head_options import build_head
from taxakey.models.metadata_vit import with_metadata_tokens
from taxakey.prediction.scorers import OnnxScorer
from taxakey.serving.identifier import load
from taxakey.taxonomy import Taxonomy
from taxakey.training import checkpoint
from taxakey.training.checkpoint import Model, load_model, save_model
from taxakey.training.recipe import recipe_from


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Path]]:
    """The run and the bundle of a head, made once."""

    @cache
    def make(kind: str) -> tuple[Path, Path]:
        folder = tmp_path_factory.mktemp(kind)
        run = train_nothing(folder / "run", kind)
        export(run, folder / "bundle")
        return run, folder / "bundle"

    return make


@pytest.mark.parametrize("kind", ["linear", "tree"])
def test_a_flat_and_a_tree_head_are_exported_and_answer_alike(kind: str, exported: Callable, tmp_path: Path) -> None:
    run, bundle_folder = exported(kind)
    manifest = read_manifest(bundle_folder, "bundle")
    assert manifest.counts["classes"] == 11
    files = {file.name for file in bundle_folder.iterdir()}
    assert {"model.onnx", "taxonomy.parquet", "config.json", "calibration.json", "README.md", "manifest.json"} <= files
    assert not [name for name in files if "partial" in name]
    # The two ways to the same answer, on pictures of real sizes.
    generator = np.random.default_rng(1)
    pictures = []
    for number in range(5):
        file = tmp_path / f"{number}.jpg"
        Image.fromarray(generator.integers(0, 255, (7, 9, 3), dtype=np.uint8)).resize((300, 200 + number)).save(file)
        pictures.append(file)
    trained, bundle = load(run), load(bundle_folder)
    assert trained.fingerprint == bundle.fingerprint
    for one, other in zip(trained.identify(pictures, top=11), bundle.identify(pictures, top=11), strict=True):
        assert [t.scientific_name for t in one.species] == [t.scientific_name for t in other.species]
        assert [t.probability for t in one.species] == pytest.approx([t.probability for t in other.species], abs=1e-5)
        assert [t.scientific_name for t in one.genera] == [t.scientific_name for t in other.genera]


TOLD = MetadataEncoder(MetadataOptions(), {"habitat": ("bog", "wood"), "substrate": ("peat",)})
SMALL_HEAD = {"layers": 2, "attention_heads": 4, "feed_forward": 24, "hidden": 20, "token_hidden": 12}
SMALL_VIT = {"img_size": 64, "embed_dim": 32, "depth": 2, "num_heads": 2}


@pytest.mark.parametrize("kind", ["metadata_transformer", "mlp", "linear on a told vit"])
def test_a_model_that_takes_metadata_is_exported_with_what_they_mean(kind: str, tmp_path: Path) -> None:
    """Run and bundle answer alike, told something or nothing; and differently when told something else."""
    torch.manual_seed(0)
    taxonomy = Taxonomy.from_rows([{"scientificName": f"Genus{i % 4} species{i}", "genus": f"Genus{i % 4}"} for i in range(11)])
    vit = kind == "linear on a told vit"
    backbone = {"name": "vit_tiny_patch16_224", "arguments": SMALL_VIT, "metadata_tokens": True} if vit else {"name": BACKBONE}
    head = {"kind": "linear"} if vit else {"kind": kind} | (SMALL_HEAD if "transformer" in kind else {"hidden": 20})
    recipe = recipe_from({"name": kind, "backbone": {**backbone, "weights": "none"}, "head": head, "metadata": {}}, "a test")
    body = timm.create_model(recipe.backbone.name, num_classes=0, **recipe.backbone.arguments)
    body, groups = (with_metadata_tokens(body, TOLD.widths), ()) if vit else (body, TOLD.widths)
    network = Network(body, build_head(recipe.head, body.num_features, taxonomy, metadata=groups)).eval()
    for parameter in network.head.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    save_model(tmp_path / "run" / "model", network, taxonomy, Preprocess(input_size=SIZE), recipe, TOLD)
    export(tmp_path / "run", tmp_path / "bundle")
    file = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (70, 80, 3), dtype=np.uint8)).save(file)
    known = [{"eventDate": "2024-05-31", "habitat": "bog"}, {}, {"decimalLatitude": 50.9, "decimalLongitude": 11.6}]
    answers = []
    for folder in (tmp_path / "run", tmp_path / "bundle"):
        model = load(folder)
        assert model.takes == ("eventDate", "decimalLatitude", "decimalLongitude", "habitat", "substrate")
        found = model.identify([file] * 3, known=known, top=11)
        answers.append([{taxon.scientific_name: taxon.probability for taxon in answer.species} for answer in found])
    for one, other in zip(*answers, strict=True):
        assert one == pytest.approx(other, abs=1e-4)
    assert answers[0][0] != pytest.approx(answers[0][1], abs=1e-3)
    with torch.inference_mode():
        told_BM = torch.from_numpy(encoded(TOLD, known))
        pixels = torch.from_numpy(np.stack([Preprocess(input_size=SIZE).load(file)] * 3))
        expected_BC = network(pixels, told_BM).softmax(1)
    assert answers[1][2] == pytest.approx(dict(zip(taxonomy.names, expected_BC[2].tolist(), strict=True)), abs=1e-4)
    assert "metadata.json" in (tmp_path / "bundle" / "README.md").read_text()
    MetadataEncoder(MetadataOptions(), {"habitat": (), "substrate": ()}).write(tmp_path / "bundle")
    with pytest.raises(BadInput, match="numbers of metadata"):
        load(tmp_path / "bundle")


def test_any_batch_size_gives_the_scores_of_torch(exported: Callable) -> None:
    run, bundle = exported("tree")
    model, scorer = load_model(run), OnnxScorer(bundle / "model.onnx")
    assert (scorer.classes, scorer.picture) == (11, SIZE)
    pixels = torch.randn(7, *SIZE)
    with torch.no_grad():
        expected = model.network(pixels).numpy()
    for batch in (1, 2, 7):
        np.testing.assert_allclose(scorer.scores(pixels[:batch].numpy()), expected[:batch], atol=1e-4)


def test_exported_again_is_found_finished_and_another_model_is_refused(exported: Callable, tmp_path: Path) -> None:
    run, bundle = exported("linear")
    assert export(run / "model", bundle) == read_manifest(bundle, "bundle")
    other = train_nothing(tmp_path / "other", "linear", seed=1)
    with pytest.raises(PlanMismatch, match="weights"):
        export(other, bundle)


def test_a_model_that_answers_differently_is_not_finished(
    exported: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, finished = exported("linear")

    def load_a_little_changed(folder: Path) -> Model:
        model = load_model(folder)
        with torch.no_grad():
            model.network.head.linear.bias[3] += 0.01  # type: ignore[union-attr, index]
        return model

    # What the exporter would write, without waiting for it again.
    monkeypatch.setattr(exporting, "write_onnx", lambda network, size, file, **_: shutil.copy(finished / "model.onnx", file))
    with monkeypatch.context() as changed:
        changed.setattr(checkpoint, "load_model", load_a_little_changed)
        with pytest.raises(ExportMismatch, match=r"differ from torch's by up to 0\.0"):
            export(run, tmp_path / "bundle")
    assert not (tmp_path / "bundle" / "manifest.json").exists()
    assert not (tmp_path / "bundle" / "model.onnx").exists()
    with pytest.raises(MissingArtifact):
        load(tmp_path / "bundle")
    assert export(run, tmp_path / "bundle").counts["classes"] == 11  # the same folder can be finished later


class Constant(torch.nn.Module):
    """Scores that don't depend on the picture."""

    def __init__(self, *scores: float) -> None:
        super().__init__()
        self.register_buffer("scores_C", torch.tensor(scores))

    def forward(self, pixels_B3HW: torch.Tensor) -> torch.Tensor:
        return self.scores_C[None] + 0 * pixels_B3HW.mean((1, 2, 3))[:, None]


def test_shapes_and_scores_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    write_onnx(Constant(0.0, 1.0), (3, 8, 8), file)
    assert check(Constant(0.0, 1.0), (3, 8, 8), file, classes=2) == pytest.approx(0, abs=1e-6)
    assert check(Constant(5.0, 6.0), (3, 8, 8), file, classes=2) == pytest.approx(
        0, abs=1e-6
    )  # a constant changes no probability
    with pytest.raises(ExportMismatch, match="has 3 classes"):
        check(Constant(0.0, 1.0), (3, 8, 8), file, classes=3)
    with pytest.raises(ExportMismatch, match="aren't finite"):
        check(Constant(0.0, float("nan")), (3, 8, 8), file, classes=2)
    # log-probabilities of (0, 1) and (1, 0) differ by 1
    with pytest.raises(ExportMismatch, match="by up to 1,"):
        check(Constant(1.0, 0.0), (3, 8, 8), file, classes=2)
