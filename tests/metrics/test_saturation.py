"""The saturation point: found where it was put, not claimed where there is none; the fit against an ordinary one."""

from __future__ import annotations

import numpy as np
import pytest

from taxakey.errors import BadInput
from taxakey.metrics.saturation import _BentLine, saturation


def species(seed: int, count: int = 150) -> tuple[np.ndarray, np.random.Generator]:
    generator = np.random.default_rng(seed)
    return np.exp(generator.uniform(np.log(2), np.log(200), count)).astype(int), generator


def test_a_planted_point_lies_in_its_interval() -> None:
    inside = 0
    for seed in range(12):
        images, generator = species(seed)
        accuracy = 0.2 + 0.2 * np.log2(np.minimum(images, 16)) + generator.normal(0, 0.1, len(images))
        found = saturation(accuracy, images, resamples=100, seed=seed)
        assert found.outcome == "reached"
        assert found.per_doubling == pytest.approx(0.2, abs=0.06)
        assert found.plateau == pytest.approx(1.0, abs=0.06)
        inside += found.low <= 16 <= found.high
    assert inside >= 10


def test_a_line_that_goes_on_rising_isnt_said_to_saturate() -> None:
    reached = 0
    for seed in range(12):
        images, generator = species(seed)
        found = saturation(0.1 + 0.1 * np.log2(images) + generator.normal(0, 0.1, len(images)), images, resamples=100)
        assert found.outcome != "no rise"
        assert found.per_doubling == pytest.approx(0.1, abs=0.05)
        reached += found.outcome == "reached"
    assert reached <= 2


def test_no_gain_is_told_from_less_than_a_doubling() -> None:
    """One species with 4 photographs that is never named and many with 5 or more: the step isn't 1 / log2(5/4) a doubling."""
    images = np.array([4] + [5] * 10 + [10] * 10 + [20] * 10 + [40] * 10)
    accuracy = np.append(0.0, np.full(40, 0.8)) + np.random.default_rng(0).normal(0, 0.02, 41)
    assert abs(saturation(accuracy, images, resamples=50).per_doubling) < 0.3


def test_noise_doesnt_rise() -> None:
    outcomes = []
    for seed in range(8):
        images, generator = species(seed)
        outcomes.append(saturation(generator.random(len(images)), images, resamples=100).outcome)
    assert outcomes.count("no rise") >= 6


def test_each_candidate_is_an_ordinary_weighted_fit() -> None:
    images, generator = species(1, 40)
    accuracy, weights = generator.random(40) + 0.1 * np.log(images), generator.integers(0, 4, 40)
    line = _BentLine(accuracy, images)
    best = (np.inf, 0.0, 0.0, 0.0)
    for bend in line.bends_B:
        x = np.log(np.minimum(images, bend))
        slope, start = np.polyfit(x, accuracy, 1, w=np.sqrt(weights))
        left = float((weights * (accuracy - start - slope * x) ** 2).sum())
        best = min(best, (left, bend, slope, start + slope * x.max()))
    bend, slope, plateau, straight = line.fit(weights[None, :])
    assert (bend[0], slope[0], plateau[0]) == pytest.approx(best[1:])
    assert straight[0] == pytest.approx(np.polyfit(np.log(images), accuracy, 1, w=np.sqrt(weights))[0])


def test_order_of_species_and_species_without_a_photograph_change_nothing() -> None:
    images, generator = species(2, 60)
    accuracy = generator.random(60) + 0.1 * np.log(images)
    first = saturation(accuracy, images, resamples=20)
    order = generator.permutation(60)
    again = saturation(np.append(accuracy[order], 0.5), np.append(images[order], 0), resamples=20)
    assert (again.images, again.per_doubling, again.plateau, again.species) == pytest.approx(
        (first.images, first.per_doubling, first.plateau, 60)
    )


def test_too_few_species_are_refused() -> None:
    with pytest.raises(BadInput, match="19 species"):
        saturation(np.ones(19), np.arange(1, 20))
    with pytest.raises(BadInput, match="1 different"):
        saturation(np.ones(30), np.full(30, 5))
