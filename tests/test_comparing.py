"""Runs side by side: costs as recorded, figures and paired differences against counting by hand."""

from __future__ import annotations

import csv
import html
import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest
from typer import Typer
from typer.testing import CliRunner

from taxakey.artifacts import Plan, finish, start, write_json, write_parquet
from taxakey.cli.compare import compare as compare_command
from taxakey.errors import BadInput, MissingArtifact
from taxakey.evaluation import comparing
from taxakey.evaluation.comparing import compare
from taxakey.evaluation.meanings import METRICS
from taxakey.metrics.accuracy import class_mean
from taxakey.predictions import Predictions, Truth
from taxakey.report.comparison import to_csv, to_markdown, write_comparison
from taxakey.report.comparison_page import comparison_page
from taxakey.taxonomy import Taxonomy

SPECIES = ["Acer a", "Acer b", "Betula a", "Betula b"]
TRUE = [0] * 60 + [1] * 30 + [2] * 8 + [3] * 2
COSTS = {"trained_parameters": 10, "parameters": 1000, "batch": 64, "seconds_per_epoch": 1.25, "pictures_per_second": 310.5,
         "peak_host_bytes": 3 * 2**29, "peak_device_bytes": None, "energy_joules": 7200.0, "device": "2 cores"}  # fmt: skip


def make_run(
    folder: Path, wrong: set[int], *, costs: Mapping[str, object] | None = None, shuffle: int = 0, **others: list
) -> Path:
    """A finished run whose predictions are right but for some observations, in an order of its own."""
    true = list(others.get("true", TRUE))
    plan = Plan("run", {}, {"loop": {"batch_size": 32}})
    start(folder, plan)
    finish(folder, plan, counts={"parameters": 7, "trained_parameters": 5})
    if costs is not None:
        write_json(folder / "costs.json", costs)
    taxonomy = Taxonomy.from_rows({"scientificName": name, "genus": name.split()[0], "family": "F"} for name in SPECIES)
    ids = list(others.get("ids", [f"o{number:03}" for number in range(len(true))]))
    order = np.random.default_rng(shuffle).permutation(len(true))
    answer = [(species + 1) % 4 if number in wrong else species for number, species in enumerate(true)]
    probabilities = np.full((len(true), 4), 0.1)
    probabilities[np.arange(len(true)), answer] = 0.7
    names = [SPECIES[species] for species in true]
    truth = Truth(*([values[row] for row in order] for values in (names, [n.split()[0] for n in names], ["F"] * len(names))))
    out = folder / "predictions"
    plan = Plan("predictions", {}, {"part": "test"})
    start(out, plan)
    predictions = Predictions.from_probabilities(
        probabilities[order], taxonomy, observation_ids=[ids[row] for row in order], truth=truth
    )
    for level in ("observations", "images"):
        predictions.write(out / f"{level}.parquet")
    write_parquet(out / "taxonomy.parquet", taxonomy.table)
    finish(out, plan, counts={"observations": len(true)}, taxonomy=taxonomy.fingerprint)
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    """The second is right where the first is wrong on the rare species, and wrong on a few common ones."""
    first = make_run(tmp_path / "base", {*range(0, 10), *range(90, 100)}, costs=COSTS, shuffle=1)
    return [first, make_run(tmp_path / "better", {*range(0, 12), 97}, shuffle=2)]


def test_figures_and_differences_are_those_of_counting(runs: list[Path]) -> None:
    found = compare(runs, resamples=400)
    assert found.observations == 100
    first, second = found.runs
    assert first.figures["top_1"].value == pytest.approx(0.80)
    assert second.figures["top_1"].value == pytest.approx(0.87)
    assert second.differences["top_1"].value == pytest.approx(0.07)
    by_class = [1 - 12 / 60, 1.0, 1 - 1 / 8, 1.0]
    assert second.figures["macro_top_1"].value == pytest.approx(np.mean(by_class))
    base = class_mean(
        np.array([number not in {*range(10), *range(90, 100)} for number in range(100)], dtype=float), np.array(TRUE)
    )
    assert second.differences["macro_top_1"].value == pytest.approx(np.mean(by_class) - base)
    assert not first.differences


