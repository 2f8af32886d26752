from __future__ import annotations

import numpy as np
import pytest
from scipy.special import log_softmax

from taxakey.calibration import Calibration, fit_calibration, mean_by_observation
from taxakey.errors import BadInput


def simulated(rows: int, sharpness: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores whose softmax, cooled by `sharpness`, is by construction the true distribution of the label."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=2.0, size=(rows, 6))
    labels = np.array([rng.choice(6, p=p) for p in np.exp(log_softmax(logits, axis=1))])
    return logits * sharpness, labels


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 3.0])
def test_finds_the_temperature_that_was_put_in(sharpness: float) -> None:
    scores, labels = simulated(6000, sharpness)
    fitted = fit_calibration(scores, np.arange(len(labels)), labels)
    assert fitted.temperature == pytest.approx(sharpness, rel=0.08)
    assert fitted.measured["nll_after"] <= fitted.measured["nll_before"] + 1e-9


def test_the_threshold_means_what_it_says() -> None:
    scores, labels = simulated(4000, 2.0)
    fitted = fit_calibration(scores, np.arange(len(labels)), labels, target_precision=0.8)
    probabilities = fitted.probabilities(scores)
    answered = probabilities.max(1) >= fitted.unsure_below
    right = probabilities.argmax(1) == labels
    assert fitted.measured["precision"] == pytest.approx(right[answered].mean())
    assert fitted.measured["coverage"] == pytest.approx(answered.mean())
    assert right[answered].mean() >= 0.8
    assert fitted.measured["precision_low"] < fitted.measured["precision"]
    # It is the lowest such threshold: answering everything wouldn't reach the target.
    assert right.mean() < 0.8


def test_no_threshold_reaches_the_target_and_it_says_so() -> None:
    rng = np.random.default_rng(1)
    fitted = fit_calibration(rng.normal(size=(200, 5)), np.arange(200), rng.integers(5, size=200))
    assert fitted.unsure_below == 1.0
    assert fitted.measured["precision"] is None
    assert "every answer of this model is called unsure" in fitted.meaning


def test_unknown_species_count_as_wrong_answers() -> None:
    scores, labels = simulated(2000, 1.0)
    without = fit_calibration(scores, np.arange(2000), labels, target_precision=0.8)
    labels = labels.copy()
    labels[::4] = -1
    with_unknown = fit_calibration(scores, np.arange(2000), labels, target_precision=0.8)
    assert with_unknown.temperature == pytest.approx(without.temperature, rel=0.15)
    assert with_unknown.measured["coverage"] < without.measured["coverage"]


def test_images_of_one_observation_are_averaged_as_probabilities() -> None:
    values = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6]])
    mean = mean_by_observation(values, np.array([1, 0, 1]), 2)
    assert np.allclose(mean, [[0.2, 0.8], [0.65, 0.35]])


def test_file_round_trip_and_bad_files(tmp_path) -> None:
    calibration = fit_calibration(*(lambda s, y: (s, np.arange(len(y)), y))(*simulated(500, 1.5)))
    calibration.write(tmp_path / "calibration.json")
    assert Calibration.read(tmp_path / "calibration.json") == calibration
    (tmp_path / "bad.json").write_text('{"temperature": 0, "unsure_below": 0.5, "measured": {}}')
    with pytest.raises(BadInput, match=r"bad\.json: the temperature is 0"):
        Calibration.read(tmp_path / "bad.json")


def test_refuses_validation_without_a_known_species() -> None:
    with pytest.raises(BadInput, match="nothing can be calibrated"):
        fit_calibration(np.zeros((2, 3)), np.arange(2), np.array([-1, -1]))
