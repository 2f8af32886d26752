"""What a report asks after the fact, on a world in which it is planted: by slow loops, scikit-learn and values by hand."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from evaluated_world import RICH_OBSERVATIONS, RICH_SPECIES, RichWorld, make_rich_world, make_world, rich_species
from sklearn.metrics import accuracy_score, confusion_matrix

from taxakey import artifacts
from taxakey.errors import BadInput
from taxakey.evaluation import Report, evaluate
from taxakey.evaluation.sources import ANSWERS
from taxakey.metrics import costs
from taxakey.predictions import Predictions
from taxakey.taxonomy import Taxonomy

OBSERVATIONS = RICH_SPECIES * RICH_OBSERVATIONS


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> RichWorld:
    return make_rich_world(tmp_path_factory.mktemp("rich"))


@pytest.fixture(scope="module")
def report(world: RichWorld) -> Report:
    return evaluate(world.predictions, validation_folder=world.validation, resamples=300)


@pytest.fixture(scope="module")
def said(world: RichWorld) -> tuple[np.ndarray, np.ndarray]:
    """True and first answers [O] as class numbers."""
    table = Predictions.read(world.predictions / "observations.parquet")
    return table.true_index("species"), table.index("species")[:, 0]


def test_thirds_bins_and_the_gap(report: Report, said: tuple[np.ndarray, np.ndarray]) -> None:
    found = report.analyses.rarity
    assert found is not None
    training = np.array([count for *_, count in rich_species()])
    top_1 = np.array([(said[1][said[0] == number] == number).mean() for number in range(RICH_SPECIES)])
    order = np.sort(training)
    for name, low in (("tail", order[0]), ("middle", order[11]), ("head", order[22])):
        third = next(each for each in found.thirds if each.name == name)
        assert third.low <= low
        assert third.top_1.value == pytest.approx(top_1[(training >= third.low) & (training <= third.high)].mean())
    assert sum(third.species for third in found.thirds) == RICH_SPECIES
    ten = next(each for each in found.tens if each.low == 10)
    inside = top_1[(training >= 10) & (training < 20)]
    assert (ten.label, ten.species, ten.observations) == ("10–19", len(inside), RICH_OBSERVATIONS * len(inside))
    assert (ten.mean, ten.standard_error) == pytest.approx((inside.mean(), inside.std(ddof=1) / np.sqrt(len(inside))))
    assert sum(each.species for each in found.quantiles) == RICH_SPECIES
    assert found.above_90 == (top_1 > 0.9).sum()
    assert sum(found.images_by_percent) > 0
    difference = report.analyses.differences["head_minus_tail"]
    head, tail = (next(each for each in found.thirds if each.name == name).top_1.value for name in ("head", "tail"))
    assert difference.value == pytest.approx(head - tail)
    assert difference.supported


def test_the_gap_is_there_where_both_bins_are(world: RichWorld) -> None:
    from taxakey.evaluation.labels import label
    from taxakey.evaluation.rarity import gap_statistics

    table = Predictions.read(world.predictions / "observations.parquet")
    species = label(table, Taxonomy.read(world.predictions / "taxonomy.parquet"), "species")
    counts = np.full(RICH_SPECIES, 30)
    counts[[0, 1]], counts[[2, 3, 4]] = [80, 89], [5, 9, 9]
    upper, lower = gap_statistics(species, counts)  # type: ignore[misc]
    ones, right = np.ones((1, len(table))), table.true_rank("species") == 1
    means = [right[table.true_index("species") == number].mean() for number in range(5)]
    assert (upper(ones)[0], lower(ones)[0]) == pytest.approx((np.mean(means[:2]), np.mean(means[2:])))
    counts[[0, 1]] = 90
    assert gap_statistics(species, counts) is None


def test_the_planted_institution_is_found_and_the_months_arent(report: Report, said: tuple[np.ndarray, np.ndarray]) -> None:
    institution, organ, month = report.analyses.groupings
    assert [each.by for each in report.analyses.groupings] == ["institution", "organ", "month"]
    for group in institution.groups:
        assert group.corrected_p_value is not None
        assert group.corrected_p_value < 0.05
        assert group.from_rest is not None
        assert (group.from_rest.value > 0) == (group.name == "A")
        assert (group.rows, group.species) == (OBSERVATIONS // 2, RICH_SPECIES)
        assert group.from_rest.low < 0.15 < group.from_rest.high or group.name == "B"
    assert [group.name for group in month.groups] == ["May", "June", "July"]
    assert all((group.corrected_p_value or 0) > 0.05 for group in month.groups)
    assert {group.name: group.rows for group in organ.groups} == {"leaf": OBSERVATIONS, "flower": OBSERVATIONS // 3}
    weighted = sum(group.rows * group.top_1.value for group in institution.groups) / OBSERVATIONS
    assert weighted == pytest.approx(accuracy_score(*said))


def test_a_small_group_named_rightly_throughout_isnt_called_different() -> None:
    """The bootstrap sees no chance in it; Fisher's exact test does."""
    from taxakey.evaluation.groups import _exact

    group, right = np.repeat([0, 1], [12, 88]), np.concatenate([np.ones(12), np.ones(77), np.zeros(11)])
    p_values = _exact(group, right, np.array([0, 1]))
    assert p_values[0] == p_values[1] > 0.3


