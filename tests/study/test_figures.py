"""Figures of a study against sums worked out by hand, on predictions that are made up and never on a model's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from taxakey import artifacts
from taxakey.dataset.reader import Dataset
from taxakey.errors import BadInput
from taxakey.predictions import Predictions, Truth
from taxakey.study.figures import rows_of
from taxakey.study.plan import Study, Variant
from taxakey.study.tables import differences_table, write_tables
from taxakey.taxonomy import Taxonomy


def predicted(dataset: Dataset, folder: Path, answers_O: np.ndarray, true_O: np.ndarray, first: int = 0) -> Path:
    taxonomy = dataset.taxonomy
    probabilities_OC = np.full((len(answers_O), len(taxonomy)), 0.1 / (len(taxonomy) - 1))
    probabilities_OC[np.arange(len(answers_O)), answers_O] = 0.9
    names, genus, family = ([taxonomy.column(rank)[c] for c in true_O] for rank in ("scientificName", "genus", "family"))
    folder.mkdir(parents=True)
    Predictions.from_probabilities(
        probabilities_OC,
        taxonomy,
        observation_ids=[f"o{first + o}" for o in range(len(true_O))],
        truth=Truth(names, genus, family),
    ).write(folder / "observations.parquet")
    artifacts.write_parquet(folder / "taxonomy.parquet", taxonomy.table)
    plan = artifacts.Plan("run")
    artifacts.start(folder.parent / "run", plan)
    artifacts.finish(folder.parent / "run", plan, counts={"trained_parameters": 12})
    return folder


@pytest.fixture(scope="module")
def world(sheets_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[int, Path]], np.ndarray]:
    folder, dataset = tmp_path_factory.mktemp("study"), Dataset.open(sheets_dataset)
    true_O = np.arange(40) % len(dataset.taxonomy)
    wrong_O = (true_O + 1) % len(dataset.taxonomy)
    good, fair = np.where(np.arange(40) < 30, true_O, wrong_O), np.where(np.arange(40) < 20, true_O, wrong_O)
    best = np.where(np.arange(40) < 36, true_O, wrong_O)

    def two_seeds(name: str, *answers: np.ndarray) -> dict[int, Path]:
        return {seed: predicted(dataset, folder / f"{name}-{seed}" / "p", of, true_O) for seed, of in enumerate(answers)}

    found = {"plain": two_seeds("plain", fair, good), "better": two_seeds("better", best, best)}
    return sheets_dataset, found, true_O


def test_means_over_seeds_and_paired_differences(world: tuple[Path, dict[str, dict[int, Path]], np.ndarray]) -> None:
    dataset, found, _ = world
    plain, better = rows_of(found, dataset, "plain", resamples=200)
    assert [plain.by_seed[seed]["top_1"] for seed in (0, 1)] == [0.5, 0.75]
    assert plain.mean["top_1"] == 0.625
    assert better.mean["top_1"] == 0.9
    assert not plain.difference
    gained = better.difference["top_1"]
    assert gained.value == pytest.approx(0.275)
    # By hand: each observation gains 0, 0.5 or 1 by the mean over seeds; the interval is that of a mean.
    gain_O = np.where(np.arange(40) < 20, 0, np.where(np.arange(40) < 30, 0.5, np.where(np.arange(40) < 36, 1, 0)))
    spread = gain_O.std() / np.sqrt(40)
    assert gained.low == pytest.approx(0.275 - 1.96 * spread, abs=0.04)
    assert gained.high == pytest.approx(0.275 + 1.96 * spread, abs=0.04)
    assert better.counts == {"trained_parameters": 12}


def test_thirds_hold_each_species_once(world: tuple[Path, dict[str, dict[int, Path]], np.ndarray]) -> None:
    dataset, found, true_O = world
    opened = Dataset.open(dataset)
    order = np.argsort(opened.train_counts(), kind="stable")
    answers_O = np.where(np.isin(true_O, order[: int(np.ceil(len(order) / 3))]), true_O, (true_O + 1) % len(order))
    folder = predicted(opened, found["plain"][0].parent.parent / "thirds" / "p", answers_O, true_O)
    (row,) = rows_of({"rare only": {0: folder}}, dataset, "rare only", resamples=20)
    assert (row.mean["rare"], row.mean["middle"], row.mean["common"]) == (1, 0, 0)
    assert row.above_90 == np.ceil(len(order) / 3)


def test_other_observations_are_refused(world: tuple[Path, dict[str, dict[int, Path]], np.ndarray]) -> None:
    dataset, found, true_O = world
    other = predicted(Dataset.open(dataset), found["plain"][0].parent.parent / "other" / "p", true_O, true_O, first=7)
    with pytest.raises(BadInput, match="other observations than the study's first predictions"):
        rows_of(found | {"other": {0: other}}, dataset, "plain", resamples=20)


def test_tables_say_what_is_beyond_chance(world: tuple[Path, dict[str, dict[int, Path]], np.ndarray], tmp_path: Path) -> None:
    dataset, found, _ = world
    rows = rows_of(found, dataset, "plain", resamples=200)
    study = Study("trial", "A trial", {}, {"plain": Variant(), "better": Variant()}, seeds=(0, 1))
    page = write_tables(study, rows, tmp_path, "taxakey study trial.yaml DATASET OUT").read_text(encoding="utf-8")
    assert "| plain | 62.5 (50.0 … 75.0) |" in page
    assert "| better | **+27.5 [" in differences_table(rows, "plain")
    assert "taxakey study trial.yaml DATASET OUT" in page
    assert (tmp_path / "study.png").read_bytes()[:4] == b"\x89PNG"
    assert "plain,0,top_1,0.500000" in (tmp_path / "study.csv").read_text(encoding="utf-8")


def test_costs_of_poison_and_species_outside_the_model(sheets_dataset: Path, tmp_path: Path) -> None:
    """Four classes, the first poisonous; it is missed once, a harmless one is accused once, and one species is unknown."""
    opened = Dataset.open(sheets_dataset)
    table = opened.taxonomy.table
    marks = pa.array([number == 0 for number in range(len(table))])
    taxonomy = Taxonomy(table.set_column(table.column_names.index("poisonous"), "poisonous", marks))
    true, answers = [0, 0, 1, 2, None], [0, 1, 0, 2, 3]
    sure = [0.9, 0.9, 0.9, 0.9, 0.5]
    probabilities_OC = np.array([np.full(len(taxonomy), (1 - p) / (len(taxonomy) - 1)) for p in sure])
    probabilities_OC[np.arange(5), answers] = sure
    names = ["Nova species" if c is None else taxonomy.names[c] for c in true]
    folder = tmp_path / "p"
    folder.mkdir()
    Predictions.from_probabilities(
        probabilities_OC, taxonomy, observation_ids=list("abcde"), truth=Truth(names, [None] * 5, [None] * 5)
    ).write(folder / "observations.parquet")
    artifacts.write_parquet(folder / "taxonomy.parquet", taxonomy.table)
    artifacts.start(tmp_path / "run", artifacts.Plan("run"))
    artifacts.finish(tmp_path / "run", artifacts.Plan("run"), counts={})
    (row,) = rows_of({"only": {0: folder}}, sheets_dataset, "only", resamples=20)
    assert row.mean["unknown_auroc"] == 1  # it is less sure of the unknown one than of all others
    assert row.mean["track_1"] == pytest.approx(3 / 5)
    assert row.mean["track_2"] == pytest.approx((100 + 1) / 5)
    assert row.mean["track_3"] == pytest.approx((100 + 1 + 3) / 5)
    # By brute force: a tenth of the mass or more on the poisonous one makes it the cheapest answer everywhere.
    cost_CC = 1.0 - np.eye(len(taxonomy))
    cost_CC[0, 1:] += 100
    cost_CC[1:, 0] += 1
    cheapest = (probabilities_OC @ cost_CC).argmin(1)
    index = np.array([-1 if c is None else c for c in true])
    paid = [(t != a) + 100 * (t == 0 and a != 0) + (t != 0 and a == 0) for t, a in zip(index, cheapest, strict=True)]
    assert row.mean["track_3_decided"] == pytest.approx(np.mean(paid))
    page = write_tables(Study("t", "T", {}, {"only": Variant()}), [row], tmp_path / "out", "c")
    assert "| only | 0.600 | 20.200 | 20.800 |" in page.read_text(encoding="utf-8")
