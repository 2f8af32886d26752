"""Figures of many members and rules at once equal those that the plain bootstrap gives one after another."""

from __future__ import annotations

import numpy as np
import pytest

from taxakey.errors import BadInput
from taxakey.evaluation.ensembles import judged_figures
from taxakey.metrics.accuracy import hits
from taxakey.metrics.intervals import bootstrap, difference_of, macro_mean_of, ratio_of
from taxakey.metrics.ranking import reciprocal_ranks
from taxakey.prediction.ensemble import Answered


def drawn(rows: int, ways: int) -> tuple[dict[str, Answered], np.ndarray]:
    """Made-up ranks; a tenth of the rows of unknown species, some classes with a single row."""
    generator = np.random.default_rng(0)
    label_O = np.where(generator.random(rows) < 0.1, -1, generator.geometric(0.2, rows) * 3)
    nothing = np.zeros(rows)
    ranks = np.where(label_O < 0, 0, generator.geometric(0.5, (ways, rows)))
    return {f"way {v}": Answered(nothing, ranks[v], nothing.astype(int), nothing) for v in range(ways)}, label_O


def test_figures_and_paired_differences_as_one_by_one() -> None:
    found, label_O = drawn(300, 4)
    known_O = label_O >= 0
    statistics = {}
    for name, of in found.items():
        top_1 = hits(of.true_rank_O, 1)
        statistics[name, "top_1"] = ratio_of(top_1 * known_O, known_O)
        statistics[name, "macro_top_1"] = macro_mean_of(top_1, label_O)
        statistics[name, "ma_mrr"] = macro_mean_of(reciprocal_ranks(of.true_rank_O), label_O)
    asked = {f"{name} {metric}": one for (name, metric), one in statistics.items()}
    asked |= {
        f"{name} {metric} less": difference_of(one, statistics["way 2", metric]) for (name, metric), one in statistics.items()
    }
    expected = bootstrap(asked, 300, resamples=150, seed=4)
    for name, (own, less) in judged_figures(found, label_O, ["way 2"], resamples=150, seed=4).items():
        for metric in own:
            for mine, theirs in ((own[metric], expected[f"{name} {metric}"]), (less[metric], expected[f"{name} {metric} less"])):
                np.testing.assert_allclose([mine.value, mine.low, mine.high], [theirs.value, theirs.low, theirs.high], atol=1e-6)
                assert (mine.level, mine.resamples) == (theirs.level, theirs.resamples)
    assert {
        interval.value for interval in judged_figures(found, label_O, ["way 2"], resamples=2, seed=0)["way 2"][1].values()
    } == {0}


def test_without_labels_nothing_is_judged() -> None:
    found, label_O = drawn(20, 2)
    with pytest.raises(BadInput, match="no observation's species is known"):
        judged_figures(found, np.full_like(label_O, -1), [], resamples=10, seed=0)
