"""Bootstrap intervals: the same figure as the plain metric, scipy's interval, and the coverage that is promised."""

from __future__ import annotations

import time

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from taxakey.errors import BadInput
from taxakey.metrics.accuracy import class_mean, hits, macro_top_k
from taxakey.metrics.detection import auroc
from taxakey.metrics.intervals import (
    auroc_of,
    bootstrap,
    class_mean_of,
    macro_f1_of,
    macro_mean_of,
    mean_of,
    ratio_of,
    resamplings,
)
from taxakey.metrics.long_tail import macro_f1
from taxakey.metrics.ranking import ma_mrr, reciprocal_ranks


def simulated(rows: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """true, predicted, rank [O]; a long tail, and a third of the answers wrong."""
    generator = np.random.default_rng(seed)
    share = 1 / np.arange(1, classes + 1)
    true_O = generator.choice(classes, rows, p=share / share.sum())
    predicted_O = np.where(generator.random(rows) < 0.67, true_O, generator.integers(0, classes, rows))
    return true_O, predicted_O, np.where(true_O == predicted_O, 1, generator.integers(2, 40, rows))


@given(st.integers(1, 60), st.integers(1, 8), st.integers(0, 10_000))
def test_weighted_figures_are_the_plain_metrics_of_the_drawn_rows(rows: int, classes: int, seed: int) -> None:
    true_O, predicted_O, rank_O = simulated(rows, classes, seed)
    generator = np.random.default_rng(seed)
    true_O = np.where(generator.random(rows) < 0.1, -1, true_O)  # some aren't known
    weights_RO = generator.multinomial(rows, np.full(rows, 1 / rows), size=3)
    for weights_O in weights_RO:
        drawn = np.repeat(np.arange(rows), weights_O)
        row = weights_O[None].astype(np.float64)
        assert mean_of(hits(rank_O, 5))(row)[0] == pytest.approx(hits(rank_O[drawn], 5).mean())
        if not (true_O[drawn] >= 0).any():
            assert np.isnan(class_mean_of(hits(rank_O, 1), true_O)(row)[0])
            assert np.isnan(macro_f1_of(true_O, predicted_O)(row)[0])
            continue
        got = class_mean_of(reciprocal_ranks(rank_O), true_O)(row)[0]
        assert got == pytest.approx(ma_mrr(rank_O[drawn], true_O[drawn]))
        assert class_mean_of(hits(rank_O, 1), true_O)(row)[0] == pytest.approx(macro_top_k(rank_O[drawn], true_O[drawn], 1))
        assert macro_f1_of(true_O, predicted_O)(row)[0] == pytest.approx(macro_f1(true_O[drawn], predicted_O[drawn]))


def test_the_interval_is_that_of_scipy() -> None:
    true_O, _, rank_O = simulated(400, 20, seed=1)
    right_O = hits(rank_O, 1)
    ours = bootstrap({"top_1": mean_of(right_O), "macro": class_mean_of(right_O, true_O)}, 400, resamples=4000, seed=3)
    options = {"method": "percentile", "n_resamples": 4000, "rng": np.random.default_rng(9)}
    plain = scipy.stats.bootstrap((right_O,), np.mean, **options).confidence_interval
    macro = scipy.stats.bootstrap((right_O, true_O), class_mean, paired=True, vectorized=False, **options).confidence_interval
    # Two runs of 4,000 resamples differ by about 0.002 at the ends.
    assert (ours["top_1"].low, ours["top_1"].high) == pytest.approx((plain.low, plain.high), abs=0.006)
    assert (ours["macro"].low, ours["macro"].high) == pytest.approx((macro.low, macro.high), abs=0.008)


def test_the_true_value_lies_inside_as_often_as_promised() -> None:
    # 200 test parts of 200 observations, true accuracy 0.7: 95 % of the intervals should hold it (binomial: 182 to 197).
    generator = np.random.default_rng(0)
    held = 0
    for seed in range(200):
        interval = bootstrap({"": mean_of(generator.random(200) < 0.7)}, 200, resamples=400, seed=seed)[""]
        held += interval.low <= 0.7 <= interval.high
    assert 178 <= held <= 199


def test_centring_puts_the_interval_of_macro_f1_round_its_value() -> None:
    true_O, predicted_O, _ = simulated(2000, 600, seed=2)
    statistics = {"macro_f1": macro_f1_of(true_O, predicted_O)}
    plain = bootstrap(statistics, 2000, resamples=300)["macro_f1"]
    moved = bootstrap(statistics, 2000, resamples=300, centred=["macro_f1"])["macro_f1"]
    assert plain.value == moved.value == pytest.approx(macro_f1(true_O, predicted_O))
    width = plain.high - plain.low
    assert plain.value > (plain.low + plain.high) / 2 + width / 4, "the case was meant to show the fault of the plain interval"
    assert moved.low < moved.value < moved.high
    assert moved.high - moved.low == pytest.approx(width)
    assert moved.value == pytest.approx((moved.low + moved.high) / 2, abs=width / 10)
    sure = {"macro_f1": macro_f1_of(true_O, true_O)}
    assert bootstrap(sure, 2000, resamples=20, centred=["macro_f1"])["macro_f1"].high == 1


def test_same_seed_same_interval_whatever_the_size_of_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    right_O = simulated(300, 5, seed=4)[2] == 1
    first = bootstrap({"": mean_of(right_O)}, 300, resamples=100, seed=5)
    assert bootstrap({"": mean_of(right_O)}, 300, resamples=100, seed=5) == first
    assert bootstrap({"": mean_of(right_O)}, 300, resamples=100, seed=6) != first
    monkeypatch.setattr("taxakey.metrics.intervals._NUMBERS_AT_ONCE", 700)
    assert bootstrap({"": mean_of(right_O)}, 300, resamples=100, seed=5) == first


def test_a_seed_draws_what_numpy_draws() -> None:
    weights_RO = np.concatenate(list(resamplings(50, resamples=5, level=0.95, seed=3)))
    drawn = np.random.default_rng(3).integers(0, 50, (5, 50))
    assert (weights_RO == [np.bincount(row, minlength=50) for row in drawn]).all()


def test_a_macro_mean_is_the_plain_one_and_its_spread_that_of_strata() -> None:
    """Against the variance worked out class by class: s²/n, and of single observations their spread about their own mean."""
    true_O, _, rank_O = simulated(400, 120, seed=8)
    right_O = hits(rank_O, 1)
    groups = [right_O[true_O == label] for label in np.unique(true_O)]
    alone = np.array([each[0] for each in groups if len(each) == 1])
    assert 10 < len(alone) < len(groups) - 10
    variance = sum(each.var(ddof=1) / len(each) for each in groups if len(each) > 1) + len(alone) * alone.var(ddof=1)
    weights_RO = np.concatenate(list(resamplings(400, resamples=4000, level=0.95, seed=0)))
    drawn_R = macro_mean_of(right_O, true_O)(weights_RO)
    assert macro_mean_of(right_O, true_O)(np.ones((1, 400)))[0] == pytest.approx(class_mean(right_O, true_O))
    assert drawn_R.mean() == pytest.approx(class_mean(right_O, true_O), abs=0.002)
    assert drawn_R.std() == pytest.approx(np.sqrt(variance) / len(groups), rel=0.04)  # 4,000 draws: 1.1 %


def test_the_interval_of_a_macro_mean_keeps_its_promise_in_a_long_tail() -> None:
    """Rare species are named worse, half of them have one observation: the plain bootstrap holds the truth in 91 % or fewer."""
    generator, parts, held = np.random.default_rng(1), 150, {"plain": 0, "strata": 0}
    share = 1 / np.arange(1, 401)
    known_C = np.clip(generator.beta(4, 1, 400) * (0.5 + 0.5 * share**0.25), 0, 1)
    for seed in range(parts):
        true_O = generator.choice(400, 1200, p=share / share.sum())
        right_O = generator.random(1200) < known_C[true_O]
        truth = known_C[np.unique(true_O)].mean()
        statistics = {"plain": class_mean_of(right_O, true_O), "strata": macro_mean_of(right_O, true_O)}
        for name, found in bootstrap(statistics, 1200, resamples=200, seed=seed).items():
            held[name] += found.low <= truth <= found.high
    assert held["strata"] >= 0.92 * parts
    assert held["plain"] < held["strata"]


def test_a_macro_mean_stays_within_its_values() -> None:
    weights_RO = np.concatenate(list(resamplings(6, resamples=200, level=0.95, seed=0)))
    drawn_R = macro_mean_of([1, 1, 1, 1, 1, 0], [0, 0, 1, 1, 2, -1])(weights_RO)
    assert (drawn_R == 1).all(), "the one that is wrong has no label"
    assert macro_mean_of([1, 0, 1, 1, 1, 1], [0, 0, 1, 1, 2, 3])(weights_RO).max() <= 1
    assert np.isnan(macro_mean_of([1, 0], [-1, -1])(np.ones((3, 2)))).all()


def test_resamples_without_a_value_are_left_out() -> None:
    # One answered observation of three: a resample misses it with (2/3)^3 = 30 %, and where it is drawn it is right.
    interval = bootstrap({"": ratio_of([1, 0, 0], [1, 0, 0])}, 3, resamples=50)[""]
    assert (interval.value, interval.low, interval.high) == (1, 1, 1)


@pytest.mark.parametrize("options", [{"resamples": 1}, {"level": 1.0}, {"level": 0.0}])
def test_impossible_settings_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(BadInput, match="two resamples and a level"):
        bootstrap({"": mean_of([1.0])}, 1, **options)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="0 observations"):
        bootstrap({}, 0)


