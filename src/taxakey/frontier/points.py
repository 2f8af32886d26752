"""Models as points between accuracy and cost, those that no other beats, and the best one within limits.

Costs that weren't measured are None: such a point is never on the frontier of that cost, and never within a limit of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from taxakey.evaluation.ensembles import FIGURES
from taxakey.metrics.intervals import Interval


class Cost(NamedTuple):
    title: str
    more_is_better: bool
    meaning: str


COSTS = {
    "parameters": Cost("parameters", False, "numbers in the model, of an ensemble in all members"),
    "bytes": Cost("bytes", False, "of the weights' files"),
    "multiply_adds": Cost("multiply-adds", False, "of one picture from pixels to the scores of all classes"),
    "pictures_per_second": Cost("pictures/s", True, "decoding included, batches of 16, median of the rounds"),
    "training_seconds": Cost("training, s", False, "of the run alone, without the backbone's pretraining and the embeddings"),
}


@dataclass(frozen=True)
class Point:
    """A model or an ensemble with what it reaches and costs."""

    name: str
    figures: Mapping[str, Interval]
    costs: Mapping[str, float | None]


@dataclass(frozen=True)
class Limits:
    """What is allowed; None: anything."""

    bytes: float | None = None
    multiply_adds: float | None = None
    parameters: float | None = None
    pictures_per_second: float | None = None

    @property
    def given(self) -> dict[str, float]:
        return {name: value for name, value in asdict(self).items() if value is not None}

    def allow(self, point: Point) -> bool:
        """Whether every cost is known and within its limit."""
        return all(_within(point.costs.get(name), name, limit) for name, limit in self.given.items())


def _within(value: float | None, name: str, limit: float) -> bool:
    if value is None:
        return False
    return value >= limit if COSTS[name].more_is_better else value <= limit


def non_dominated(points: Sequence[Point], figure: str, cost: str) -> list[Point]:
    """Points that none equals or beats in both figure and cost while beating it in one, cheapest first."""
    sign = -1.0 if COSTS[cost].more_is_better else 1.0
    known = [
        (sign * value, -point.figures[figure].value, point) for point in points if (value := point.costs.get(cost)) is not None
    ]
    kept = [
        (price, loss, point)
        for price, loss, point in known
        if not any(p <= price and q <= loss and (p < price or q < loss) for p, q, _ in known)
    ]
    return [point for _, _, point in sorted(kept, key=lambda entry: entry[:2])]


def best(points: Sequence[Point], figure: str, limits: Limits) -> Point | None:
    """The point with the largest figure within the limits; None where none is."""
    allowed = [point for point in points if limits.allow(point)]
    return max(allowed, key=lambda point: point.figures[figure].value, default=None)


def as_json(points: Sequence[Point], observations: int) -> dict[str, Any]:
    """Plain JSON values: the points, and for each figure and cost the names on the frontier."""
    frontiers = {
        figure: {cost: [point.name for point in non_dominated(points, figure, cost)] for cost in COSTS} for figure in FIGURES
    }
    return {"observations": observations, "points": [asdict(point) for point in points], "frontiers": frontiers}
