"""An exported bundle in place of a run: the same artifact, so that everything that takes predictions judges bundles too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from taxakey.artifacts import read_manifest, write_json
from taxakey.cli.predict import predict as predict_command
from taxakey.dataset.reader import Dataset
from taxakey.embeddings import embed
from taxakey.errors import BadInput, TaxonomyMismatch
from taxakey.evaluation import evaluate
from taxakey.evaluation.comparing import compare
from taxakey.export import ExportOptions, export
from taxakey.frontier.measuring import measure, multiply_adds
from taxakey.models.heads import LinearOptions
from taxakey.prediction.members import Member
from taxakey.prediction.namer import Namer
from taxakey.prediction.predict import predict
from taxakey.predictions import Predictions
from taxakey.training.checkpoint import load_model
from taxakey.training.loop import train
from taxakey.training.recipe import read_recipe

SMOKE = read_recipe(Path(__file__).parent.parent.parent / "recipes" / "smoke.yaml")


@pytest.fixture(scope="module")
def folder(sheets_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, its bundle whole and for some species, and what each says of the test part."""
    out = tmp_path_factory.mktemp("bundles")
    recipe = replace(SMOKE, head=LinearOptions(), loop=replace(SMOKE.loop, epochs=1))
    train(sheets_dataset, recipe, out / "run", device="cpu")
    export(out / "run", out / "whole")
    (out / "flora.txt").write_text("\n".join(load_model(out / "run").taxonomy.names[1::2]))
    export(out / "run", out / "some", ExportOptions(only=str(out / "flora.txt")))
    for name in ("run", "whole", "some"):
        predict(out / name, sheets_dataset, out / f"{name}-test", full_scores=True)
    return out


def answers(folder: Path, level: str) -> dict[str, dict[int, float]]:
    table = Predictions.read(folder / f"{level}s.parquet")
    rows = zip(table.index("species").tolist(), table.probability("species").tolist(), strict=True)
    return {
        name: dict(zip(index, probability, strict=True))
        for name, (index, probability) in zip(table.strings(f"{level}_id"), rows, strict=True)
    }


@pytest.mark.parametrize("level", ["observation", "image"])
def test_run_and_bundle_give_the_same_predictions(folder: Path, level: str) -> None:
    one, other = (answers(folder / f"{name}-test", level) for name in ("run", "whole"))
    assert one.keys() == other.keys()
    for name, row in one.items():
        assert row == pytest.approx(other[name], abs=1e-4)
    assert read_manifest(folder / "whole-test", "predictions").notes == ("Answers of an exported bundle (fp32)",)
    assert list((folder / "whole-test" / "full").iterdir())


def test_a_bundle_of_some_species_is_asked_about_these(folder: Path, sheets_dataset: Path) -> None:
    taxonomy, dataset = load_model(folder / "run").taxonomy, Dataset.open(sheets_dataset)
    kept = taxonomy.names[1::2]
    part = dataset.part("test")
    wanted = {i for i, name in zip(part.image_ids, part.table["scientificName"].to_pylist(), strict=True) if name in kept}
    whole, some = (answers(folder / f"{name}-test", "image") for name in ("run", "some"))
    assert some.keys() == wanted
    assert 0 < len(wanted) < len(part)
    for name in wanted:
        inside = np.array([whole[name][taxonomy.names.index(species)] for species in kept])
        assert [some[name][index] for index in range(len(kept))] == pytest.approx((inside / inside.sum()).tolist(), abs=1e-4)
    note = read_manifest(folder / "some-test", "predictions").notes[1]
    assert note.startswith(f"{len(part) - len(wanted)} pictures of test left out")


def test_evaluated_with_the_pictures_of_these_species_alone(folder: Path, sheets_dataset: Path) -> None:
    report = evaluate(folder / "some-test", resamples=20)
    kept = load_model(folder / "run").taxonomy.names[1::2]
    trained = Dataset.open(sheets_dataset).part("train").table["scientificName"].to_pylist()
    assert len(report.species) > 1
    assert {row.scientific_name for row in report.species} <= set(kept)
    assert all(row.train_images == trained.count(row.scientific_name) > 0 for row in report.species)
    assert report.sources[0].kind == "bundle"
    assert any("left out" in note for note in report.notes)


def test_compared_with_its_run(folder: Path) -> None:
    found = compare([folder / "run-test", folder / "whole-test"], resamples=50)
    assert [run.name for run in found.runs] == ["run", "whole-test"]
    assert found.runs[1].differences["top_1"].value == pytest.approx(0, abs=1e-9)
    with pytest.raises(BadInput, match="observations"):
        compare([folder / "run-test", folder / "some-test"], resamples=50)


def test_on_the_frontier(folder: Path) -> None:
    run, whole = measure({name: folder / f"{name}-test" for name in ("run", "whole")}, pictures=8, rounds=1, resamples=20)
    assert whole.costs["parameters"] == run.costs["parameters"]
    assert whole.costs["multiply_adds"] == run.costs["multiply_adds"] == multiply_adds(load_model(folder / "run"))
    assert whole.costs["bytes"] == (folder / "whole" / "model.onnx").stat().st_size
    assert whole.costs["training_seconds"] is None
    speed = whole.costs["pictures_per_second"]
    assert speed is not None
    assert speed > 0
    (some,) = measure({"some": folder / "some-test"}, pictures=0, resamples=20)
    assert (some.costs["parameters"] or 0) < (whole.costs["parameters"] or 0)
    assert Member.open(folder / "whole-test").name == "whole"


def test_a_bundle_beside_a_run_in_an_ensemble(folder: Path, sheets_dataset: Path, tmp_path: Path) -> None:
    """Both want the picture prepared alike, and are still asked one by one."""
    weights = {"run": 0.5, "whole": 0.5}
    members = {"members": ["run", "whole"], "models": [str(folder / name) for name in weights]}
    write_json(tmp_path / "ensemble.json", {**members, "formula": "mean", "weights": weights})
    dataset = Dataset.open(sheets_dataset)
    part = dataset.part("test")
    one, both = (Namer.open(place, dataset).at(part).probabilities(np.arange(6))[0] for place in (folder / "run", tmp_path))
    np.testing.assert_allclose(both, one, atol=1e-4)


def test_what_can_not_be_asked(folder: Path, sheets_dataset: Path, tmp_path: Path) -> None:
    embed(sheets_dataset, SMOKE.backbone, tmp_path / "vectors")
    with pytest.raises(BadInput, match="a bundle takes pictures, not vectors"):
        predict(folder / "whole", sheets_dataset, tmp_path / "out", embeddings_folder=tmp_path / "vectors")
    member = {"members": ["a"], "models": [str(folder / "some")], "formula": "mean", "weights": {"a": 1.0}}
    write_json(tmp_path / "ensemble.json", member)
    with pytest.raises(TaxonomyMismatch):  # as a member, it is asked about all species
        predict(tmp_path, sheets_dataset, tmp_path / "out")


def test_the_command_says_what_was_left_out(folder: Path, sheets_dataset: Path, tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(predict_command)
    result = CliRunner().invoke(app, [str(folder / "some"), str(sheets_dataset), str(tmp_path / "out"), "--device", "cpu"])
    assert result.exit_code == 0, result.output
    assert "pictures of test left out" in result.output
