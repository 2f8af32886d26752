"""How unlike the members of an ensemble are: what two of them get wrong together, and what any of them gets right.

Shapes: M members, O rows. `right_MO`: whether each member names each row rightly.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from taxakey.errors import BadInput

Floats = NDArray[np.float64]


def disagreement(first_MO: NDArray[np.integer]) -> Floats:
    """Share of rows [M, M] that two members name differently; first_MO: their first answers.

    >>> disagreement(np.array([[0, 1, 2, 3], [0, 1, 2, 2]]))
    array([[0.  , 0.25],
           [0.25, 0.  ]])
    """
    _some_rows(first_MO)
    return np.stack([(first_MO != first_O).mean(axis=1) for first_O in first_MO])


def error_correlation(right_MO: NDArray[np.bool_]) -> Floats:
    """Pearson correlation [M, M] of being right (the φ coefficient); NaN for a member that is always, or never, right.

    >>> error_correlation(np.array([[True, True, False, False], [True, False, False, False]])).round(3)
    array([[1.   , 0.577],
           [0.577, 1.   ]])
    """
    _some_rows(right_MO)
    away_MO = right_MO - right_MO.mean(axis=1, keepdims=True)
    spread_M = np.sqrt((away_MO**2).mean(axis=1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return (away_MO @ away_MO.T / right_MO.shape[1]) / np.outer(spread_M, spread_M)


def double_fault(right_MO: NDArray[np.bool_]) -> Floats:
    """Share of rows [M, M] that two members both name wrongly (Giacinto and Roli, 2001); on the diagonal a member's own errors.

    >>> double_fault(np.array([[True, True, False, False], [True, False, False, False]]))
    array([[0.5 , 0.5 ],
           [0.5 , 0.75]])
    """
    _some_rows(right_MO)
    wrong_MO = (~np.asarray(right_MO, dtype=bool)).astype(np.float64)
    return wrong_MO @ wrong_MO.T / wrong_MO.shape[1]


def oracle(right_MO: NDArray[np.bool_]) -> float:
    """Share of rows that at least one member names rightly: what no choice among their answers can exceed.

    >>> oracle(np.array([[True, False, False], [False, True, False]]))
    0.6666666666666666
    """
    _some_rows(right_MO)
    return float(np.asarray(right_MO, dtype=bool).any(axis=0).mean())


def _some_rows(values_MO: NDArray) -> None:
    if values_MO.ndim != 2 or not values_MO.size:
        raise BadInput(f"answers of the shape {values_MO.shape}: members × rows, at least one of each")
