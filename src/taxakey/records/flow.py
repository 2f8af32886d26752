"""What became of every record, step by step: flow.json, and its lines for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from taxakey.artifacts import read_json, write_json
from taxakey.errors import BadInput


@dataclass(frozen=True)
class Step:
    """`kept`: rows that the step left; `dropped`: how many it took away, by reason."""

    step: str
    kept: int
    dropped: Mapping[str, int]


def write_flow(path: Path | str, steps: Iterable[Step]) -> None:
    """Write flow.json, a list of {"step", "kept", "dropped": {reason: number}}."""
    write_json(path, [asdict(step) for step in steps])


def read_flow(path: Path | str) -> tuple[Step, ...]:
    """Read what `write_flow` wrote.

    Raises BadInput where it isn't that, or where a step's numbers don't add up: what the step before kept must be what this one
    kept and dropped.
    """
    path = Path(path)
    steps = tuple(_step(entry, path) for entry in _entries(read_json(path), path))
    for before, after in pairwise(steps):
        if before.kept != after.kept + sum(after.dropped.values()):
            raise BadInput(
                f"{path}: the step {before.step!r} kept {before.kept:,}, but {after.step!r} accounts for "
                f"{after.kept + sum(after.dropped.values()):,} (kept {after.kept:,}); write the selection again"
            )
    return steps


def flow_lines(steps: Sequence[Step]) -> list[str]:
    """The account for people: a line a step, and one for each reason of dropping."""
    lines = []
    for step in steps:
        lines.append(f"{step.kept:>12,}  {step.step}")
        lines += [f"{-number:>12,}    {reason}" for reason, number in step.dropped.items()]
    return lines


def _entries(content: Any, path: Path) -> list[Any]:
    if not isinstance(content, list) or not content:
        raise BadInput(f"{path}: not a list of steps; write the selection again")
    return content


def _step(entry: Any, path: Path) -> Step:
    try:
        step = Step(str(entry["step"]), entry["kept"], dict(entry["dropped"]))
        numbers = [step.kept, *step.dropped.values()]
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{path}: a step lacks step, kept or dropped ({error!r}); write the selection again") from None
    if not all(isinstance(number, int) and not isinstance(number, bool) and number >= 0 for number in numbers):
        raise BadInput(f"{path}: the step {step.step!r} has numbers that count nothing; write the selection again")
    return step