def test_costs_are_those_of_the_metrics(report: Report, said: tuple[np.ndarray, np.ndarray], world: RichWorld) -> None:
    found, poisonous = report.analyses.costs, Taxonomy.read(world.predictions / "taxonomy.parquet").poisonous()
    assert found is not None
    assert (found.poisonous_species, found.poisonous_observations) == (RICH_SPECIES // 4, OBSERVATIONS // 4)
    for name in ("poison_accuracy", "poison_confusion", "edible_confusion", "track2", "track3"):
        assert found.figures[name].value == pytest.approx(getattr(costs, name)(*said, poisonous))
    for name in ("track1", "track4"):
        assert found.figures[name].value == pytest.approx(getattr(costs, name)(*said))


def test_species_outside_the_model_cost_ten(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    taxonomy = Taxonomy.read(world.predictions / "taxonomy.parquet")
    marked = taxonomy.table.set_column(
        taxonomy.table.column_names.index("poisonous"), "poisonous", pa.array([True, False, False, False])
    )
    artifacts.write_parquet(world.predictions / "taxonomy.parquet", marked)
    found = evaluate(world.predictions, resamples=20).analyses.costs
    assert found is not None
    # Three observations outside the model at 10, seven other errors of nineteen; once Acer is missed, once named wrongly.
    assert found.figures["track4"].value == pytest.approx((3 * 10 + 7) / 19)
    assert found.figures["track1"].value == pytest.approx(10 / 19)
    table = Predictions.read(world.predictions / "observations.parquet")
    missed = ((table.true_index("species") == 0) & (table.index("species")[:, 0] != 0)).sum()
    accused = ((table.true_index("species") != 0) & (table.index("species")[:, 0] == 0)).sum()
    assert found.figures["track2"].value == pytest.approx((100 * missed + accused) / 19)


def test_errors_lie_where_they_were_planted(report: Report, said: tuple[np.ndarray, np.ndarray]) -> None:
    found, wrong = report.analyses.distance, said[0] != said[1]
    assert found is not None
    near = int((wrong & (said[1] == (said[0] ^ 1))).sum())
    assert [(step.rank, step.errors) for step in found.steps] == [
        ("genus", near), ("family", 0), ("order", int(wrong.sum()) - near), ("", 0),
    ]  # fmt: skip
    assert found.mean.value == pytest.approx((near + 3 * (wrong.sum() - near)) / wrong.sum())


def test_confused_genera_as_in_a_matrix(report: Report, world: RichWorld) -> None:
    table, names = Predictions.read(world.predictions / "observations.parquet"), [f"Genus{number}" for number in range(8)]
    matrix = confusion_matrix(table.true_index("genus"), table.index("genus")[:, 0], labels=range(8))
    found = report.analyses.confused_genera
    assert len(found) == min(12, int(((matrix > 0) & ~np.eye(8, dtype=bool)).sum()))
    for pair in found:
        true, predicted = names.index(pair.true_name), names.index(pair.predicted_name)
        assert (pair.count, pair.observations) == (matrix[true, predicted], matrix[true].sum())
        assert pair.same_family == (true // 2 == predicted // 2)
    assert [pair.count for pair in found] == sorted((pair.count for pair in found), reverse=True)


def test_families_are_ranked_with_their_errors(report: Report, said: tuple[np.ndarray, np.ndarray]) -> None:
    found = report.analyses.families
    assert found is not None
    assert (found.families, found.ranked, len(found.best), len(found.worst)) == (4, 4, 1, 1)
    top_1 = np.array([(said[1][said[0] == number] == number).mean() for number in range(RICH_SPECIES)]).reshape(4, 8)
    best = int(top_1.mean(1).argmax())
    assert (found.best[0].name, found.best[0].species) == (f"Family{best}aceae", 8)
    assert found.best[0].top_1 == pytest.approx(top_1[best].mean())
    assert found.best[0].standard_error == pytest.approx(top_1[best].std(ddof=1) / np.sqrt(8))
    assert found.worst[0].top_1 == pytest.approx(top_1.mean(1).min())
    assert report.analyses.variance["family"].groups == 4
    assert report.analyses.variance["genus"].degrees_within == RICH_SPECIES - 8


def test_answer_sets_hold_what_they_were_fitted_for(report: Report, world: RichWorld) -> None:
    sets = {each.k: each for each in report.analyses.answer_sets}
    assert list(sets) == [1, 3, 5, 10]
    table = Predictions.read(world.predictions / "observations.parquet")
    assert sets[1].threshold == pytest.approx((0.5 + 0.2) / 2)  # on validation: 0.5 once a row, then 0.2
    assert sets[1].set_size == 1
    assert sets[1].average_k.value == pytest.approx((table.true_probability("species") >= 0.35).mean())
    with pytest.raises(BadInput, match="same part"):
        evaluate(world.predictions, validation_folder=world.predictions)


def test_answer_sets_of_another_model_are_refused(world: RichWorld, tmp_path: Path) -> None:
    shutil.copytree(world.validation, tmp_path / "other")
    manifest = artifacts.read_json(tmp_path / "other" / "manifest.json")
    manifest["recipe"]["model"] = "/nowhere/another"
    artifacts.write_json(tmp_path / "other" / "manifest.json", manifest)
    with pytest.raises(BadInput, match="another model"):
        evaluate(world.predictions, validation_folder=tmp_path / "other")


def test_the_order_of_rows_changes_nothing(report: Report, world: RichWorld, tmp_path: Path) -> None:
    shuffled, generator = tmp_path / "predictions", np.random.default_rng(1)
    shutil.copytree(world.predictions, shuffled)
    for level in ("observations", "images"):
        found = Predictions.read(shuffled / f"{level}.parquet")
        order = pa.array(generator.permutation(len(found)))
        replace(found, table=found.table.take(order)).write(shuffled / f"{level}.parquet")
    again = evaluate(shuffled, validation_folder=world.validation, resamples=300).analyses
    assert again.rarity is not None
    first = report.analyses.rarity
    assert first is not None
    assert replace(again.rarity, thirds=()) == replace(first, thirds=())
    for mine, theirs in zip(report.analyses.groupings, again.groupings, strict=True):
        assert [(group.name, group.rows, group.species) for group in mine.groups] == [
            (group.name, group.rows, group.species) for group in theirs.groups
        ]
        assert [group.top_1.value for group in mine.groups] == pytest.approx([group.top_1.value for group in theirs.groups])
    for name in ("variance", "families", "confused_genera"):
        assert getattr(again, name) == getattr(report.analyses, name)
    for name, difference in report.analyses.differences.items():
        assert again.differences[name].value == pytest.approx(difference.value)


def test_reading_only_the_first_answers_changes_no_figure(report: Report, world: RichWorld) -> None:
    file = world.predictions / "observations.parquet"
    whole, first = Predictions.read(file), Predictions.read(file, answers=ANSWERS)
    assert first.index("species").shape == (OBSERVATIONS, ANSWERS)
    for rank in ("species", "genus", "family"):
        assert (first.index(rank) == whole.index(rank)[:, :ANSWERS]).all()
        assert (first.probability(rank) == whole.probability(rank)[:, :ANSWERS]).all()
        assert (first.true_rank(rank) == whole.true_rank(rank)).all()
    assert first.table.schema.names == whole.table.schema.names
    assert Predictions.read(file, answers=1000).index("species").shape == whole.index("species").shape


def test_a_world_that_tells_less_is_asked_less(world: RichWorld, tmp_path: Path) -> None:
    bare = tmp_path / "predictions"
    shutil.copytree(world.predictions, bare)
    manifest = artifacts.read_json(bare / "manifest.json")
    manifest["recipe"]["dataset"] = "/nowhere"
    artifacts.write_json(bare / "manifest.json", manifest)
    found = evaluate(bare, resamples=20).analyses
    assert (found.rarity, found.groupings, found.answer_sets) == (None, (), ())
    assert found.families is not None
    assert found.distance is not None
