"""What the organisers of each challenge take.

plantclef2022    obsid;classid;probability;rank, no header, at most 30 rows an observation (the test data's own description)
herbarium2022    Id,Predicted: one category_id a picture (Kaggle; NAFlora-1M)
fungiclef2023    observationID,class_id: one an observation, -1 for a species that isn't in training (the organisers' evaluate.py)
fungiclef2024    observation_id,class_id: the same under the names of the year after (the organisers' sample script)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from taxakey.errors import BadInput

UNKNOWN = -1


@dataclass(frozen=True)
class Format:
    """One kind of file.

    `columns`: id and class, and for ranked answers probability and rank. `header`: whether they stand in the first line. `most`:
    rows for one id. `unknown`: whether -1 may be answered. `complete`: whether every id must be there (else a missing one is a
    species not found). `others`: whether further columns are read over. `ids`, `classes`: names under which organisers keep both
    elsewhere (test metadata, ground truth), in lower case without underscores.
    """

    name: str
    columns: tuple[str, ...]
    ids: tuple[str, ...]
    classes: tuple[str, ...]
    level: Literal["observation", "image"] = "observation"
    separator: str = ","
    header: bool = True
    most: int = 1
    unknown: bool = False
    complete: bool = True
    others: bool = False

    @property
    def ranked(self) -> bool:
        """Whether an observation has several answers, each with probability and rank."""
        return len(self.columns) > 2

    @property
    def example(self) -> str:
        """The first line as it should be."""
        return self.separator.join(self.columns)


_CLASSES = ("classid", "speciesid", "categoryid", "predicted", "taxonid")
_OBSERVATIONS = ("obsid", "observationid", "occurrenceid")
_FUNGI = Format(
    "fungiclef2023", ("observationID", "class_id"), _OBSERVATIONS, _CLASSES, unknown=True, others=True,
)  # fmt: skip
FORMATS = {
    made.name: made
    for made in (
        Format(
            "plantclef2022", ("obsid", "classid", "probability", "rank"), _OBSERVATIONS, _CLASSES,
            separator=";", header=False, most=30, complete=False,
        ),
        Format("herbarium2022", ("Id", "Predicted"), ("id", "imageid"), _CLASSES, level="image"),
        _FUNGI,
        replace(_FUNGI, name="fungiclef2024", columns=("observation_id", "class_id")),
    )
}  # fmt: skip


def format_of(name: str) -> Format:
    """The format of that name; raises BadInput."""
    if name not in FORMATS:
        raise BadInput(f"unknown challenge {name!r}; one of {', '.join(FORMATS)}")
    return FORMATS[name]
