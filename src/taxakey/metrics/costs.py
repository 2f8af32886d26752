"""What errors cost: the four tracks of FungiCLEF, and poisonous species taken for harmless ones.

Shapes: O observations, L labels.

In this file a NEGATIVE label is a class of its own, "unknown species": a truth, and an answer that may be given. (Elsewhere in
this folder it says that the truth isn't known; leave such rows out before.) It counts as not poisonous.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from taxakey.errors import BadInput
from taxakey.metrics.accuracy import Floats, Integers

POISONOUS_MISSED = 100.0
"""Cost of a poisonous species that is taken for a harmless one (FungiCLEF 2023)."""
HARMLESS_ACCUSED = 1.0
UNKNOWN_NAMED = 10.0
"""Cost of a species unknown to the model that is given a known name."""
KNOWN_NOT_NAMED = 0.1


def track1(true_O: Integers, predicted_O: Integers) -> float:
    """Share of wrong answers.

    >>> track1([0, 1, -1, 2], [0, 2, -1, 2])
    0.25
    """
    return _mean(errors(true_O, predicted_O))


def track2(true_O: Integers, predicted_O: Integers, poisonous_L: ArrayLike) -> float:
    """Mean cost of confusing poisonous with harmless: 100 for a poisonous species missed, 1 for a harmless one accused.

    poisonous_L: whether each label is poisonous. In the example species 1 is, it is missed once and named wrongly once.

    >>> track2([0, 1, 1, -1], [0, 0, 1, 1], [False, True])
    25.25
    """
    return _mean(poison_costs(true_O, predicted_O, poisonous_L))


def track3(true_O: Integers, predicted_O: Integers, poisonous_L: ArrayLike) -> float:
    """track1 + track2.

    >>> track3([0, 1, 1, -1], [0, 0, 1, 1], [False, True])
    25.75
    """
    return track1(true_O, predicted_O) + track2(true_O, predicted_O, poisonous_L)


def track4(true_O: Integers, predicted_O: Integers) -> float:
    """Mean cost where the unknown counts: 10 for an unknown species named, 0.1 for a known one called unknown, 1 else if wrong.

    >>> track4([0, 1, -1, 2], [0, -1, 3, 3])
    2.775
    """
    return _mean(unknown_costs(true_O, predicted_O))


def poison_accuracy(true_O: Integers, predicted_O: Integers, poisonous_L: ArrayLike) -> float:
    """Share of rows in which truth and answer are both poisonous or both not, whatever their names.

    >>> poison_accuracy([0, 1, 2], [2, 0, 0], [False, True, False])
    0.6666666666666666
    """
    poisonous_O, named_O = _poisonous(true_O, poisonous_L), _poisonous(predicted_O, poisonous_L)
    return _mean((poisonous_O == named_O).astype(np.float64))


def poison_confusion(true_O: Integers, predicted_O: Integers, poisonous_L: ArrayLike) -> float:
    """Share of the poisonous that is taken for harmless. Raises BadInput where no row is poisonous.

    >>> poison_confusion([0, 1, 1], [1, 0, 1], [False, True])
    0.5
    """
    poisonous_O, named_O = _poisonous(true_O, poisonous_L), _poisonous(predicted_O, poisonous_L)
    return _mean((~named_O[poisonous_O]).astype(np.float64), "poisonous species")


def edible_confusion(true_O: Integers, predicted_O: Integers, poisonous_L: ArrayLike) -> float:
    """Share of what isn't poisonous that is taken for poisonous. Raises BadInput where every row is poisonous.

    >>> edible_confusion([0, 1, -1], [1, 0, 0], [False, True])
    0.5
    """
    poisonous_O, named_O = _poisonous(true_O, poisonous_L), _poisonous(predicted_O, poisonous_L)
    return _mean(named_O[~poisonous_O].astype(np.float64), "species that isn't poisonous")


# ---- what each row costs, for means, differences and intervals ----


def errors(true_O: Integers, predicted_O: Integers) -> Floats:
    """1.0 for each row [O] whose answer isn't the truth; two unknowns are alike, whatever their numbers.

    >>> errors([0, -1, -2], [1, -1, -1])
    array([1., 0., 0.])
    """
    true_O, predicted_O = _same_length(true_O, predicted_O)
    return (np.maximum(true_O, -1) != np.maximum(predicted_O, -1)).astype(np.float64)


def poison_costs(true_O: Integers, predicted_O: Integers, poisonous_L: ArrayLike) -> Floats:
    """What each row [O] costs in Track 2.

    >>> poison_costs([0, 1, 1, -1], [0, 0, 1, 1], [False, True])
    array([  0., 100.,   0.,   1.])
    """
    true_O, predicted_O = _same_length(true_O, predicted_O)
    poisonous_O, named_O = _poisonous(true_O, poisonous_L), _poisonous(predicted_O, poisonous_L)
    return POISONOUS_MISSED * (poisonous_O & ~named_O) + HARMLESS_ACCUSED * (~poisonous_O & named_O)


def unknown_costs(true_O: Integers, predicted_O: Integers) -> Floats:
    """What each row [O] costs in Track 4.

    >>> unknown_costs([0, 1, -1, 2], [0, -1, 3, 3])
    array([ 0. ,  0.1, 10. ,  1. ])
    """
    true_O, predicted_O = _same_length(true_O, predicted_O)
    unknown_O, called_unknown_O = true_O < 0, predicted_O < 0
    cost_O = errors(true_O, predicted_O)
    cost_O[unknown_O & ~called_unknown_O] = UNKNOWN_NAMED
    cost_O[~unknown_O & called_unknown_O] = KNOWN_NOT_NAMED
    return cost_O


def _poisonous(labels_O: Integers, poisonous_L: ArrayLike) -> NDArray[np.bool_]:
    labels_O, poisonous_L = np.asarray(labels_O), np.asarray(poisonous_L, dtype=bool)
    if len(labels_O) and labels_O.max() >= len(poisonous_L):
        raise BadInput(f"label {labels_O.max()}, where only the first {len(poisonous_L)} are known to be poisonous or not")
    # The unknown stands behind the last label; an index of -1 finds it there.
    return np.append(poisonous_L, False)[np.maximum(labels_O, -1)]


def _same_length(true_O: Integers, predicted_O: Integers) -> tuple[Integers, Integers]:
    true_O, predicted_O = np.asarray(true_O), np.asarray(predicted_O)
    if len(true_O) != len(predicted_O):
        raise BadInput(f"{len(predicted_O):,} answers to {len(true_O):,} observations: they must be as many")
    return true_O, predicted_O


def _mean(values_O: Floats, of: str = "") -> float:
    if not len(values_O):
        raise BadInput(f"no row to measure: {f'none of them is a {of}' if of else 'the part is empty'}")
    return float(values_O.mean())
