"""Whether organisers would take a file, and every reason why not.

Shapes: N rows, I ids in the file, E expected ids.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from taxakey.errors import BadInput
from taxakey.evaluation.challenges.faults import Fault, Faults, named
from taxakey.evaluation.challenges.formats import UNKNOWN, Format
from taxakey.evaluation.challenges.lists import class_ids, expected_ids
from taxakey.evaluation.challenges.reading import Submission, read_submission


@dataclass(frozen=True)
class Checked:
    """`rows`, `ids`: how many rows were read, of how many observations or pictures."""

    rows: int
    ids: int
    faults: tuple[Fault, ...]

    @property
    def accepted(self) -> bool:
        return not any(fault.rejects for fault in self.faults)


def check(path: Path | str, format: Format, *, expected: Path | str | None = None, classes: Path | str | None = None) -> Checked:
    """All faults of a file. `expected`: a list of the ids that must be in it, `classes`: of the classes that may (see `lists`).

    Raises BadInput where there is no file, or a list can't be read.
    """
    faults = Faults()
    wanted = None if expected is None else expected_ids(expected, format)
    known = None if classes is None else class_ids(classes, format)
    rows = read_submission(path, format, faults)
    return check_rows(rows, format, faults, wanted, known)


def check_rows(
    rows: Submission, format: Format, faults: Faults, expected: pa.Array | None, classes: NDArray[np.int64] | None
) -> Checked:
    """What is wrong with rows that have been read, besides what `faults` holds already."""
    encoded = rows.id_N.combine_chunks().dictionary_encode()
    code_N = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    if format.ranked:
        _ranks(rows, code_N, format, faults)
    else:
        again_N = _repeated(code_N, np.zeros(len(rows), np.int64), rows.line_N)
        faults.rows(again_N, rows.line_N, f"repeats an {format.columns[0]} that stands further up; leave one of them")
    if classes is not None:
        foreign_N = rows.valid_N & ~np.isin(rows.class_N, classes) & ~(format.unknown & (rows.class_N == UNKNOWN))
        faults.rows(foreign_N, rows.line_N, f"has a {format.columns[1]} that isn't in the list of classes")
    if expected is not None and len(rows):
        _expected(encoded, code_N, rows, expected, format, faults)
    return Checked(len(rows), len(encoded.dictionary), tuple(faults.found))


def require(checked: Checked, path: Path | str) -> None:
    """Raise BadInput with all that rejects the file."""
    if not checked.accepted:
        reasons = "; ".join(str(fault) for fault in checked.faults if fault.rejects)
        raise BadInput(f"{path}: would be rejected: {reasons}")


def _ranks(rows: Submission, code_N: NDArray[np.int64], format: Format, faults: Faults) -> None:
    """Of each observation: at most so many rows, no class or rank twice, ranks from 1 without gaps, probabilities that fall."""
    line_N, id_name = rows.line_N, format.columns[0]
    order = np.argsort(code_N, kind="stable")
    starts = np.flatnonzero(np.diff(code_N[order], prepend=-1))
    place_N = np.empty(len(rows), np.int64)  # which row of its observation it is, from 0
    place_N[order] = np.arange(len(rows)) - np.repeat(starts, np.diff(np.append(starts, len(rows))))
    faults.rows(place_N == format.most, line_N, f"is row {format.most + 1} of its {id_name}; at most {format.most} are taken")
    valid_N = rows.valid_N
    doubled_N = _repeated(code_N, rows.class_N, line_N) & valid_N
    faults.rows(doubled_N, line_N, f"repeats a class of its {id_name}")
    tied_N = _repeated(code_N, rows.rank_N, line_N) & valid_N
    faults.rows(tied_N, line_N, f"repeats a rank of its {id_name}")
    # Where a value isn't a number or a rank stands twice, gaps would only say the same again.
    sound_N = ~np.isin(code_N, code_N[~valid_N | tied_N])
    order = np.lexsort((rows.rank_N, code_N))
    order = order[sound_N[order]]
    first = np.diff(code_N[order], prepend=-1) != 0
    rank_n, line_n = rows.rank_N[order], line_N[order]
    before_n = np.where(first, 0, np.concatenate([[0], rank_n[:-1]])) if len(order) else rank_n
    faults.rows(first & (rank_n < 1), line_n, "has rank 0 or less; ranks begin at 1")
    faults.rows((rank_n != before_n + 1) & (rank_n >= 1) & ~((before_n < 0) & ~first), line_n, "leaves out a rank before its own")
    p_n = rows.probability_N[order]
    rises_n = ~first & (np.diff(p_n, prepend=np.inf) > 0)
    faults.rows(rises_n, line_n, "has a higher probability than the rank before it")
    faults.rows((p_n < 0) | (p_n > 1), line_n, "has a probability outside 0 to 1; only the order counts", rejects=False)


def _repeated(code_N: NDArray[np.int64], value_N: NDArray[np.int64], line_N: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Rows whose pair of code and value stood in an earlier line."""
    order = np.lexsort((line_N, value_N, code_N))
    same = (np.diff(code_N[order]) == 0) & (np.diff(value_N[order]) == 0)
    repeated_N = np.zeros(len(code_N), bool)
    repeated_N[order[1:]] = same
    return repeated_N


def _expected(
    encoded: pa.DictionaryArray, code_N: NDArray[np.int64], rows: Submission, expected: pa.Array, format: Format, faults: Faults
) -> None:
    ids = encoded.dictionary
    foreign_I = pc.invert(pc.is_in(ids, expected)).to_numpy(zero_copy_only=False)
    kind = "picture" if format.level == "image" else "observation"
    shown = named(_some(ids.filter(pa.array(foreign_I))))
    faults.rows(foreign_I[code_N], rows.line_N, f"is of no {kind} that is expected ({shown})")
    missing = expected.filter(pc.invert(pc.is_in(expected, ids)))
    if len(missing):
        text = f"{len(missing):,} of {len(expected):,} expected {kind}s are missing ({named(_some(missing))})"
        also = "" if format.complete else "; they count as not found"
        faults.file(text + also, rejects=format.complete)


def _some(ids: pa.Array) -> Iterator[str]:
    """The first few for a message, and as many blanks as there are others."""
    yield from ids[:3].to_pylist()
    yield from ("" for _ in range(len(ids) - 3))
