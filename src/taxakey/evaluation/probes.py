"""What a linear layer can learn from vectors: a probe of what they hold. Extra `maps` (scikit-learn).

Shapes: N pictures, D width, O observations.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from taxakey.errors import BadInput, needs_extra

FOLDS = 5
_ROUNDS = 400


def probe(
    train_ND: NDArray[np.floating], labels_N: Sequence[str], test_ND: NDArray[np.floating], *, seed: int = 0
) -> NDArray[np.str_]:
    """Names that logistic regression on standardised vectors gives to the test vectors. C = 0.1 of scikit-learn: with more
    numbers than pictures, less rein fits noise. At most 400 rounds of L-BFGS, whether or not it has converged by then."""
    with needs_extra("maps"):
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
    if len(set(labels_N)) < 2:
        raise BadInput(f"a probe of {len(set(labels_N))} kind of label: there is nothing to tell apart")
    layer = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=_ROUNDS, random_state=seed))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a probe is compared with probes of as many rounds
        return np.asarray(layer.fit(train_ND, np.asarray(labels_N)).predict(test_ND))


def cross_validated(
    vectors_ND: NDArray[np.floating], labels_N: Sequence[str], observations_N: Sequence[str], *, folds: int = FOLDS, seed: int = 0
) -> NDArray[np.bool_]:
    """Whether each picture [N] is named rightly by a probe that learnt from the other folds; pictures of an observation share a
    fold. Raises BadInput where a label has fewer observations than folds."""
    with needs_extra("maps"):
        from sklearn.model_selection import StratifiedGroupKFold
    labels, groups = np.asarray(labels_N), np.asarray(observations_N)
    for label in np.unique(labels):
        if (few := len(np.unique(groups[labels == label]))) < folds:
            raise BadInput(f"{label}: {few} observations, and {folds} folds need one each; take more pictures or fewer folds")
    right_N = np.zeros(len(labels), dtype=bool)
    dealt = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    for learn, held in dealt.split(vectors_ND, labels, groups):
        right_N[held] = probe(vectors_ND[learn], labels[learn].tolist(), vectors_ND[held], seed=seed) == labels[held]
    return right_N
