"""The report in words: nothing is claimed that its interval doesn't support. The model card. The command at the page's foot."""

from __future__ import annotations

import dataclasses
import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from evaluated_world import RichWorld, World, make_world

from taxakey import artifacts
from taxakey.errors import BadInput, MissingArtifact
from taxakey.evaluation import Report, evaluate
from taxakey.evaluation.analyses import Group, Grouping
from taxakey.metrics.differences import Difference
from taxakey.metrics.intervals import Interval
from taxakey.metrics.saturation import Saturation
from taxakey.metrics.variance import VarianceAnalysis
from taxakey.report import summary as words
from taxakey.report.card import update_card, with_section
from taxakey.report.summary import summary


@pytest.fixture(scope="module")
def report(rich_world: RichWorld) -> Report:
    return evaluate(rich_world.predictions, resamples=100)


def difference(value: float, low: float, high: float) -> Difference:
    return Difference(value, low, high, 0.5 if low <= 0 <= high else 0.002, 0.95, 100)


def with_differences(report: Report, **found: Difference) -> str:
    analyses = dataclasses.replace(report.analyses, differences={**report.analyses.differences, **found})
    return "\n".join(summary(dataclasses.replace(report, analyses=analyses)))


def test_only_what_an_interval_supports_is_claimed(report: Report) -> None:
    sure, unsure = difference(0.1, 0.05, 0.15), difference(0.1, -0.05, 0.25)
    assert "10.0 points (5.0 to 15.0) more often than the species" in with_differences(report, genus_minus_species=sure)
    text = with_differences(report, genus_minus_species=unsure, head_minus_tail=unsure, confidence_minus_top_1=unsure)
    assert "whether more often than the species, chance doesn't let us tell" in text
    assert "can't be told from chance" in text
    assert "more for the former" not in text
    assert "sure of itself" not in text
    assert "neither more nor less than they keep" in text
    assert "too sure of itself" in with_differences(report, confidence_minus_top_1=sure)
    less = difference(-0.1, -0.15, -0.05)
    assert "less sure of itself" in with_differences(report, confidence_minus_top_1=less)
    assert "10.0 points (5.0 to 15.0) less for the former" in with_differences(report, head_minus_tail=less)


def test_two_bins_of_one_species_each_say_nothing_of_rarity(report: Report) -> None:
    assert report.analyses.rarity is not None
    tens = report.analyses.rarity.tens
    gap = difference(0.4, 0.3, 0.5)
    for species, told in ((1, False), (3, True)):
        bins = tuple(dataclasses.replace(tens[0], low=low, high=low + 9, species=species) for low in (5, 80))
        rarity = dataclasses.replace(report.analyses.rarity, tens=bins)
        analyses = dataclasses.replace(report.analyses, rarity=rarity, differences={
            **report.analyses.differences, "gap_80_90_minus_5_10": gap,
        })  # fmt: skip
        assert ("From 5–9 to 80–89" in "\n".join(summary(dataclasses.replace(report, analyses=analyses)))) == told


@pytest.mark.parametrize(
    ("outcome", "high", "said"),
    [("reached", 30.0, "up to about 20 (between 10 and 30); beyond, no further gain shows"),
     ("not reached", None, "isn't reached for sure (the species have up to 90)"), ("no rise", None, "no rise of top-1")],
)  # fmt: skip
def test_the_saturation_in_words(report: Report, outcome: str, high: float | None, said: str) -> None:
    assert report.analyses.rarity is not None
    point = Saturation(outcome, 20.0, 10.0, high, 0.1, 0.05, 0.15, 0.9, 90, 40, 0.95, 100)  # type: ignore[arg-type]
    assert said in words.saturation(dataclasses.replace(report.analyses.rarity, saturation=point))
    assert "Too few species" in words.saturation(dataclasses.replace(report.analyses.rarity, saturation=None))


def test_families_in_words() -> None:
    sure = VarianceAnalysis(5, 50, 9.1, 0.00001, 0.5, 0.4, 4, 45)
    assert "about 40.0\u00a0% of the spread between species (ω²; F(4, 45) = 9.10, p below 0.001)" in words.families(
        sure, "family", "families"
    )
    chance = dataclasses.replace(sure, f=1.2, p_value=0.3)
    assert "can't be told from chance (F(4, 45) = 1.20, p = 0.3; 50 species of 5 families)" in words.families(
        chance, "family", "families"
    )