def test_a_thousand_resamples_of_thirty_thousand_observations_take_seconds() -> None:
    true_O, predicted_O, rank_O = simulated(30_000, 1000, seed=6)
    begun = time.monotonic()
    bootstrap({"f1": macro_f1_of(true_O, predicted_O), "macro": class_mean_of(hits(rank_O, 1), true_O)}, 30_000, resamples=1000)
    assert time.monotonic() - begun < 15  # 1 s on an idle core of 2026; far more room for a busy machine


@given(st.integers(4, 60), st.integers(0, 10_000))
def test_a_weighted_area_under_the_roc_curve_is_that_of_the_drawn_rows(rows: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    sureness_O = generator.integers(0, 6, rows) / 5  # with ties
    known_O = generator.random(rows) < 0.6
    missing_O = generator.random(rows) < 0.1
    statistic = auroc_of(np.where(missing_O, np.nan, sureness_O), known_O)
    for weights_O in generator.multinomial(rows, np.full(rows, 1 / rows), size=3):
        drawn = np.repeat(np.arange(rows), np.where(missing_O, 0, weights_O))
        value = statistic(weights_O[None].astype(np.float64))[0]
        if known_O[drawn].any() and not known_O[drawn].all():
            assert value == pytest.approx(auroc(sureness_O[drawn], known_O[drawn]))
        else:
            assert np.isnan(value)
