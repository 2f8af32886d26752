"""Other shares of classes: Bayes' rule where the truth is known, and the estimate from unlabelled observations."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import log_softmax

from taxakey.calibration import Calibration
from taxakey.calibration.shares import corrected, estimate_shares, with_shares
from taxakey.errors import BadInput
from taxakey.taxonomy import Taxonomy

TRAIN = np.array([0.5, 0.3, 0.15, 0.05])
NEW = np.array([0.05, 0.15, 0.2, 0.6])
CENTRES = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0], [2.0, 2.0]])
TAXONOMY = Taxonomy.from_rows({"scientificName": name} for name in ("A a", "B b", "C c", "D d"))


def observations(share: np.ndarray, rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Points round their class' centre, and the classes."""
    generator = np.random.default_rng(seed)
    true_O = generator.choice(4, rows, p=share)
    return CENTRES[true_O] + generator.normal(size=(rows, 2)), true_O


def posterior(points: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Bayes' rule with the true densities."""
    distance_OC = ((points[:, None] - CENTRES) ** 2).sum(axis=2)
    return np.exp(log_softmax(np.log(share) - distance_OC / 2, axis=1))


def test_corrected_probabilities_are_those_of_bayes() -> None:
    points, true_O = observations(NEW, 3000)
    before, after = posterior(points, TRAIN), corrected(posterior(points, TRAIN), TRAIN, NEW)
    assert np.allclose(after, posterior(points, NEW))
    assert (after.argmax(axis=1) == true_O).mean() > (before.argmax(axis=1) == true_O).mean() + 0.1


def test_the_shares_are_estimated_from_unlabelled_observations() -> None:
    points, true_O = observations(NEW, 5000, seed=1)
    found = estimate_shares(posterior(points, TRAIN), TRAIN)
    assert found == pytest.approx(np.bincount(true_O) / 5000, abs=0.03)
    # Counting first answers instead is much worse.
    counted = np.bincount(posterior(points, TRAIN).argmax(axis=1), minlength=4) / 5000
    assert np.abs(counted - NEW).max() > 3 * np.abs(found - NEW).max()
    assert estimate_shares(posterior(observations(TRAIN, 5000)[0], TRAIN), TRAIN) == pytest.approx(TRAIN, abs=0.03)


def test_each_round_is_that_of_the_paper() -> None:
    p_OC = posterior(observations(NEW, 50, seed=2)[0], TRAIN)
    share = TRAIN
    for _ in range(4):
        weighted = p_OC * share / TRAIN
        share = (weighted / weighted.sum(axis=1, keepdims=True)).mean(axis=0)
    import taxakey.calibration.shares as shares

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(shares, "_MOST_ROUNDS", 4)
        assert estimate_shares(p_OC, TRAIN, tolerance=0) == pytest.approx(share)


def test_prior_observations_hold_the_estimate_back() -> None:
    p_OC = posterior(observations(NEW, 30, seed=3)[0], TRAIN)
    free, held, fixed = (estimate_shares(p_OC, TRAIN, prior_observations=n) for n in (0, 30, 1e9))
    assert np.abs(held - TRAIN).sum() < np.abs(free - TRAIN).sum()
    assert fixed == pytest.approx(TRAIN, abs=1e-5)


def test_a_calibration_carries_the_correction_by_name(tmp_path) -> None:
    points, _ = observations(NEW, 20, seed=4)
    scores_IC = 2 * np.log(posterior(points, TRAIN))
    shifted = with_shares(Calibration(2.0, 0.5, {}), TAXONOMY, TRAIN, NEW)
    shifted.write(tmp_path / "calibration.json")
    read = Calibration.read(tmp_path / "calibration.json")
    assert np.allclose(read.bind(TAXONOMY).probabilities(scores_IC), posterior(points, NEW))
    # In a taxonomy that has learned a species since, the old ones keep their shifts, whatever their places are now.
    more = Taxonomy.from_rows({"scientificName": name} for name in ("A a", "Aa a", "B b", "C c", "D d"))
    wide_IC = np.insert(scores_IC, 1, -1e9, axis=1)
    assert np.allclose(np.delete(read.bind(more).probabilities(wide_IC), 1, axis=1), posterior(points, NEW))


def test_a_share_of_0_shuts_no_species_out() -> None:
    shifted = with_shares(Calibration(), TAXONOMY, TRAIN, np.array([0.5, 0.5, 0, 0]))
    assert shifted.bind(TAXONOMY).probabilities(np.array([[0.0, 0, 0, 99]])).argmax() == 3


def test_impossible_shares_are_refused() -> None:
    with pytest.raises(BadInput, match="1 of 2 shares"):
        corrected(np.ones((1, 2)) / 2, np.array([1.0, 0.0]), np.array([0.5, 0.5]))
    with pytest.raises(BadInput, match="only like classes whose new share is 0"):
        corrected(np.array([[1.0, 0.0]]), np.array([0.5, 0.5]), np.array([0.0, 1.0]))
    with pytest.raises(BadInput, match="one observation or more"):
        estimate_shares(np.zeros((0, 2)), np.array([0.5, 0.5]))
    with pytest.raises(BadInput, match="where the taxonomy has 4"):
        with_shares(Calibration(), TAXONOMY, np.ones(3), np.ones(3))
