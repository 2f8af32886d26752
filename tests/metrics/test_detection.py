"""Known from unknown: scikit-learn's curve, a slow loop, values by hand; and the Brier score."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve

from taxakey.errors import BadInput
from taxakey.metrics.calibration_error import brier
from taxakey.metrics.detection import auroc, fpr_at_tpr


@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 9999), st.sampled_from([0.5, 0.8, 0.95, 1.0]))
def test_as_in_scikit_learn(known: int, unknown: int, seed: int, tpr: float) -> None:
    generator = np.random.default_rng(seed)
    sureness_O, known_O = generator.integers(0, 8, known + unknown) / 8, np.arange(known + unknown) < known
    assert auroc(sureness_O, known_O) == pytest.approx(roc_auc_score(known_O, sureness_O))
    false_T, true_T, _ = roc_curve(known_O, sureness_O, drop_intermediate=False)
    assert fpr_at_tpr(sureness_O, known_O, tpr) == pytest.approx(false_T[true_T >= tpr - 1e-12].min())


def test_nineteen_of_twenty_are_95_per_cent() -> None:
    sureness = np.append(np.arange(20, 0, -1), 1.5)  # the twentieth known one is less sure than the unknown one
    assert fpr_at_tpr(sureness, np.arange(21) < 20) == 0


@pytest.mark.parametrize("known", [[True, True], [False, False]])
def test_one_kind_alone_is_said(known: list[bool]) -> None:
    with pytest.raises(BadInput, match="some of each"):
        auroc([0.1, 0.2], known)


def test_missing_sureness_and_impossible_rates_are_said() -> None:
    with pytest.raises(BadInput, match="1 observations have no sureness"):
        auroc([0.5, np.nan], [True, False])
    with pytest.raises(BadInput, match="true positive rate"):
        fpr_at_tpr([0.5, 0.4], [True, False], 0)


# ---- Brier ----


@given(st.integers(0, 9999))
def test_brier_is_the_squared_distance_to_the_truth(seed: int) -> None:
    generator = np.random.default_rng(seed)
    probability_OC = generator.dirichlet(np.full(7, 0.3), 20)
    true_O = generator.integers(-1, 7, 20)
    truth_OC = np.eye(8)[true_O][:, :7]  # the eighth column is for what the model doesn't hold, and is cut off
    slow = ((probability_OC - truth_OC) ** 2).sum(axis=1) + (true_O < 0)
    true_probability_O = np.where(true_O < 0, 0, probability_OC[np.arange(20), true_O])
    ranked_OC = -np.sort(-probability_OC, axis=1)
    assert brier(ranked_OC, true_probability_O) == pytest.approx(slow.mean())
    cut = brier(ranked_OC[:, :4], true_probability_O, ranked_OC[:, 4:].sum(axis=1), tolerance=1)
    open_by = (ranked_OC[:, 4:].sum(axis=1) * ranked_OC[:, 3] / 2).mean()
    assert abs(cut - slow.mean()) <= open_by + 1e-12


def test_a_brier_score_that_the_stored_answers_leave_open_is_refused() -> None:
    with pytest.raises(BadInput, match=r"open by ±0\.05"):
        brier(np.array([[0.5, 0.2]]), [0.5], [0.5])
