"""Likeness to training pictures: against distances worked out one by one, scikit-learn's shrinkage, and scores from nowhere."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.distance import mahalanobis
from sklearn.covariance import ledoit_wolf

from taxakey.calibration import likeness as module
from taxakey.calibration.decisions import Decisions, Rejection
from taxakey.calibration.likeness import Likeness, learn_likeness, shrunk_covariance, taxon_means
from taxakey.calibration.validation import learn_from_validation
from taxakey.errors import BadInput
from taxakey.predictions import Truth
from taxakey.taxonomy import Taxonomy

GENERA = ("Aa", "Aa", "Bb", "Bb", "Cc", "Cc")
TAXONOMY = Taxonomy.from_rows(
    [{"scientificName": f"{genus} {letter}", "genus": genus} for genus, letter in zip(GENERA, "pqpqpq", strict=True)]
)


def drawn(images: int, seed: int, classes: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Raw scores that are correlated within a class, and their classes."""
    generator = np.random.default_rng(seed)
    class_I = generator.integers(0, classes, images)
    mixing = np.random.default_rng(99).normal(size=(classes, classes))
    return 5 * np.eye(classes)[class_I] + generator.normal(size=(images, classes)) @ mixing, class_I


def learnt(scores_IC: np.ndarray, class_I: np.ndarray, taxonomy: Taxonomy = TAXONOMY) -> Likeness:
    found = learn_likeness(lambda rows: scores_IC[rows], class_I, taxonomy)
    assert found is not None
    return found


def test_it_is_the_mahalanobis_distance_to_the_nearest_mean() -> None:
    scores_IC, class_I = drawn(400, 0)
    likeness = learnt(scores_IC, class_I)
    means = [scores_IC[class_I == label].mean(axis=0) for label in range(6)]
    residual = np.concatenate([scores_IC[class_I == label] - means[label] for label in range(6)])
    inverse = np.linalg.inv(ledoit_wolf(residual, assume_centered=True)[0] * 400 / 394)
    asked_IC = drawn(30, 1)[0]
    expected = [-min(mahalanobis(row, mean, inverse) ** 2 for mean in means) / 6 for row in asked_IC]
    assert likeness.of(asked_IC, TAXONOMY) == pytest.approx(expected, rel=1e-4)
    assert likeness.of(np.full((1, 6), np.nan), TAXONOMY).tolist() == [-np.inf]


@pytest.mark.parametrize("images", [7, 40, 400])
def test_shrinkage_is_that_of_ledoit_and_wolf(images: int) -> None:
    rows = np.random.default_rng(images).normal(size=(images, 12)) * np.arange(1, 13)
    assert shrunk_covariance(rows) == pytest.approx(ledoit_wolf(rows, assume_centered=True)[0])


def test_what_lies_elsewhere_is_flagged_and_the_threshold_keeps_what_it_says() -> None:
    likeness = learnt(*drawn(600, 0))
    scores_IC, class_I = drawn(1000, 1)
    names = [TAXONOMY.names[label] for label in class_I]
    truth = Truth(names, [name[:2] for name in names], [""] * 1000)
    ids = [f"{row:04}" for row in range(1000)]
    calibration, decisions = learn_from_validation(scores_IC, ids, truth, TAXONOMY, likeness=likeness)
    assert decisions.organism is not None
    assert decisions.organism.sureness == "likeness"
    assert decisions.organism.measured["kept"] == pytest.approx(0.99)

    def flagged(asked_IC: np.ndarray) -> float:
        p_IC = calibration.bind(TAXONOMY).probabilities(asked_IC)
        return float(decisions.organism.flags(p_IC, np.zeros(len(p_IC)), likeness.of(asked_IC, TAXONOMY)).mean())

    assert flagged(drawn(4000, 2)[0]) == pytest.approx(0.01, abs=0.006)
    # As sure as any of its first class, yet all the other scores are alike, which no training picture's are.
    sure_IC = np.tile([[30.0, 0, 0, 0, 0, 0]], (20, 1))
    assert flagged(sure_IC) == 1
    with pytest.raises(BadInput, match="wasn't measured"):
        decisions.organism.flags(np.full((1, 6), 1 / 6), np.zeros(1))


def test_without_training_pictures_enough_the_entropy_is_looked_at() -> None:
    scores_IC, class_I = drawn(8, 0)
    assert learn_likeness(lambda rows: scores_IC[rows], class_I, TAXONOMY) is None
    assert learn_likeness(lambda rows: np.full((len(rows), 6), -np.inf), drawn(400, 0)[1], TAXONOMY) is None
    scores_IC, class_I = drawn(200, 1)
    names = [TAXONOMY.names[label] for label in class_I]
    truth = Truth(names, [name[:2] for name in names], [""] * 200)
    _, decisions = learn_from_validation(scores_IC, [f"{row:03}" for row in range(200)], truth, TAXONOMY)
    assert decisions.organism is not None
    assert decisions.organism.sureness == "entropy"
    assert decisions.likeness is None


