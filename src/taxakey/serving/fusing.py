"""How what is known of a specimen comes into its answer: as inputs of the network, and by the model's fusion. No torch.

Shapes: I pictures of one specimen, M metadata inputs, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from taxakey.errors import BadInput
from taxakey.metadata.encoder import MetadataEncoder, merged
from taxakey.metadata.observation import Known, as_table
from taxakey.prediction.fusion import Fusion, Pictures
from taxakey.prediction.fusion.season_place import NAME as PLACE

Floats = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Told:
    """What is known of one specimen: as inputs [M] of a network that takes any, and as a row for the fusion, if there is one."""

    inputs_M: NDArray[np.float32] | None
    row: pa.Table | None
    fusion: Fusion | None = None

    def answer(self, probabilities_IC: Floats) -> NDArray[np.float64]:
        """The answers to a specimen's pictures as one, [C]: their mean, or what the fusion makes of them and of what is known."""
        if self.fusion is None:
            return np.asarray(probabilities_IC.mean(axis=0))
        pictures = Pictures(probabilities_IC, np.zeros(len(probabilities_IC), dtype=np.int64))
        return np.asarray(
            self.fusion.with_known(self.fusion.of_pictures(pictures), _NOTHING if self.row is None else self.row)[0]
        )

    def gather(self) -> Gathered:
        """Where the answers to a specimen's pictures are put one by one."""
        return Gathered(self, one_by_one=self.fusion is not None and self.fusion.rule.name != "mean")


_NOTHING = pa.table({"nothing": pa.nulls(1)})


class Gathered:
    """A specimen's pictures so far: their sum, however many they are, unless the rule looks at each of them again."""

    def __init__(self, told: Told, *, one_by_one: bool) -> None:
        self._told, self._one_by_one = told, one_by_one
        self._kept: list[Floats] = []
        self._pictures = 0

    def add(self, probabilities_C: Floats) -> None:
        self._pictures += 1
        if self._one_by_one or not self._kept:
            self._kept.append(probabilities_C)
        else:
            self._kept[0] = self._kept[0] + probabilities_C

    def answer(self) -> NDArray[np.float64]:
        """[C]."""
        kept_IC = np.stack(self._kept)
        return self._told.answer(kept_IC if self._one_by_one else kept_IC / self._pictures)


@dataclass(frozen=True, eq=False)
class Teller:
    """What a model and its fusion can be told, together."""

    metadata: MetadataEncoder | None
    fusion: Fusion | None = None

    @property
    def asks(self) -> MetadataEncoder | None:
        """Terms and words of both; None where neither takes anything."""
        return merged(self.metadata, self.fusion.asks if self.fusion else None)

    @property
    def counted_twice(self) -> str:
        """What must be said where shares of species are corrected for besides; "" for a fusion without date and place.

        p(date, place | species) is the same under other shares only where these differ for another reason.
        """
        evidence = self.fusion.evidence if self.fusion else ()
        if not any(each.name in ("month", PLACE) for each in evidence):
            return ""
        return "Where shares differ because of the season or the place, a date or a place told besides counts twice."

    def tell(self, known: Known) -> Told:
        """Raises BadInput for what can't be taken, or can't be right."""
        asks = self.asks
        if asks is None:
            if given := [name for name, value in known.items() if value not in (None, "")]:
                raise BadInput(f"this model looks at photographs only and can't be told {', '.join(given)}; leave it out")
            return Told(None, None, self.fusion)
        row = as_table(asks, [known])
        return Told(None if self.metadata is None else self.metadata.encode(row)[0], row, self.fusion)
