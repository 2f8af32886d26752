"""Exact tests of what only one of two models names: against scipy's test of a share, one pair at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from taxakey.errors import BadInput
from taxakey.metrics.differences import holm
from taxakey.metrics.paired_tests import fewest_changes, mcnemar

COUNTS = st.integers(0, 60)


@given(st.lists(st.tuples(COUNTS, COUNTS), min_size=1, max_size=8))
def test_mcnemar_is_the_two_sided_test_of_a_half(pairs: list[tuple[int, int]]) -> None:
    gained_N, lost_N = np.array(pairs).T
    expected = [binomtest(gained, gained + lost).pvalue if gained + lost else 1.0 for gained, lost in pairs]
    assert mcnemar(gained_N, lost_N) == pytest.approx(expected)
    assert mcnemar(lost_N, gained_N) == pytest.approx(expected), "which model is the first doesn't matter"


@given(st.integers(1, 100_000))
def test_fewest_changes_are_the_fewest_that_holm_lets_pass(comparisons: int) -> None:
    needed = fewest_changes(comparisons)
    others = np.ones(min(comparisons, 2000) - 1)
    smallest = [mcnemar([changes], [0])[0] for changes in (needed, needed - 1)]
    if comparisons <= 2000:
        assert [holm([p, *others])[0] < 0.05 for p in smallest] == [True, False]
    assert [p * comparisons < 0.05 for p in smallest] == [True, False]


def test_what_cannot_be_tested() -> None:
    with pytest.raises(BadInput, match="can't be below 0"):
        mcnemar([-1], [2])
    with pytest.raises(BadInput, match="at least one"):
        fewest_changes(0)
