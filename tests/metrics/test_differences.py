"""Paired differences, Holm's correction and seeds: scipy, statsmodels, and what is promised."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from taxakey.errors import BadInput
from taxakey.metrics.accuracy import class_mean
from taxakey.metrics.differences import holm, mean_over, over_seeds, paired_differences
from taxakey.metrics.intervals import bootstrap, class_mean_of, macro_f1_of, mean_of
from taxakey.metrics.long_tail import macro_f1


def two_models(rows: int, gain: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Right or wrong [O] of two models that mostly fail on the same observations."""
    generator = np.random.default_rng(seed)
    hard_O = generator.random(rows)
    flips_OM = generator.random((rows, 2)) < 0.1
    return tuple(np.where(flips, hard_O > 0.5, hard_O < 0.7 + shift) for flips, shift in zip(flips_OM.T, (gain, 0), strict=True))  # type: ignore[return-value]


def test_the_interval_is_that_of_scipy() -> None:
    first_O, second_O = two_models(500, 0.05, seed=0)
    label_O = np.random.default_rng(1).integers(0, 20, 500)
    pairs = {
        "top_1": (mean_of(first_O), mean_of(second_O)),
        "macro": (class_mean_of(first_O, label_O), class_mean_of(second_O, label_O)),
    }
    found = paired_differences(pairs, 500, resamples=4000)
    options = {"paired": True, "vectorized": False, "n_resamples": 4000, "method": "percentile", "rng": np.random.default_rng(2)}
    data = (first_O.astype(float), second_O.astype(float))
    plain = scipy.stats.bootstrap(data, lambda a, b: a.mean() - b.mean(), **options).confidence_interval
    macro = scipy.stats.bootstrap((*data, label_O), lambda a, b, y: class_mean(a, y) - class_mean(b, y), **options)
    assert (found["top_1"].low, found["top_1"].high) == pytest.approx((plain.low, plain.high), abs=0.004)
    ends = macro.confidence_interval
    assert (found["macro"].low, found["macro"].high) == pytest.approx((ends.low, ends.high), abs=0.004)


def test_pairing_makes_the_interval_narrower() -> None:
    first_O, second_O = two_models(800, 0.03, seed=3)
    paired = paired_differences({"": (mean_of(first_O), mean_of(second_O))}, 800)[""]
    single = bootstrap({"first": mean_of(first_O), "second": mean_of(second_O)}, 800)
    widths = [interval.high - interval.low for interval in single.values()]
    assert paired.high - paired.low < 0.8 * np.hypot(*widths)
    assert paired.value == pytest.approx(single["first"].value - single["second"].value)


def test_equal_models_are_told_apart_as_often_as_promised_and_p_agrees_with_the_interval() -> None:
    # 200 pairs without a true difference: 5 % of the intervals should leave out 0 (binomial: 4 to 17).
    claimed = 0
    for seed in range(200):
        first_O, second_O = two_models(300, 0.0, seed)
        found = paired_differences({"": (mean_of(first_O), mean_of(second_O))}, 300, resamples=300, seed=seed)[""]
        claimed += found.supported
        if abs(found.p_value - 0.05) > 0.02:
            assert found.supported == (found.p_value < 0.05)
    assert 3 <= claimed <= 19


def test_centring_puts_the_interval_of_a_difference_of_macro_f1_round_it() -> None:
    generator = np.random.default_rng(5)
    true_O = generator.integers(0, 500, 1500)
    answers = [np.where(generator.random(1500) < share, true_O, generator.integers(0, 500, 1500)) for share in (0.9, 0.5)]
    pair = {"f1": tuple(macro_f1_of(true_O, answer_O) for answer_O in answers)}
    plain, moved = (paired_differences(pair, 1500, resamples=200, centred=names)["f1"] for names in ((), ("f1",)))  # type: ignore[arg-type]
    assert plain.value == moved.value == pytest.approx(macro_f1(true_O, answers[0]) - macro_f1(true_O, answers[1]))
    assert moved.high - moved.low == pytest.approx(plain.high - plain.low)
    assert abs((moved.low + moved.high) / 2 - moved.value) < abs((plain.low + plain.high) / 2 - plain.value)


def test_a_model_against_itself() -> None:
    right_O = two_models(50, 0, 1)[0]
    found = paired_differences({"": (mean_of(right_O), mean_of(right_O))}, 50, resamples=100)[""]
    assert (found.value, found.low, found.high, found.p_value, found.supported) == (0, 0, 0, 1, False)
    assert str(found) == "+0.000 [+0.000, +0.000]"


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_as_in_statsmodels(p_values: list[float]) -> None:
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    assert np.allclose(holm(p_values), multitest.multipletests(p_values, method="holm")[1])


def test_impossible_p_values_are_refused() -> None:
    for wrong in ([np.nan], [1.5], [-0.1]):
        with pytest.raises(BadInput, match="between 0 and 1"):
            holm(wrong)


def test_over_seeds_as_in_scipy() -> None:
    values = np.array([0.61, 0.64, 0.60, 0.66])
    found = over_seeds(values, level=0.9)
    expected = scipy.stats.ttest_1samp(values, 0).confidence_interval(0.9)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.standard_deviation == pytest.approx(values.std(ddof=1))
    assert str(found) == "0.628 ± 0.028 (4 seeds)"
    for wrong in ([0.5], [0.5, np.nan]):
        with pytest.raises(BadInput, match="two runs or more"):
            over_seeds(wrong)


def test_the_mean_over_runs_is_resampled_as_one_figure() -> None:
    runs = [two_models(200, 0, seed)[0] for seed in (7, 8, 9)]
    found = bootstrap({"": mean_over([mean_of(run) for run in runs])}, 200)[""]
    same = bootstrap({"": mean_of(np.mean(runs, axis=0))}, 200)[""]
    assert (found.value, found.low, found.high) == pytest.approx((same.value, same.low, same.high), abs=1e-6)
    with pytest.raises(BadInput, match="no run"):
        mean_over([])
