"""Evaluation on a small world whose figures are worked out by hand (see evaluated_world for the species and the answers)."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from evaluated_world import RUN_NOTE, World, make_predictions, make_world, picture_size
from PIL import Image
from sklearn.metrics import f1_score

from taxakey import artifacts
from taxakey.dataset.reader import Dataset
from taxakey.errors import BadInput, MissingArtifact, TaxonomyMismatch
from taxakey.evaluation import Report, evaluate
from taxakey.evaluation.examples import THUMBNAIL_EDGE, thumbnail
from taxakey.predictions import Predictions, Truth
from taxakey.taxonomy import Taxonomy


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def report(world: World) -> Report:
    return evaluate(world.predictions, resamples=200)


def test_accuracy_worked_out_by_hand(report: Report) -> None:
    species, genus, family = (report.figures[rank] for rank in ("species", "genus", "family"))
    # Right of all: Acer 2 of 3, Fagus 2 of 4, petraea 2 of 4, robur 3 of 5; ilex 0 of 2 and Zea 0 of 1 are outside the model.
    assert species["top_1"].value == pytest.approx(9 / 19)
    assert species["macro_top_1"].value == pytest.approx((2 / 3 + 2 / 4 + 2 / 4 + 3 / 5 + 0 + 0) / 6)
    # Among five names of four classes everything is found that the model holds.
    assert species["top_5"].value == pytest.approx(16 / 19)
    assert species["macro_top_5"].value == pytest.approx(4 / 6)
    # Genus: summed, petraea is right three times (its wrong answer robur helps), robur four times, ilex twice.
    assert genus["top_1"].value == pytest.approx((2 + 2 + 3 + 4 + 2 + 0) / 19)
    assert genus["macro_top_1"].value == pytest.approx((2 / 3 + 2 / 4 + 9 / 11 + 0) / 4)
    # Family: Fagus taken for petraea and petraea for Fagus or robur are right; wrong are 1 Acer, 1 Fagus, 1 robur and Zea.
    assert family["top_1"].value == pytest.approx(15 / 19)
    assert list(report.figures) == ["species", "genus", "family"]


def test_macro_f1_counts_species_outside_the_model(report: Report, world: World) -> None:
    observations = Predictions.read(world.predictions / "observations.parquet")
    names = Taxonomy.read(world.predictions / "taxonomy.parquet").names
    said = [names[index] for index in observations.index("species")[:, 0]]
    assert report.figures["species"]["macro_f1"].value == pytest.approx(
        f1_score(observations.strings("true_species"), said, average="macro", zero_division=0)
    )


def test_ma_mrr_is_that_of_a_slow_loop(report: Report, world: World) -> None:
    observations = Predictions.read(world.predictions / "observations.parquet")
    names = Taxonomy.read(world.predictions / "taxonomy.parquet").names
    found: dict[str | None, list[float]] = {}
    for true, answers in zip(observations.strings("true_species"), observations.index("species"), strict=True):
        ranked = [names[index] for index in answers]
        found.setdefault(true, []).append(1 / (1 + ranked.index(true)) if true in ranked else 0)
    assert report.figures["species"]["ma_mrr"].value == pytest.approx(np.mean([np.mean(values) for values in found.values()]))


def test_every_figure_lies_in_its_interval(report: Report) -> None:
    for figures in report.figures.values():
        for interval in figures.values():
            assert 0 <= interval.low <= interval.value <= interval.high <= 1
            assert (interval.level, interval.resamples) == (0.95, 200)
    assert report.figures["species"]["top_1"].low < report.figures["species"]["top_1"].high


def test_counts(report: Report) -> None:
    assert report.part == "test"
    assert report.counts == {
        "observations": 19, "unnamed_observations": 0, "images": 30, "species": 6, "species_outside_model": 2,
        "observations_outside_model": 3, "classes": 4, "genus_taxa": 3, "family_taxa": 2,
        "genus_observations": 19, "family_observations": 19,
    }  # fmt: skip


def test_single_photographs_weigh_every_picture(report: Report, world: World) -> None:
    images = Predictions.read(world.predictions / "images.parquet")
    assert report.single_photographs is not None
    assert report.single_photographs["top_1"] == pytest.approx(np.mean(images.true_rank("species") == 1))


def test_groups_by_training_photographs(report: Report) -> None:
    groups = [(each.label, each.species, each.observations, each.top_1.value) for each in report.by_train_images]
    assert groups == [
        ("0", 2, 3, 0.0),  # ilex, Zea
        ("1–4", 2, 7, pytest.approx((2 / 3 + 2 / 4) / 2)),  # petraea 1, Acer 2
        ("5–9", 1, 4, 0.5),  # Fagus 6
        ("10–19", 1, 5, 0.6),  # robur 12
    ]


def test_calibration_and_the_unsure_threshold(report: Report) -> None:
    found = report.calibration
    # First answers: 0.9 and 0.6 four times each, 0.55 four times, 0.8 three times, 0.9 once more; outside 0.7, 0.4, 0.7.
    assert found.mean_confidence == pytest.approx((5 * 0.9 + 4 * 0.6 + 4 * 0.55 + 3 * 0.8 + 0.7 + 0.4 + 0.7) / 19)
    assert found.top_1 == pytest.approx(9 / 19)
    assert sum(point.observations for point in found.points) == 19
    assert found.unsure is not None
    assert (found.unsure.threshold, found.unsure.target_precision) == (0.6, 0.9)
    assert found.unsure.answered.value == pytest.approx(14 / 19)  # 0.6 itself is answered; four times 0.55 and 0.4 aren't
    assert found.unsure.precision is not None
    assert found.unsure.precision.value == pytest.approx(9 / 14)
    assert (found.unsure.outside_model, found.unsure.outside_model_unsure) == (3, 1)
    # Of the true class: 0.9 five times, 0.6 and 0.4 four times each, 0.2/3 three times.
    logs = 5 * np.log(0.9) + 4 * np.log(0.6) + 4 * np.log(0.4) + 3 * np.log(0.2 / 3)
    assert found.negative_log_likelihood == pytest.approx(-logs / 16, rel=1e-6)


def test_species_by_species(report: Report) -> None:
    rows = {row.scientific_name: row for row in report.species}
    assert list(rows) == ["Acer campestre", "Fagus sylvatica", "Quercus ilex", "Quercus petraea", "Quercus robur", "Zea mays"]
    robur, ilex = rows["Quercus robur"], rows["Quercus ilex"]
    assert (robur.train_images, robur.observations, robur.top_1, robur.top_5, robur.in_model) == (12, 5, 0.6, 1.0, True)
    assert robur.taken_for == "Acer campestre"  # once, and once for Quercus petraea: the tie goes to the name
    assert (ilex.train_images, ilex.in_model, ilex.genus, ilex.family, ilex.taken_for) == (
        0,
        False,
        "Quercus",
        "Fagaceae",
        "Quercus robur",
    )


def test_confused_pairs(report: Report) -> None:
    pairs = [(pair.true_name, pair.predicted_name, pair.count, pair.observations, pair.kinship) for pair in report.confused]
    assert pairs[:2] == [
        ("Quercus ilex", "Quercus robur", 2, 2, "same genus"),
        ("Zea mays", "Quercus robur", 1, 1, "other family"),
    ]
    assert ("Quercus petraea", "Fagus sylvatica", 1, 4, "same family") in pairs
    assert len(pairs) == 9
    surest = report.confused[0]  # the first observation of ilex, with 0.7
    assert surest.image_id == "Quercus_ilex_00"
    assert surest.predicted_image_id == "Quercus_robur_00"


def test_examples_are_each_of_another_species(report: Report) -> None:
    for examples in (report.examples.right, report.examples.wrong, report.examples.near):
        assert len({example.true_name for example in examples}) == len(examples) > 0
    assert {round(example.answers[0].probability, 6) for example in report.examples.right} == {0.9}
    assert [round(example.answers[0].probability, 6) for example in report.examples.wrong] == [0.8, 0.8, 0.8, 0.7, 0.7, 0.55]
    assert {example.true_rank for example in report.examples.near} == {2}
    zea = next(example for example in report.examples.wrong if example.true_name == "Zea mays")
    assert (zea.true_rank, zea.true_probability, zea.answers[0].scientific_name) == (0, 0.0, "Quercus robur")


def test_the_pictures_shown_are_in_the_report(report: Report, world: World) -> None:
    shown = {pair.image_id for pair in report.confused} | {pair.predicted_image_id for pair in report.confused}
    shown |= {
        example.image_id for kind in (report.examples.right, report.examples.wrong, report.examples.near) for example in kind
    }
    assert set(report.thumbnails) == shown
    assert {picture_size(data) for data in report.thumbnails.values()} == {(40, 48)}  # as drawn: smaller than the largest


def test_curves_count_epochs_from_one_and_leave_gaps(report: Report) -> None:
    assert [epoch.epoch for epoch in report.curves] == [1, 2, 3]
    assert [epoch.validation_loss for epoch in report.curves] == [2.25, None, 1.5]
    assert report.curves[2].validation_macro_top_1 == 0.5


def test_what_it_rests_on_is_told_without_private_paths(report: Report, world: World) -> None:
    assert report.notes == (RUN_NOTE,)
    assert report.title == "small"
    assert [facts.kind for facts in report.sources] == ["run", "dataset", "predictions"]
    assert report.sources[0].seed == 7
    assert report.sources[0].recipe["backbone"] == {"weights": "weights.safetensors"}
    text = json.dumps(report.as_json(), allow_nan=False)
    assert str(world.dataset.parent) not in text
    assert report.inputs == {"predictions": artifacts.hash_of(world.predictions)}


def test_the_same_input_gives_the_same_report(report: Report, world: World) -> None:
    again = evaluate(world.predictions, resamples=200)
    assert replace(again, created=report.created) == report
    assert evaluate(world.predictions, resamples=200, seed=1).figures != report.figures


def test_without_dataset_and_run_the_figures_stay(report: Report, world: World, tmp_path: Path) -> None:
    lonely = _copy_of_predictions(world, tmp_path, {"part": "test", "dataset": "/nowhere/d", "model": "/nowhere/m"})
    alone = evaluate(lonely, resamples=200)
    assert alone.figures == report.figures
    assert (alone.by_train_images, alone.curves, alone.thumbnails, alone.calibration.unsure) == ((), (), {}, None)
    assert {row.train_images for row in alone.species} == {None}
    assert [("--dataset" in note, "--run" in note) for note in alone.notes] == [(True, False), (False, True)]
    given = evaluate(lonely, dataset_folder=world.dataset, run_folder=world.run, resamples=200)
    assert (given.by_train_images, given.curves, given.notes) == (report.by_train_images, report.curves, report.notes)


def test_a_dataset_that_was_built_anew_is_noted(world: World, tmp_path: Path) -> None:
    changed = _copy_of_predictions(world, tmp_path, {"part": "test", "dataset": str(world.dataset)}, inputs={"dataset": "0" * 64})
    assert any("built anew" in note for note in evaluate(changed, resamples=2).notes)


def test_other_class_lists_are_refused_with_both_names(world: World, tmp_path: Path) -> None:
    other = Taxonomy.from_rows(
        [
            {"scientificName": name, "genus": name.split()[0], "family": "F"}
            for name in ("Fagus sylvatica", "Quercus robur", "Zea mays")
        ]
    )
    make_predictions(world, tmp_path / "other", taxonomy=other)
    with pytest.raises(TaxonomyMismatch) as caught:
        evaluate(tmp_path / "other")
    assert str(tmp_path / "other") in str(caught.value)
    assert str(world.dataset) in str(caught.value)
    # One file of the artifact replaced by another model's.
    Predictions.read(world.predictions / "images.parquet").write(tmp_path / "other" / "images.parquet")
    with pytest.raises(TaxonomyMismatch, match=r"images\.parquet"):
        evaluate(tmp_path / "other")


def test_what_cant_be_measured_is_said(world: World, tmp_path: Path) -> None:
    unnamed = _copy_of_predictions(world, tmp_path, {"part": "test"})
    taxonomy = Taxonomy.read(unnamed / "taxonomy.parquet")
    Predictions.from_probabilities(np.full((2, 4), 0.25), taxonomy, observation_ids=["a", "b"], truth=Truth.unknown(2)).write(
        unnamed / "observations.parquet"
    )
    with pytest.raises(BadInput, match="none of its 2 observations has a known species"):
        evaluate(unnamed)
    with pytest.raises(MissingArtifact, match="no such folder"):
        evaluate(tmp_path / "nowhere")
    with pytest.raises(MissingArtifact, match="no such folder"):
        evaluate(world.predictions, dataset_folder=tmp_path / "nowhere")
    with pytest.raises(MissingArtifact, match="no model there"):
        evaluate(world.predictions, run_folder=tmp_path)


def test_a_name_known_only_to_its_genus_counts_there(world: World, tmp_path: Path) -> None:
    folder = _copy_of_predictions(world, tmp_path, {"part": "test"})
    taxonomy = Taxonomy.read(folder / "taxonomy.parquet")
    scores_OC = np.eye(4)[[0, 3]]
    made = Predictions.from_probabilities(
        scores_OC, taxonomy, observation_ids=["a", "b"], truth=Truth(["Acer campestre", None], ["Acer", "Quercus"], [None, None])
    )
    for level in ("observations", "images"):
        made.write(folder / f"{level}.parquet")
    report = evaluate(folder, resamples=20)
    assert report.figures["species"]["top_1"].value == report.figures["genus"]["top_1"].value == 1
    assert report.figures["genus"]["macro_f1"].value == 1
    assert "family" not in report.figures
    assert (report.counts["observations"], report.counts["unnamed_observations"]) == (1, 1)


def test_a_flora_without_families_is_measured_at_the_ranks_it_has(world: World, tmp_path: Path) -> None:
    rows = Taxonomy.read(world.predictions / "taxonomy.parquet").table.to_pylist()
    taxonomy = Taxonomy.from_rows({**row, "family": None} for row in rows)
    make_predictions(world, tmp_path / "predictions", taxonomy=taxonomy)
    report = evaluate(tmp_path / "predictions", resamples=20)
    assert list(report.figures) == ["species", "genus"]
    assert report.counts["family_taxa"] == 0


def test_thumbnails_are_small_upright_and_tell_nothing_else() -> None:
    data = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90°
    exif[0x010F] = "Some camera"
    Image.new("RGB", (1000, 500), "green").save(data, "JPEG", exif=exif)
    with Image.open(io.BytesIO(thumbnail(data.getvalue()))) as small:
        assert small.size == (THUMBNAIL_EDGE // 2, THUMBNAIL_EDGE)
        assert not small.getexif()


def _copy_of_predictions(world: World, tmp_path: Path, recipe: dict[str, str], *, inputs: dict[str, str] | None = None) -> Path:
    out = tmp_path / "copy"
    plan = artifacts.Plan("predictions", inputs or {}, recipe)
    artifacts.start(out, plan)
    for file in world.predictions.glob("*.parquet"):
        (out / file.name).write_bytes(file.read_bytes())
    fingerprint = Dataset.open(world.dataset).taxonomy.fingerprint
    artifacts.finish(out, plan, counts={}, taxonomy=fingerprint)
    return out