def test_images_of_an_observation_are_measured_one_by_one_and_averaged() -> None:
    likeness = learnt(*drawn(600, 0))
    scores_IC, class_I = drawn(150, 1)
    names = [name for label in class_I for name in [TAXONOMY.names[label]] * 2]
    truth = Truth(names, [name[:2] for name in names], [""] * 300)
    both_IC = np.stack([scores_IC, scores_IC + np.random.default_rng(0).normal(size=scores_IC.shape)], axis=1).reshape(300, 6)
    ids = [f"{row // 2:03}" for row in range(300)]
    _, decisions = learn_from_validation(both_IC, ids, truth, TAXONOMY, likeness=likeness)
    assert decisions.organism is not None
    means_O = likeness.of(both_IC, TAXONOMY).reshape(150, 2).mean(axis=1)
    assert decisions.organism.threshold == pytest.approx(np.sort(means_O)[1])


def test_many_species_are_measured_by_their_genera() -> None:
    taxonomy = Taxonomy.from_rows(
        [{"scientificName": f"G{n % 300:03} s{n:04}", "genus": f"G{n % 300:03}"} for n in range(600)]
        + [{"scientificName": "Zz of no known genus"}]
    )
    generator = np.random.default_rng(0)
    class_I = generator.integers(-1, 601, 2000)
    scores_IC = generator.normal(size=(2000, 601)) + 4 * np.eye(601)[class_I]
    likeness = learnt(scores_IC, class_I, taxonomy)
    assert (likeness.rank, likeness.taxa) == ("genus", 300)
    assert len(json.dumps(asdict(likeness))) < 1_000_000
    means_IG = taxon_means(scores_IC, taxonomy, "genus")
    members = [place for place, name in enumerate(taxonomy.names) if name.startswith("G007")]
    assert means_IG[:, 7] == pytest.approx(scores_IC[:, members].mean(axis=1))
    other = np.tile(scores_IC[:1], (2, 1))
    other[1, members] += 50
    near, far = likeness.of(other, taxonomy)
    assert far < near - 1
    with pytest.raises(BadInput, match="300 taxa, where the taxonomy has 3"):
        likeness.of(np.zeros((1, 6)), TAXONOMY)


def test_of_many_pictures_few_are_scored_and_all_classes_are_among_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_IMAGES", 60)
    monkeypatch.setattr(module, "_SCORES_AT_ONCE", 6 * 7)
    scores_IC, class_I = drawn(5000, 0)
    rare = class_I.copy()
    rare[np.flatnonzero(class_I == 3)[4:]] = 0
    rare[::50] = -1
    asked: list[np.ndarray] = []

    def scores_of(rows: np.ndarray) -> np.ndarray:
        asked.append(rows)
        return scores_IC[rows]

    learn_likeness(scores_of, rare, TAXONOMY)
    assert max(map(len, asked)) == 7
    rows = np.concatenate(asked)
    assert len(set(rows.tolist())) == 60
    counts = np.bincount(rare[rows], minlength=6)
    assert counts[3] == (rare == 3).sum()
    assert max(counts) - min(np.delete(counts, 3)) <= 1


def test_it_stands_in_the_file_of_decisions_and_damage_is_named(tmp_path: Path) -> None:
    likeness = learnt(*drawn(600, 0))
    scores_IC, class_I = drawn(200, 1)
    names = [TAXONOMY.names[label] for label in class_I]
    truth = Truth(names, [name[:2] for name in names], [""] * 200)
    ids = [f"{row:03}" for row in range(200)]
    _, decisions = learn_from_validation(scores_IC, ids, truth, TAXONOMY, likeness=likeness)
    file = tmp_path / "decisions.json"
    decisions.write(file)
    again = Decisions.read(file)
    assert again == decisions
    assert again.likeness is not None
    assert again.likeness.of(scores_IC, TAXONOMY).tolist() == likeness.of(scores_IC, TAXONOMY).tolist()
    assert replace(decisions, likeness=replace(likeness, images=7)).fingerprint != decisions.fingerprint
    content = json.loads(file.read_text())
    for change, said in (
        ({"likeness": {**content["likeness"], "whitening": "no numbers!"}}, "can't be read"),
        ({"likeness": {**content["likeness"], "taxa": 5}}, "don't fit 5 taxa"),
        ({"likeness": {**content["likeness"], "rank": "kin"}}, "'kin'"),
        ({"likeness": None}, "nothing that measures it"),
    ):
        file.write_text(json.dumps({**content, **change}))
        with pytest.raises(BadInput, match=said):
            Decisions.read(file)
    with pytest.raises(BadInput, match="nothing that measures it"):
        replace(decisions, organism=None, unknown=Rejection("likeness", -1.0), likeness=None)


def test_a_direction_without_spread_is_no_division_by_zero() -> None:
    scores_IC, class_I = drawn(400, 0)
    log_p_IC = scores_IC - scores_IC.mean(axis=1, keepdims=True)  # sums to 0: one direction has no spread at all
    values_I = learnt(log_p_IC, class_I).of(log_p_IC, TAXONOMY)
    assert np.isfinite(values_I).all()
    assert -3 < values_I.mean() < -0.3


def test_examples() -> None:
    import doctest

    assert doctest.testmod(module, extraglobs={"np": np}).attempted > 0
    assert doctest.testmod(module, extraglobs={"np": np}).failed == 0
