"""What a report holds, as plain frozen values; how it looks is the affair of `taxakey.report`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from taxakey.evaluation.analyses import Analyses, counts_label
from taxakey.evaluation.meanings import Definition
from taxakey.metrics.calibration_error import ReliabilityPoint
from taxakey.metrics.intervals import Interval

FORMAT = 2
"""Of `report.json`; rises when a key goes or changes its meaning. The keys are in docs/report.md."""


@dataclass(frozen=True)
class Unsure:
    """How the threshold that was set on validation did here: below it an answer is called unsure."""

    threshold: float
    target_precision: float | None
    answered: Interval
    """Share of observations at or above the threshold."""
    precision: Interval | None
    """Share of right answers among them; None where none was answered."""
    outside_model: int
    """Observations of species that the model doesn't hold."""
    outside_model_unsure: int
    """How many of those were called unsure, as they should be."""


@dataclass(frozen=True)
class CalibrationFigures:
    """Whether the probability of the first answer is what it says, at species."""

    expected_calibration_error: float
    error_by_chance: float
    """What it would come to here had every promise been kept."""
    negative_log_likelihood: float | None
    """Over the observations whose species the model holds; None where there are none."""
    mean_confidence: float
    top_1: float
    points: tuple[ReliabilityPoint, ...]
    unsure: Unsure | None


@dataclass(frozen=True)
class TrainImagesBin:
    """Species with `low` to `high` training photographs (None: no upper end), and the mean of their top-1."""

    low: int
    high: int | None
    species: int
    observations: int
    top_1: Interval

    @property
    def label(self) -> str:
        return counts_label(self.low, self.high)


@dataclass(frozen=True)
class SpeciesRow:
    """One species of the part. `in_model` is false where the model has no class for it; `train_images` None: not known."""

    scientific_name: str
    vernacular_name: str
    genus: str
    family: str
    in_model: bool
    train_images: int | None
    observations: int
    top_1: float
    top_5: float
    taken_for: str | None
    """What its wrong answers said most often."""


@dataclass(frozen=True)
class Answer:
    """One line of a ranked answer."""

    scientific_name: str
    vernacular_name: str
    probability: float


@dataclass(frozen=True)
class Example:
    """One observation with the first answers to it. `true_rank` is 0 where the model has no class for the species."""

    observation_id: str
    image_id: str | None
    images: int
    true_name: str
    true_vernacular_name: str
    true_rank: int
    true_probability: float
    answers: tuple[Answer, ...]


@dataclass(frozen=True)
class Examples:
    """Observations worth looking at, each of another species."""

    right: tuple[Example, ...] = ()
    """Right and sure."""
    wrong: tuple[Example, ...] = ()
    """Wrong and sure."""
    near: tuple[Example, ...] = ()
    """Second by a hair."""


@dataclass(frozen=True)
class ConfusedPair:
    """A species that was taken for another one, with a picture that was, and a training picture of the other one."""

    true_name: str
    predicted_name: str
    count: int
    observations: int
    """Observations of the true species, right ones included."""
    share: float
    kinship: str
    """"same genus", "same family", "other family", or "" where a family isn't known."""
    image_id: str | None
    predicted_image_id: str | None


@dataclass(frozen=True)
class Epoch:
    """One row of the learning curves; None where a figure wasn't measured."""

    epoch: int
    train_loss: float | None
    validation_loss: float | None
    validation_top_1: float | None
    validation_macro_top_1: float | None


@dataclass(frozen=True)
class SourceFacts:
    """One artifact that the report rests on. `name` is the last part of its path: reports are passed on, paths are private."""

    kind: str
    name: str
    created: str
    taxakey: str
    seed: int | None
    taxonomy: str | None
    recipe: Mapping[str, Any]
    counts: Mapping[str, int]
    packages: Mapping[str, str]
    digest: str
    """SHA-256 of its manifest."""


@dataclass(frozen=True)
class Report:
    """Everything that was measured on one part of a dataset."""

    title: str
    part: str
    created: str
    notes: tuple[str, ...]
    """What a reader of the figures must know first."""
    counts: Mapping[str, int]
    figures: Mapping[str, Mapping[str, Interval]]
    """Rank -> metric -> figure; a rank at which no name is known, or the model has no taxon, is absent."""
    single_photographs: Mapping[str, float] | None
    """The same at species with one photograph at a time; None where every observation has one photograph."""
    calibration: CalibrationFigures
    by_train_images: tuple[TrainImagesBin, ...]
    curves: tuple[Epoch, ...]
    confused: tuple[ConfusedPair, ...]
    examples: Examples
    species: tuple[SpeciesRow, ...]
    analyses: Analyses
    sources: tuple[SourceFacts, ...]
    definitions: Mapping[str, Definition]
    """What each figure means, how it is computed, and where that comes from; see `meanings`."""
    intervals: str
    inputs: Mapping[str, str]
    settings: Mapping[str, float]
    command: str
    """What makes this report again, with the names of the folders in place of their paths."""
    packages: Mapping[str, str]
    """Versions behind the figures of this report itself; what the model was made with stands in `sources`."""
    thumbnails: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    """image_id -> JPEG of the pictures that the report shows; not part of the JSON."""

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values, without the pictures."""
        values = asdict(self)
        del values["thumbnails"]
        return {"format": FORMAT, **values}
