"""Costs of mistakes as a person lists them: a CSV with true, answer and cost, by scientific name."""

from __future__ import annotations

import csv
import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from scipy import sparse

from taxakey.errors import BadInput
from taxakey.metrics.cost_matrix import Costs
from taxakey.taxonomy import Taxonomy

COLUMNS = ("true", "answer", "cost")


@dataclass(frozen=True)
class CostList:
    """What it costs to answer `answer` where `true` is right; a mistake that isn't listed costs 1, a right answer nothing."""

    file: Path
    cost: Mapping[tuple[str, str], float]

    @classmethod
    def read(cls, file: Path) -> CostList:
        """Raises BadInput with the line where one can't be right."""
        try:
            with open(file, newline="", encoding="utf-8-sig") as opened:
                reader = csv.DictReader(opened, restval="")
                if missing := [name for name in COLUMNS if name not in (reader.fieldnames or ())]:
                    raise BadInput(f"{file}: lacks the column {missing[0]}; costs are listed as {','.join(COLUMNS)}")
                rows = [(line, {name: (row[name] or "").strip() for name in COLUMNS}) for line, row in enumerate(reader, start=2)]
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise BadInput(f"{file}: can't be read as a CSV in UTF-8 ({error})") from None
        cost: dict[tuple[str, str], float] = {}
        for line, row in rows:
            pair = (row["true"], row["answer"])
            if pair in cost or pair[0] == pair[1] or not all(pair):
                raise BadInput(f"{file}, line {line}: {pair[0]!r} and {pair[1]!r}: two species, and each pair once")
            cost[pair] = _number(row["cost"], file, line)
        return cls(file, cost)

    def strangers(self, taxonomy: Taxonomy) -> list[str]:
        """Its names that aren't classes."""
        names = set(taxonomy.names)
        return sorted({name for pair in self.cost for name in pair} - names)

    @property
    def fingerprint(self) -> str:
        """Changes with any cost."""
        return hashlib.sha256(repr(sorted(self.cost.items())).encode()).hexdigest()[:16]

    def bind(self, taxonomy: Taxonomy) -> Costs:
        """The same among the classes of a model, or some of them; pairs with another name say nothing there."""
        place = {name: index for index, name in enumerate(taxonomy.names)}
        cells = [
            (place[true], place[answer], cost - 1)
            for (true, answer), cost in self.cost.items()
            if true in place and answer in place
        ]
        rows, columns, costs = zip(*cells, strict=True) if cells else ((), (), ())
        return Costs(1.0, pairs_CC=sparse.csr_array((list(costs), (list(rows), list(columns))), shape=(len(place),) * 2))


def _number(text: str, file: Path, line: int) -> float:
    try:
        cost = float(text)
    except ValueError:
        cost = math.nan
    if not math.isfinite(cost) or cost < 0:
        raise BadInput(f"{file}, line {line}: the cost is {text!r}; it is a number of 0 or more")
    return cost