def test_differences_are_paired(runs: list[Path]) -> None:
    """Against resampling the differences by hand; the sum of two separate intervals would be wider."""
    second = compare(runs, resamples=2000).runs[1]
    gain = np.zeros(100)
    gain[[10, 11]] = -1
    gain[[*range(90, 97), 98, 99]] = 1
    drawn = np.random.default_rng(5).choice(gain, (4000, 100)).mean(1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert (second.differences["top_1"].low, second.differences["top_1"].high) == pytest.approx((low, high), abs=0.011)
    single = second.figures["top_1"]
    assert second.differences["top_1"].high - second.differences["top_1"].low < 1.2 * (single.high - single.low)


def test_a_run_against_itself_differs_by_nothing(tmp_path: Path) -> None:
    one, other = (make_run(tmp_path / name, {1, 50, 95}, shuffle=number) for number, name in enumerate(("one", "other")))
    for difference in compare([one, other], resamples=50).runs[1].differences.values():
        assert (difference.value, difference.low, difference.high) == (0, 0, 0)


def test_costs_are_those_recorded_and_blank_where_they_are_not(runs: list[Path]) -> None:
    found = compare(runs, resamples=20)
    assert found.runs[0].costs.batch == 64
    assert found.runs[1].costs.batch == 32  # of its recipe
    assert (found.runs[1].costs.parameters, found.runs[1].costs.seconds_per_epoch) == (7, None)
    lines = [line for line in to_markdown(found).splitlines() if line.startswith("| ba")]
    assert lines[0] == "| base | 10 | 1,000 | 64 | 1.25 | 310.5 | 1.50\u00a0GiB |  | 2\u00a0Wh | 2 cores |"
    assert "| better | 5 | 7 | 32 |  |  |  |  |  |  |" in to_markdown(found)


def test_files_hold_the_same(runs: list[Path], tmp_path: Path) -> None:
    found = compare(runs, resamples=200)
    text = write_comparison(found, tmp_path / "out").read_text(encoding="utf-8")
    rows = list(csv.DictReader((tmp_path / "out" / "comparison.csv").read_text().splitlines()))
    stored = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert [row["run"] for row in rows] == [run["name"] for run in stored["runs"]] == ["base", "better"]
    assert float(rows[1]["top_1_difference"]) == pytest.approx(stored["runs"][1]["differences"]["top_1"]["value"]) == 0.07
    assert rows[0]["top_1_difference"] == ""
    difference = found.runs[1].differences["macro_top_1"]
    assert difference.low > 0
    assert f"**{difference.value * 100:+.1f} [{difference.low * 100:+.1f}, {difference.high * 100:+.1f}]**" in text
    assert "Micro" in text
    assert to_csv(found).startswith("run,trained_parameters,")


def test_species_that_won_and_lost(runs: list[Path]) -> None:
    """The second run repeats the first one's errors on the common species, adds two, and saves all rare ones but one."""
    found = compare(runs, resamples=20).runs
    assert found[0].changes is None
    changes = found[1].changes
    assert changes is not None
    rows = {row.name: row for row in changes.species}
    assert [(row.name, row.before, row.after, row.gained, row.lost) for row in changes.species] == [
        ("Betula a", 0, 7, 7, 0), ("Betula b", 0, 2, 2, 0), ("Acer b", 30, 30, 0, 0), ("Acer a", 50, 48, 0, 2),
    ]  # fmt: skip
    assert (changes.gained, changes.lost_observations, changes.won, changes.lost) == (9, 2, 2, 1)
    assert changes.p_value == pytest.approx(binomtest(2, 11).pvalue)
    assert rows["Betula a"].p_value == pytest.approx(2 / 2**7)
    assert rows["Betula a"].p_holm == pytest.approx(4 * 2 / 2**7)
    assert not rows["Betula a"].sure
    assert changes.needed == 8
    assert rows["Betula a"].train_images is None


def test_one_species_can_be_sure(tmp_path: Path) -> None:
    first, second = make_run(tmp_path / "first", set(range(60, 80))), make_run(tmp_path / "second", {0})
    found = compare([first, second], resamples=20)
    changes = found.runs[1].changes
    assert changes is not None
    assert [row.name for row in changes.species if row.sure] == ["Acer b"]
    assert "1 of them for sure by itself" in to_markdown(found)
    assert "| ***Acer b*** | " in to_markdown(found)


class Counted:
    """Stands for a dataset: the four species and another, with so many training images."""

    taxonomy = Taxonomy.from_rows(
        {"scientificName": name, "genus": name.split()[0], "family": "F"} for name in [*SPECIES, "Zea mays"]
    )

    @staticmethod
    def train_counts() -> np.ndarray:
        return np.array([85, 40, 7, 9, 400])


def test_rare_species_against_common_ones(runs: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(comparing.Dataset, "open", lambda _: Counted)
    found = compare(runs, dataset_folder="anywhere", resamples=300)
    assert not found.notes
    base, better = found.runs
    assert {name: figure.value for name, figure in base.tails.items()} == pytest.approx({
        "images_5-9": 0, "images_40-49": 1, "images_80-89": 50 / 60, "third_tail": 0, "third_middle": 1,
        "third_head": 50 / 60, "gap_80-89_5-9": 50 / 60, "gap_head_tail": 50 / 60,
    })  # fmt: skip
    rare = np.mean([7 / 8, 1])
    assert better.tails["images_5-9"].value == pytest.approx(rare)
    assert better.tails["gap_80-89_5-9"].value == pytest.approx(48 / 60 - rare)
    gap = better.tail_differences["gap_80-89_5-9"]
    assert gap.value == pytest.approx(48 / 60 - rare - 50 / 60)
    assert gap.high < 0
    assert better.changes is not None
    assert {row.name: row.train_images for row in better.changes.species} == dict(zip(SPECIES, (85, 40, 7, 9), strict=True))
    text = to_markdown(found)
    assert "Gap from 80–89 to 5–9 images" in text
    assert "not measured" not in text
    write_comparison(found, tmp_path / "out")
    rows = list(csv.DictReader((tmp_path / "out" / "comparison.csv").read_text().splitlines()))
    assert float(rows[1]["gap_80-89_5-9_difference"]) == pytest.approx(gap.value)
    species = list(csv.DictReader((tmp_path / "out" / "species.csv").read_text().splitlines()))
    assert [species[0][name] for name in ("run", "species", "train_images", "gained")] == ["better", "Betula a", "7", "7"]
    at_genus = compare(runs, rank="genus", dataset_folder="anywhere", resamples=20).runs[1]
    assert at_genus.changes is not None
    assert {row.name: row.train_images for row in at_genus.changes.species} == {"Acer": 125, "Betula": 16}


def test_the_page_holds_all_and_escapes_names(tmp_path: Path) -> None:
    found = compare([make_run(tmp_path / "base", {1, 95}), make_run(tmp_path / "<b>better", {3})], resamples=20)
    write_comparison(found, tmp_path / "out")
    page = (tmp_path / "out" / "comparison.html").read_text(encoding="utf-8")
    assert "<b>better" not in page
    assert "&lt;b&gt;better" in page
    assert page.count("<svg") == 1, "changes; without a dataset nothing by training images"
    assert all(f"<i>{name}</i>" in page for name in SPECIES)
    assert "The dataset wasn&#39;t at hand" in page
    assert "http" not in re.sub(r"http://www.w3.org/\S+", "", page), "fetches something"


def test_every_figure_of_the_page_leads_to_its_definition(
    runs: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(comparing.Dataset, "open", lambda _: Counted)
    write_comparison(compare(runs, dataset_folder=tmp_path / "dataset", resamples=50), tmp_path / "out")
    page = (tmp_path / "out" / "comparison.html").read_text(encoding="utf-8")
    asked, listed = set(re.findall(r'href="#def-([^"]+)"', page)), re.findall(r'id="def-([^"]+)"', page)
    assert asked == set(listed)
    assert len(listed) == len(set(listed))
    assert {*METRICS, "difference", "interval", "third", "gap_80-89_5-9", "gap_head_tail", "images", "mcnemar", "sign", "holm",
            "gained", "lost", "before", "now", "train_images", "observations"} == asked  # fmt: skip
    heads = [re.findall(r"<th[^>]*>(.*?)</th>", head) for head in re.findall(r"<thead>(.*?)</thead>", page, re.DOTALL)]
    plain = {text for head in heads for text in head if text and "def-" not in text}
    assert plain == {"Run", "base", "better", "Species", "SHA-256 of its manifest"}, "a figure without a definition"
    assert METRICS["ma_mrr"].meaning in re.findall(r'title="([^"]+)"', page)[5]


def test_negative_numbers_have_a_minus(runs: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(comparing.Dataset, "open", lambda _: Counted)
    found = compare(runs, dataset_folder=tmp_path / "dataset", resamples=50)
    gap = found.runs[1].tails["gap_80-89_5-9"]
    assert gap.value < 0
    for text in (to_markdown(found), comparison_page(found)):
        assert f"−{-100 * gap.value:.1f}" in text
        assert not re.search(r"[ \[(>]-\d", re.sub(r"<(svg|style).*?</\1>", "", text, flags=re.DOTALL))


def test_the_printed_command_makes_the_comparison_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the folder that it speaks of, without an option that isn't said."""
    folders = [make_run(tmp_path / "variants" / name / "run", {1, rare}) for name, rare in (("focal", 95), ("see saw", 97))]
    found = compare(folders, rank="genus", resamples=30, seed=7)
    write_comparison(found, tmp_path / "out")
    command = re.search(r'<pre class="command">(.*?)</pre>', (tmp_path / "out" / "comparison.html").read_text(), re.DOTALL)
    assert command is not None
    printed = html.unescape(re.sub(r"</?span>", "", command[1]))
    assert f"    {printed}\n" in (tmp_path / "out" / "comparison.md").read_text()
    words = shlex.split(printed)
    assert words[:4] == ["taxakey", "compare", "focal/run", "see saw/run"]
    monkeypatch.chdir(tmp_path / "variants")
    app = Typer()
    app.command()(compare_command)
    done = CliRunner().invoke(app, words[2:])
    assert done.exit_code == 0, done.output
    again, first = (json.loads((folder / "comparison.json").read_text()) for folder in (Path("COMPARISON"), tmp_path / "out"))
    assert again == first
    assert again["definitions"].keys() >= METRICS.keys()


def test_a_command_names_the_dataset_that_was_asked(runs: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(comparing.Dataset, "open", lambda _: Counted)
    command = compare(runs, dataset_folder=tmp_path / "data" / "set", resamples=20).command
    assert command == "taxakey compare base better --out COMPARISON --dataset data/set --rank species --resamples 20 --seed 0"


def test_runs_in_folders_of_one_name_are_told_apart(tmp_path: Path) -> None:
    """As a study lays them out: variants/NAME/seed-0/run."""
    folders = [make_run(tmp_path / "variants" / name / "seed-0" / "run", {1}) for name in ("focal", "seesaw")]
    assert [run.name for run in compare(folders, resamples=20).runs] == ["focal", "seesaw"]
    folders.append(make_run(tmp_path / "variants" / "focal" / "seed-1" / "run", {1}))
    assert [run.name for run in compare(folders, resamples=20).runs] == ["focal/seed-0", "seesaw/seed-0", "focal/seed-1"]


def test_different_test_parts_are_refused(runs: list[Path], tmp_path: Path) -> None:
    shorter = make_run(tmp_path / "shorter", set(), true=TRUE[:90])
    with pytest.raises(
        BadInput, match=r"base and shorter .*different test parts \(10 observations are only in the first, 0 only"
    ):
        compare([runs[0], shorter])
    renamed = make_run(tmp_path / "renamed", set(), true=[1, *TRUE[1:]])
    with pytest.raises(BadInput, match="1 observations have another species"):
        compare([runs[0], renamed])


def test_a_run_without_predictions_has_costs_and_a_note(runs: list[Path], tmp_path: Path) -> None:
    plan = Plan("run", {}, {})
    start(tmp_path / "bare", plan)
    finish(tmp_path / "bare", plan, counts={"parameters": 3})
    found = compare([*runs, tmp_path / "bare"], resamples=20)
    assert found.runs[2].costs.parameters == 3
    assert not found.runs[2].figures
    assert f"taxakey predict {tmp_path / 'bare'} DATASET" in found.notes[0]
    assert to_markdown(compare([tmp_path / "bare"])).count("##") == 1, "costs alone, no table of nothing"


def test_predictions_elsewhere_find_their_run(runs: list[Path], tmp_path: Path) -> None:
    manifest = json.loads((runs[0] / "predictions" / "manifest.json").read_text())
    manifest["recipe"]["model"] = str(runs[0] / "model")
    (runs[0] / "predictions").rename(tmp_path / "elsewhere")
    write_json(tmp_path / "elsewhere" / "manifest.json", manifest)
    found = compare([tmp_path / "elsewhere", runs[1]], resamples=20)
    assert found.runs[0].name == "base"
    assert found.runs[0].costs.energy_joules == 7200


def test_what_is_no_run_and_what_stands_twice_are_refused(runs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(MissingArtifact, match="neither a finished run nor predictions"):
        compare([tmp_path])
    with pytest.raises(BadInput, match="stands twice"):
        compare([runs[0], runs[0]])


def test_the_command(runs: list[Path], tmp_path: Path) -> None:
    app = Typer()
    app.command()(compare_command)
    done = CliRunner().invoke(app, [*map(str, runs), "--out", str(tmp_path / "out"), "--resamples", "20", "--rank", "genus"])
    assert done.exit_code == 0, done.output
    assert "What they score at genus" in done.output
    assert (tmp_path / "out" / "comparison.md").is_file()
    assert "unknown rank 'order'" in str(CliRunner().invoke(app, [str(runs[0]), "--rank", "order"]).exception)
