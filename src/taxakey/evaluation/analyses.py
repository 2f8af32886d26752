"""What is asked of the figures after the fact, as plain frozen values; part of a Report, see `content`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from taxakey.metrics.differences import Difference
from taxakey.metrics.intervals import Interval
from taxakey.metrics.saturation import Saturation
from taxakey.metrics.variance import VarianceAnalysis


@dataclass(frozen=True)
class CountBin:
    """Species with `low` to `high` training photographs (both included; `high` None: no upper end)."""

    low: int
    high: int | None
    species: int
    observations: int
    mean: float
    """Mean over the species of their top-1."""
    standard_error: float | None
    """Of that mean, over the species; None for a single one."""

    @property
    def label(self) -> str:
        return counts_label(self.low, self.high)


def counts_label(low: int, high: int | None) -> str:
    """`5–9`, `90+`, `7`."""
    if high is None:
        return f"{low:,}+"
    return f"{low:,}" if low == high else f"{low:,}–{high:,}"


@dataclass(frozen=True)
class Third:
    """A third of the model's species by number of training photographs: "tail", "middle" or "head"."""

    name: str
    low: int
    high: int
    species: int
    """Of these, the ones that occur in this part."""
    observations: int
    top_1: Interval

    @property
    def label(self) -> str:
        return counts_label(self.low, self.high)


@dataclass(frozen=True)
class Rarity:
    """Accuracy against number of training photographs."""

    tens: tuple[CountBin, ...]
    """The bins of NAFlora-1M."""
    quantiles: tuple[CountBin, ...]
    """About equally many species in each."""
    thirds: tuple[Third, ...]
    saturation: Saturation | None
    images_by_percent: Mapping[int, float]
    """Top-1 in whole per cent, rounded down -> mean number of training photographs of the species with it."""
    above_90: int
    """Species of which more than 90 % were named rightly."""


@dataclass(frozen=True)
class TaxonFigure:
    """A family: the mean over its species of their top-1."""

    name: str
    species: int
    observations: int
    top_1: float
    standard_error: float


@dataclass(frozen=True)
class BestAndWorst:
    """The families that are named best and worst; none stands in both lists."""

    best: tuple[TaxonFigure, ...]
    worst: tuple[TaxonFigure, ...]
    least_species: int
    """Families with fewer species in this part aren't ranked."""
    ranked: int
    families: int


@dataclass(frozen=True)
class ConfusedGenera:
    """A genus that was taken for another one, at genus."""

    true_name: str
    predicted_name: str
    count: int
    observations: int
    share: float
    same_family: bool | None
    """None where a family isn't known."""


@dataclass(frozen=True)
class DistanceStep:
    """Errors whose truth and answer have their last common ancestor at `rank` ("" : none among the ranks known)."""

    height: int
    rank: str
    errors: int
    share: float


@dataclass(frozen=True)
class ErrorDistance:
    """How far off the wrong answers are."""

    mean: Interval
    """Mean number of ranks up to the last common ancestor: 1 is another species of the genus."""
    steps: tuple[DistanceStep, ...]
    errors: int


@dataclass(frozen=True)
class Group:
    """One institution, organ or month."""

    name: str
    rows: int
    species: int
    top_1: Interval
    from_rest: Difference | None
    """Top-1 here minus that of all other groups; None where there is no other."""
    corrected_p_value: float | None
    """The larger of the paired bootstrap's and Fisher's exact one, corrected for the number of groups of this kind (Holm)."""


@dataclass(frozen=True)
class Grouping:
    """`by`: "institution", "organ" or "month"; `rows` count observations, for organs single photographs."""

    by: str
    groups: tuple[Group, ...]
    left_out: int
    """Further groups with too few rows to be shown."""
    rows_without: int
    """Rows whose group isn't given, or whose photographs disagree."""


@dataclass(frozen=True)
class CostFigures:
    """What the first answers cost where poisonous species are marked; see metrics/costs.py."""

    poisonous_species: int
    poisonous_observations: int
    figures: Mapping[str, Interval]


@dataclass(frozen=True)
class AnswerSets:
    """Answer sets of k species on average; the threshold comes from validation."""

    k: int
    threshold: float
    average_k: Interval
    macro_average_k: Interval
    set_size: float
    """Species in a set here, on average."""


@dataclass(frozen=True)
class Analyses:
    """Everything; what can't be asked of these predictions is None or empty."""

    differences: Mapping[str, Difference] = field(default_factory=dict)
    rarity: Rarity | None = None
    variance: Mapping[str, VarianceAnalysis] = field(default_factory=dict)
    """"family", "genus" -> how much of the spread between species lies between them."""
    families: BestAndWorst | None = None
    confused_genera: tuple[ConfusedGenera, ...] = ()
    distance: ErrorDistance | None = None
    groupings: tuple[Grouping, ...] = ()
    costs: CostFigures | None = None
    answer_sets: tuple[AnswerSets, ...] = ()
