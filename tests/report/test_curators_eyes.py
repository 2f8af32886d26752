"""What a curator asks of the page: nothing empty, nothing that chance alone explains, a definition behind every figure."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from evaluated_world import RichWorld, World

from taxakey.evaluation import Report, evaluate
from taxakey.evaluation.afterwards import analyse
from taxakey.evaluation.analyses import Grouping
from taxakey.evaluation.content import SpeciesRow, TrainImagesBin
from taxakey.evaluation.figures import Settings
from taxakey.evaluation.sources import open_sources
from taxakey.metrics.calibration_error import calibration_error_by_chance, expected_calibration_error, reliability
from taxakey.metrics.differences import Difference
from taxakey.metrics.intervals import Interval
from taxakey.report import plots, wording
from taxakey.report.html import to_html
from taxakey.report.markdown import to_markdown
from taxakey.report.summary import groups, sentences, summary


@pytest.fixture(scope="module")
def rich(rich_world: RichWorld) -> Report:
    return evaluate(rich_world.predictions, validation_folder=rich_world.validation, resamples=50)


def with_analyses(report: Report, **changed: object) -> Report:
    return dataclasses.replace(report, analyses=dataclasses.replace(report.analyses, **changed))  # type: ignore[arg-type]


# ---- every figure leads to its definition ----


def test_each_sentence_of_the_summary_leads_to_definitions(rich: Report) -> None:
    told = list(sentences(rich))
    assert [sentence.text for sentence in told] == summary(rich)
    page = to_html(rich)
    short = page[page.index('<section id="short">') : page.index('<section id="figures">')]
    for sentence, item in zip(told, re.findall(r"<li>(.*?)</li>", short, re.DOTALL), strict=True):
        assert sentence.figures
        assert re.findall(r'href="#def-(\w+)"', item) == list(sentence.figures)
        assert all(f'<div id="def-{name}">' in page for name in sentence.figures)
    assert {"genus_minus_species", "difference", "confidence_minus_top_1"} <= {
        name for sentence in told for name in sentence.figures
    }


def test_probabilities_of_examples_and_the_loss_are_defined(report: Report) -> None:
    page = to_html(report)
    for name in ("probability", "loss", "share", "error_by_chance", "together_minus_single"):
        assert f'href="#def-{name}"' in page
        assert f'<div id="def-{name}">' in page


def test_an_index_of_a_formula_stands_below_the_line(report: Report) -> None:
    page = to_html(report)
    assert "O<sub>c</sub>" in page
    assert not re.search(r'class="formula">[^<]*_', page)


# ---- claims ----


def test_the_calibration_error_by_chance_is_that_of_drawing() -> None:
    generator = np.random.default_rng(0)
    promised_O = np.sort(generator.uniform(0.3, 1, 200))
    points = reliability(promised_O, np.zeros(200))
    drawn = [expected_calibration_error(promised_O, generator.random(200) < promised_O) for _ in range(400)]
    assert calibration_error_by_chance(points) == pytest.approx(np.mean(drawn), rel=0.04)
    assert calibration_error_by_chance(reliability([1.0, 1.0], [1, 1])) == 0


def test_the_page_says_what_chance_brings_to_the_calibration_error(report: Report) -> None:
    chance = calibration_error_by_chance(report.calibration.points)
    assert report.calibration.error_by_chance == chance > 0
    assert f"chance alone would bring about {chance * 100:.1f}." in wording.calibration(report)


def test_a_single_family_tells_nothing(report: Report) -> None:
    found = Difference(0.2, 0.1, 0.3, 0.01, 0.95, 50)
    one = with_analyses(report, differences={**report.analyses.differences, "family_minus_genus": found})
    assert "The family was right" in "\n".join(summary(one))
    one = dataclasses.replace(one, counts={**one.counts, "family_taxa": 1})
    assert "The family was right" not in "\n".join(summary(one))
    assert "The model knows one family only" in "\n".join(summary(one))


def test_naming_the_commonest_genus_each_time_is_told_where_it_would_be_right_often(report: Report) -> None:
    def said(common: int) -> str:
        rows = tuple(
            SpeciesRow(f"{genus} alba", "", genus, "Fagaceae", True, 3, number, 0.5, 0.5, None)
            for genus, number in (("Fagus", common), ("Quercus", 3), ("Acer", 2))
        )
        return "\n".join(summary(dataclasses.replace(report, species=rows)))

    assert "Naming the commonest genus each time would be right for 50.0\u00a0%." in said(5)
    assert "Naming the commonest genus" not in said(4)


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(0.05, 0.15, "named rightly 10.0 points (5.0 to 15.0) more often from all of them together"),
     (-0.05, 0.25, "chance doesn't let us tell (+10.0 points (−5.0 to +25.0))")],
)  # fmt: skip
def test_several_photographs_are_better_only_where_the_interval_says_so(
    report: Report, low: float, high: float, said: str
) -> None:
    found = Difference(0.1, low, high, 0.2, 0.95, 50)
    assert said in (wording.single_photographs(with_analyses(report, differences={"together_minus_single": found})) or "")


def test_together_minus_single_is_of_observations_with_several_photographs(world: World) -> None:
    sources = open_sources(world.predictions)
    table = sources.images.table
    rank_I = np.array(sources.images.true_rank("species"))
    ids = np.array(table["observation_id"].to_pylist())
    together = {row["observation_id"]: row["true_species_rank"] == 1 for row in sources.observations.table.to_pylist()}
    several = [each for each in together if (ids == each).sum() > 1]
    rank_I[[int(np.flatnonzero(ids == each)[0]) for each in several]] = 2  # the first photograph of each is named wrongly
    place = table.schema.get_field_index("true_species_rank")
    images = dataclasses.replace(
        sources.images, table=table.set_column(place, table.schema.field(place), pa.array(rank_I, pa.int32()))
    )
    found = analyse(dataclasses.replace(sources, images=images), Settings(50, 0.95, 0)).differences["together_minus_single"]
    assert 0 < len(several) < len(together)
    single = [np.mean(rank_I[ids == each] == 1) for each in several]
    assert found.value == pytest.approx(np.mean([together[each] for each in several]) - np.mean(single))
    assert found.value > 0


@pytest.mark.parametrize(("part", "said"), [("train", "was trained on"), ("validation", "was chosen and calibrated on")])
def test_figures_on_photographs_that_the_model_saw_are_noted(world: World, tmp_path: Path, part: str, said: str) -> None:
    assert not any("these photographs" in note for note in open_sources(world.predictions).notes)
    seen = tmp_path / "seen"
    shutil.copytree(world.predictions, seen)
    manifest = json.loads((seen / "manifest.json").read_text(encoding="utf-8"))
    manifest["recipe"]["part"] = part
    (seen / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    assert any(f"The model {said} these photographs" in note for note in open_sources(seen).notes)


def test_what_isnt_known_to_be_shared_isnt_called_far(report: Report) -> None:
    assert report.analyses.distance is not None
    assert "further off" not in to_html(report) + to_markdown(report)
    steps = report.analyses.distance.steps
    assert steps[-1].errors
    assert "; the others share no family that is known." in "\n".join(summary(report))


def test_names_known_for_some_observations_only_are_counted(report: Report) -> None:
    assert "observations is known" not in wording.subtitle(report)
    fewer = dataclasses.replace(report, counts={**report.counts, "family_observations": 17})
    assert "The family of 17 observations is known; figures at family are theirs." in wording.subtitle(fewer)


# ---- nothing empty, nothing absent without a word ----


def test_groups_too_small_to_show_are_spoken_of(report: Report) -> None:
    none = Grouping("month", (), 7, 0)
    assert groups(none) == "Every month has fewer than 10 observations: too few to compare (7 months)."
    page, text = (make(with_analyses(report, groupings=(none,))) for make in (to_html, to_markdown))
    assert groups(none) in page
    assert groups(none) in text
    assert "<tbody>\n</tbody>" not in page


def test_a_single_third_is_no_comparison(report: Report) -> None:
    assert report.analyses.rarity is not None
    assert "<h3>Head, middle, tail</h3>" in to_html(report)
    one = with_analyses(report, rarity=dataclasses.replace(report.analyses.rarity, thirds=report.analyses.rarity.thirds[:1]))
    assert "<h3>Head, middle, tail</h3>" not in to_html(one)
    assert "### Head, middle, tail" not in to_markdown(one)


def test_a_run_without_validation_has_no_empty_plot(report: Report) -> None:
    assert len(plots.learning_curves(report)) == 2
    bare = tuple(dataclasses.replace(each, validation_top_1=None, validation_macro_top_1=None) for each in report.curves)
    without = dataclasses.replace(report, curves=bare)
    assert len(plots.learning_curves(without)) == 1
    assert "Share of validation photographs" not in to_html(without)


def test_uncalibrated_probabilities_are_noted(world: World, tmp_path: Path) -> None:
    assert not any("calibrated" in note for note in evaluate(world.predictions, resamples=5).notes)
    shutil.copytree(world.run, tmp_path / "run")
    (tmp_path / "run" / "model" / "calibration.json").unlink()
    notes = evaluate(world.predictions, run_folder=tmp_path / "run", resamples=5).notes
    assert any("aren't calibrated" in note for note in notes)


# ---- plots ----


def test_a_group_stands_amidst_its_own_species() -> None:
    figure = Interval(0.5, 0.4, 0.6, 0.95, 50)
    group = TrainImagesBin(5, 9, 3, 6, figure)
    assert plots.middle_of(group, [5, 5, 5]) == pytest.approx(5)
    assert plots.middle_of(group, [1, 4, 9, 30]) == pytest.approx(9)
    assert plots.middle_of(TrainImagesBin(100, None, 3, 6, figure), [20, 200, 800]) == pytest.approx(400)
    assert plots.middle_of(TrainImagesBin(0, 0, 3, 6, figure), [0, 8]) == pytest.approx(0.5)


def test_few_different_counts_are_the_ticks_themselves(report: Report) -> None:
    assert plots.count_ticks([2, 3, 3, 2]) == [2, 3]
    assert plots.count_ticks([0, 7]) == [0.5, 7]
    assert plots.count_ticks([1, 2, 3, 40]) == [1, 2, 5, 10, 20, 50]
    rows = tuple(dataclasses.replace(row, train_images=2 + number % 2) for number, row in enumerate(report.species))
    page = to_html(dataclasses.replace(report, species=rows))
    points = json.loads(re.search(r'id="species-points">(.*?)</script>', page, re.DOTALL).group(1))  # type: ignore[union-attr]
    assert points["ticks"] == [2, 3]


# ---- the foot ----


def test_the_foot_names_the_folder_of_validation(rich: Report, rich_world: RichWorld) -> None:
    facts = rich.sources[-1]
    assert (facts.kind, facts.name, facts.digest) == ("validation", rich_world.validation.name, rich.inputs["validation"])
    foot = to_html(rich).split('<section id="made">')[1]
    assert f'<th scope="row">Validation</th><td>{facts.name}</td><td><code>{facts.digest}</code>' in foot
    assert "its predictions" not in foot


def test_an_option_of_the_command_is_never_broken_in_two(rich: Report) -> None:
    command = re.search(r'<pre class="command">(.*?)</pre>', to_html(rich), re.DOTALL)
    assert command
    words = re.findall(r"<span>(.*?)</span>", command.group(1))
    assert " ".join(words) == rich.command
    assert "--seed" in words
