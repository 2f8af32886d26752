"""What must hold for every metric of the family: order of rows, names of classes, rows that stand twice, types of numbers."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from metric_family import BETWEEN_0_AND_1, CLASSES, METRICS, NOT_OF_NAMES, Answers, answers

import taxakey.metrics

Figure = Callable[[Answers], float]
MODULES = [module.name for module in pkgutil.iter_modules(taxakey.metrics.__path__)]


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
@given(case=answers(), seed=st.integers(0, 1000))
def test_the_order_of_rows_changes_nothing(metric: Figure, case: Answers, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(case.true_O))
    assert metric(Answers(case.scores_OC[order], case.true_O[order])) == pytest.approx(metric(case), abs=1e-12)


@pytest.mark.parametrize("name", sorted(METRICS.keys() - NOT_OF_NAMES))
@given(case=answers(), seed=st.integers(0, 1000))
def test_naming_classes_in_another_order_changes_nothing(name: str, case: Answers, seed: int) -> None:
    # Without ties: among equal scores the order of classes decides, by definition.
    scores_OC = case.scores_OC + np.random.default_rng(seed).random(case.scores_OC.shape) / 8
    place = np.random.default_rng(seed).permutation(CLASSES - 1)
    renamed_OC = np.empty_like(scores_OC)
    renamed_OC[:, place] = scores_OC
    place = np.append(place, CLASSES - 1)
    renamed = Answers(renamed_OC, place[case.true_O], place)
    assert METRICS[name](renamed) == pytest.approx(METRICS[name](Answers(scores_OC, case.true_O)), abs=1e-12)


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
@given(case=answers())
def test_doubling_every_row_changes_nothing(metric: Figure, case: Answers) -> None:
    doubled = Answers(np.tile(case.scores_OC, (2, 1)), np.tile(case.true_O, 2))
    assert metric(doubled) == pytest.approx(metric(case), abs=1e-12)


@pytest.mark.parametrize("metric", BETWEEN_0_AND_1.values(), ids=BETWEEN_0_AND_1)
@given(case=answers())
def test_shares_lie_between_0_and_1(metric: Figure, case: Answers) -> None:
    assert 0 <= metric(case) <= 1


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_integer_and_float_types_change_nothing(metric: Figure) -> None:
    generator = np.random.default_rng(5)
    case = Answers(generator.integers(0, 8, (40, CLASSES - 1)) / 8, generator.integers(0, CLASSES, 40))
    other = Answers(case.scores_OC.astype(np.float32), case.true_O.astype(np.int16))
    # Probabilities made of float32 scores differ in the seventh digit.
    assert metric(other) == pytest.approx(metric(case), rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_run(name: str) -> None:
    result = doctest.testmod(importlib.import_module(f"taxakey.metrics.{name}"), extraglobs={"np": np})
    assert result.attempted > 0
    assert result.failed == 0