def test_groups_need_both_the_interval_and_the_corrected_p() -> None:
    figure, sure = Interval(0.9, 0.8, 1.0, 0.95, 100), difference(0.1, 0.05, 0.15)

    def said(p_value: float, found: Difference) -> str:
        return words.groups(Grouping("institution", (Group("K", 20, 5, figure, found, p_value),) * 2, 0, 0))

    assert "K +10.0 points (+5.0 to +15.0)" in said(0.01, sure)
    assert "No institution can be told" in said(0.2, sure)
    assert "No institution can be told" in said(0.01, difference(0.1, -0.01, 0.2))
    assert "only one month" in words.groups(Grouping("month", (Group("May", 20, 5, figure, None, None),), 0, 0))


def test_few_observations_are_warned_of(report: Report) -> None:
    few = dataclasses.replace(report, counts={**report.counts, "observations": 12})
    assert summary(few)[0].startswith("Only 12 observations could be judged")


# ---- the command at the foot ----


def test_the_command_makes_the_report_again(rich_world: RichWorld, tmp_path: Path) -> None:
    made = evaluate(rich_world.predictions, validation_folder=rich_world.validation, resamples=20, seed=3)
    side_by_side = tmp_path / "elsewhere"
    shutil.copytree(rich_world.dataset.parent, side_by_side)
    assert str(tmp_path) not in made.command
    code = "from taxakey.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *shlex.split(made.command)[1:]], cwd=side_by_side, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    again = json.loads((side_by_side / "REPORT" / "report.json").read_text(encoding="utf-8"))
    expected = json.loads(json.dumps(made.as_json()))
    assert again | {"created": ""} == expected | {"created": ""}


# ---- the model card ----


@pytest.fixture
def carded(tmp_path: Path) -> World:
    """A world whose run has weights and a card, and predictions that were made by them."""
    world = make_world(tmp_path / "world")
    model = world.run / "model"
    (model / "model.safetensors").write_bytes(b"weights")
    (model / "README.md").write_text("# small\n\nNames 4 species.\n", encoding="utf-8")
    manifest = artifacts.read_json(world.predictions / "manifest.json")
    manifest["inputs"]["model"] = artifacts.hash_of(model / "model.safetensors")
    artifacts.write_json(world.predictions / "manifest.json", manifest)
    return world


def test_the_card_gets_the_figures_once(carded: World) -> None:
    found = evaluate(carded.predictions, resamples=20)
    card = update_card(found, carded.predictions)
    first = card.read_text(encoding="utf-8")
    assert first.startswith("# small\n\nNames 4 species.\n")
    assert "## Measured on the test part" in first
    assert "| Species | 47.4\u00a0% (" in first
    assert found.command in first
    update_card(found, carded.predictions, carded.run)
    assert card.read_text(encoding="utf-8") == first
    update_card(evaluate(carded.predictions, resamples=40), carded.predictions)
    later = card.read_text(encoding="utf-8")
    assert later.count("## Measured on") == 1
    assert "--resamples 40" in later
    assert "--resamples 20" not in later
    assert not list(card.parent.glob(".*partial"))


def test_parts_stand_beside_each_other_and_what_people_wrote_stays() -> None:
    card = with_section(with_section("# A\n", "test", "one"), "validation", "two") + "\nBy hand.\n"
    again = with_section(card, "test", r"three \1 \n")
    assert again.count("begin -->") == 2
    assert r"three \1 \n" in again
    assert "two" in again
    assert "one" not in again.split("test, begin")[1].split("test, end")[0]
    assert again.endswith("\nBy hand.\n")


def test_figures_of_another_model_are_refused(carded: World, tmp_path: Path) -> None:
    found = evaluate(carded.predictions, resamples=20)
    before = (carded.run / "model" / "README.md").read_text(encoding="utf-8")
    (carded.run / "model" / "model.safetensors").write_bytes(b"trained again")
    with pytest.raises(BadInput, match="not the model that made"):
        update_card(found, carded.predictions)
    assert (carded.run / "model" / "README.md").read_text(encoding="utf-8") == before
    with pytest.raises(MissingArtifact, match="no model card"):
        update_card(found, carded.predictions, tmp_path)


def test_the_command_writes_the_card_when_asked(carded: World, tmp_path: Path) -> None:
    code = "from taxakey.cli.main import main; main()"
    arguments = ["evaluate", str(carded.predictions), str(tmp_path / "report"), "--resamples", "20"]
    card = carded.run / "model" / "README.md"
    for more, told in (([], False), (["--card"], True)):
        done = subprocess.run([sys.executable, "-c", code, *arguments, *more], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert ("Measured on" in card.read_text(encoding="utf-8")) == told == (f"card: {card}" in done.stdout)
