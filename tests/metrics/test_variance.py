"""Analysis of variance against scipy and statsmodels, and values by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import f_oneway

from taxakey.errors import BadInput
from taxakey.metrics.variance import one_way


@given(st.integers(0, 9999), st.integers(2, 6))
def test_f_and_p_as_in_scipy(seed: int, groups: int) -> None:
    generator = np.random.default_rng(seed)
    group_N = np.concatenate([np.arange(groups), generator.integers(0, groups, 12)])
    values_N = generator.random(len(group_N)) + 0.3 * (group_N == 1)
    found = one_way(values_N, group_N)
    expected = f_oneway(*(values_N[group_N == group] for group in range(groups)))
    assert (found.f, found.p_value) == pytest.approx((expected.statistic, expected.pvalue))
    assert (found.groups, found.values, found.degrees_between, found.degrees_within) == (groups, len(group_N), groups - 1, 12)
    order = generator.permutation(len(group_N))
    again = one_way(values_N[order], (7 * group_N)[order])  # other rows first, other names of the groups
    assert (again.f, again.eta_squared, again.omega_squared) == pytest.approx((found.f, found.eta_squared, found.omega_squared))


def test_effect_sizes_as_in_statsmodels() -> None:
    statsmodels = pytest.importorskip("statsmodels.api", reason="install statsmodels: pip install 'taxakey[dev]'")
    formula, pandas = pytest.importorskip("statsmodels.formula.api"), pytest.importorskip("pandas")
    generator = np.random.default_rng(3)
    family = np.repeat(["a", "b", "c", "d"], [3, 9, 1, 14])
    top_1 = np.clip(generator.normal(0.6, 0.2, 27) + 0.25 * (family == "b"), 0, 1)
    table = statsmodels.stats.anova_lm(formula.ols("y ~ C(g)", pandas.DataFrame({"y": top_1, "g": family})).fit())
    between, within = table["sum_sq"]
    noise = table["mean_sq"].iloc[1]
    found = one_way(top_1, np.unique(family, return_inverse=True)[1])
    assert found.eta_squared == pytest.approx(between / (between + within))
    assert found.omega_squared == pytest.approx((between - 3 * noise) / (between + within + noise))
    assert (found.f, found.p_value) == pytest.approx((table["F"].iloc[0], table["PR(>F)"].iloc[0]))


def test_families_that_dont_matter_have_eta_and_no_omega() -> None:
    """What ω² is for: thirty groups of two explain half of noise, by chance alone."""
    found = [one_way(np.random.default_rng(seed).random(60), np.arange(60) // 2) for seed in range(40)]
    assert np.mean([each.eta_squared for each in found]) == pytest.approx(29 / 59, abs=0.03)
    assert np.mean([each.omega_squared for each in found]) == pytest.approx(0, abs=0.05)
    assert 0 <= np.mean([each.p_value < 0.05 for each in found]) <= 0.15


def test_rows_without_a_group_are_left_out_and_equal_groups_differ_for_sure() -> None:
    assert one_way([1, 2, 3, 4, 99], [0, 0, 1, 1, -1]) == one_way([1, 2, 3, 4], [0, 0, 1, 1])
    sure = one_way([0, 0, 1, 1], [0, 0, 1, 1])
    assert (sure.f, sure.p_value, sure.eta_squared, sure.omega_squared) == (np.inf, 0, 1, 1)


@pytest.mark.parametrize(
    ("values", "groups", "said"),
    [([1, 2], [0, 0], "1 groups"), ([1, 2], [0, 1], "needs two groups and a group of two"), ([1, 1, 1], [0, 0, 1], "are equal"),
     ([], [], "0 values")],
)  # fmt: skip
def test_what_cant_be_analysed_is_refused(values: list[int], groups: list[int], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        one_way(values, np.array(groups, dtype=np.int64))
