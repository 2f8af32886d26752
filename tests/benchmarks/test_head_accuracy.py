"""The benchmark of heads' accuracy: small runs of it, and the arithmetic of its intervals, rules and tables."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from loaded import BENCHMARKS, load

from taxakey.models.hierarchies import Hierarchy
from taxakey.models.trees import TreeHead

sys.path.insert(0, str(BENCHMARKS))
accuracy, accuracy_plots = load("head_accuracy"), load("head_accuracy_plot")
plots = load("heads_plot")
ROWS = "^flat, all features, class means$|^tree 128, family-genus-species$|^tree 128, taxonomic, (paper's|released) rule$"


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("accuracy")
    accuracy.run("simulated:60", [0], ROWS, folder / "heads.jsonl", folder / "species")
    return folder


def test_a_run_has_a_line_a_row_and_goes_on_where_it_stopped(ran: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [json.loads(line) for line in (ran / "heads.jsonl").read_text().splitlines()]
    assert len(lines) == 4
    by_row = {line["row"]: line for line in lines}
    means, tree = by_row["flat, all features, class means"], by_row["tree 128, family-genus-species"]
    assert means["ma_mrr_30"] > 0.8  # of 60 species, the easiest of worlds
    assert tree["ma_mrr_30"] > 0.3
    assert means["bytes"] == 4 * means["parameters"] == 4 * 60 * 257
    capsys.readouterr()
    accuracy.run("simulated:60", [0], ROWS, ran / "heads.jsonl", None)
    assert capsys.readouterr().out == ""  # nothing was left to do
    assert "| flat, all features, class means | 0." in accuracy_plots.table(ran / "heads.jsonl")
    accuracy_plots.plot(ran / "heads.jsonl", ran / "heads.png")
    assert (ran / "heads.png").stat().st_size > 10_000


def test_the_mean_over_species_is_the_line_s_figure(ran: Path) -> None:
    lines = [json.loads(line) for line in (ran / "heads.jsonl").read_text().splitlines()]
    for line in lines:
        values_C = np.load(accuracy.species_file(ran / "species", line["row"], 0))
        assert np.nanmean(values_C.astype(float)) == pytest.approx(line["ma_mrr_30"], abs=1e-6)


def test_compared_rows_differ_by_their_mean_and_the_interval_has_the_width_it_should(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    base_C, noise_C = rng.random(400), rng.normal(size=400)
    for seed in (0, 1):
        np.save(accuracy.species_file(tmp_path, "one", seed), (base_C + 0.1 + 0.2 * noise_C).astype(np.float32))
        np.save(accuracy.species_file(tmp_path, "two", seed), base_C.astype(np.float32))
    text = accuracy_plots.compare(["one", "two"], tmp_path)
    mean = 0.1 + 0.2 * noise_C.mean()
    half = 1.96 * 0.2 * noise_C.std() / np.sqrt(2 * 400)
    assert text.startswith(f"one less two: {mean:+.4f} [")
    low, high = (float(part) for part in text[text.index("[") + 1 : text.index("]")].split(","))
    assert (low, high) == (pytest.approx(mean - half, rel=0.1), pytest.approx(mean + half, rel=0.1))
    with pytest.raises(SystemExit, match="no seed of both rows"):
        accuracy_plots.compare(["one", "three"], tmp_path)


def test_the_wrong_rules_are_right_in_the_best_node_and_wrong_outside() -> None:
    torch.manual_seed(0)
    head = TreeHead(6, Hierarchy.even(np.arange(12), 4), width=None)
    features_BD = torch.randn(9, 6) * 20
    joint_BC, best_B = head(features_BD), head._top_logits(features_BD).argmax(1)
    inside_BC = head.path_CL[:, 0] == best_B[:, None]
    for rule in ("paper", "released"):
        scores_BC = accuracy._by_rule(head, features_BD, rule)
        torch.testing.assert_close(scores_BC[inside_BC], joint_BC[inside_BC])
        assert not torch.isclose(scores_BC[~inside_BC], joint_BC[~inside_BC]).all()


RESULTS = BENCHMARKS / "results"
PAGE = BENCHMARKS.parent / "docs" / "heads.md"


def test_the_accuracies_in_the_docs_are_those_of_the_recorded_runs() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for world in ("simulated-8000", "simulated-80000"):
        assert accuracy_plots.table(RESULTS / f"heads-{world}.jsonl") in page, world
    photographs = accuracy_plots.side_by_side([RESULTS / "heads-flowers102.jsonl", RESULTS / "heads-leaf99.jsonl"])
    assert photographs in page
    assert photographs.count("(3: ") == 2 * (len(photographs.splitlines()) - 2)


def test_rows_that_one_file_lacks_do_not_stand_side_by_side(ran: Path, tmp_path: Path) -> None:
    lines = (ran / "heads.jsonl").read_text().splitlines()
    (tmp_path / "heads-fewer.jsonl").write_text("\n".join(lines[:-1]))
    both = accuracy_plots.side_by_side([ran / "heads.jsonl", tmp_path / "heads-fewer.jsonl"]).splitlines()
    assert len(both) == 2 + len(lines) - 1
    assert json.loads(lines[-1])["row"] not in "\n".join(both)
    one = both[2].split(" | ")
    assert one[1:4] == [*one[4:6], one[6].removesuffix(" |")]


def test_the_step_times_in_the_docs_are_those_of_the_recorded_run(tmp_path: Path) -> None:
    result = json.loads((RESULTS / "heads-cpu-2026-11-21.json").read_text())
    page = PAGE.read_text(encoding="utf-8")
    rows = plots.table(result["cells"], "step", 64).splitlines()[2:]
    assert len(rows) == len(plots.TITLES)
    for row in rows:
        assert row.split("|", 2)[2] in page, row
    plots.plot(result, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 20_000
