"""What is wrong with a file, gathered so that a fault of a million rows is one line to read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_SHOWN = 3


@dataclass(frozen=True)
class Fault:
    """`lines`: the first lines that have it, from 1; `count`: how many have it; none where it is the file's as a whole.

    `rejects`: False for what organisers take though it is seldom meant.
    """

    text: str
    lines: tuple[int, ...] = ()
    count: int = 0
    rejects: bool = True

    def __str__(self) -> str:
        if not self.lines:
            return self.text
        numbers = ", ".join(f"{line:,}" for line in self.lines)
        more = f" and {self.count - len(self.lines):,} more" if self.count > len(self.lines) else ""
        return f"line{'s' if self.count > 1 else ''} {numbers}{more}: {self.text}"


class Faults:
    """A list that faults are added to."""

    def __init__(self) -> None:
        self.found: list[Fault] = []

    def __bool__(self) -> bool:
        """Whether one of them rejects the file."""
        return any(fault.rejects for fault in self.found)

    def file(self, text: str, *, rejects: bool = True) -> None:
        """A fault of the file as a whole."""
        self.found.append(Fault(text, rejects=rejects))

    def rows(self, bad_N: NDArray[np.bool_], line_N: NDArray[np.int64], text: str, *, rejects: bool = True) -> None:
        """A fault of some rows, if there are such."""
        lines = np.sort(line_N[bad_N])
        if len(lines):
            self.found.append(Fault(text, tuple(lines[:_SHOWN].tolist()), len(lines), rejects))


def named(values: Sequence[object] | Iterable[object]) -> str:
    """`7, 9, 12 and 40 more`."""
    values = list(values)
    more = f" and {len(values) - _SHOWN:,} more" if len(values) > _SHOWN else ""
    return ", ".join(str(value) for value in values[:_SHOWN]) + more
