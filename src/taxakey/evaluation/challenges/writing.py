"""Predictions -> a challenge's file, checked before it gets its name.

Shapes: O rows of predictions, K of them in a portion, k answers taken of each, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from taxakey.artifacts import open_atomically, read_manifest
from taxakey.errors import BadInput
from taxakey.evaluation.challenges.checking import Checked, check_rows, require
from taxakey.evaluation.challenges.faults import Faults
from taxakey.evaluation.challenges.formats import UNKNOWN, Format
from taxakey.evaluation.challenges.lists import column, numbers_of_classes, read_list
from taxakey.evaluation.challenges.reading import read_submission
from taxakey.predictions import Predictions
from taxakey.progress import track
from taxakey.taxonomy import Taxonomy


@dataclass(frozen=True)
class WritingOptions:
    """`classes`: a list with scientificName and the challenge's number of each class; by default it is the taxonID that the
    challenge's layout gave the class. `ids`: a list with our image_id or occurrenceID and the challenge's own id, where pictures
    are numbered anew (test_pictures.csv of a published dataset). `unknown_below`: a best probability below it is answered by -1,
    as is a class that `classes` numbers so.
    """

    classes: Path | None = None
    ids: Path | None = None
    unknown_below: float | None = None

    def __post_init__(self) -> None:
        if self.unknown_below is not None and not 0 <= self.unknown_below <= 1:
            raise BadInput(f"unknown below {self.unknown_below}: a probability lies between 0 and 1")


def write(predictions: Path | str, format: Format, out: Path | str, options: WritingOptions = WritingOptions()) -> Checked:
    """Write the file of a predictions artifact; raises BadInput, and leaves nothing, where it would be rejected."""
    if options.unknown_below is not None and not format.unknown:
        raise BadInput(f"{format.name} has no unknown species; leave the threshold out")
    folder = Path(predictions)
    read_manifest(folder, "predictions")
    taxonomy = Taxonomy.read(folder / "taxonomy.parquet")
    number_C = numbers_of_classes(taxonomy.names, taxonomy.column("taxonID"), format, options.classes)
    table = folder / f"{format.level}s.parquet"
    id_of = _ids(table, format, options.ids)
    with open_atomically(out) as file:
        aside, size = Path(file.name), max(1, pq.read_metadata(table).num_rows)
        if format.header:
            file.write(f"{format.example}\n".encode())
        plain = pa.csv.WriteOptions(include_header=False, delimiter=format.separator, quoting_style="none")
        portions = track(Predictions.portions(table), f"writing {Path(out).name}", total=-(-size // 20_000))
        for portion in portions:
            pa.csv.write_csv(_rows(portion, id_of, number_C, format, options.unknown_below), file, plain)
        file.flush()
        faults = Faults()
        checked = check_rows(read_submission(aside, format, faults), format, faults, None, np.unique(number_C))
        require(checked, out)
    return checked


def _rows(
    portion: Predictions,
    id_of: Callable[[pa.ChunkedArray], pa.Array],
    number_C: NDArray[np.int64],
    format: Format,
    unknown_below: float | None,
) -> pa.Table:
    ids = id_of(portion.table.column(f"{format.level}_id"))
    index_Kk, probability_Kk = (values[:, : format.most] for values in (portion.index("species"), portion.probability("species")))
    class_Kk = number_C[index_Kk]
    if unknown_below is not None:
        # The table holds float32: rounded alike, an answer exactly at the threshold stays on its side.
        class_Kk = np.where(probability_Kk >= np.float32(unknown_below), class_Kk, UNKNOWN)
    columns = [ids, pa.array(class_Kk.reshape(-1))]
    if format.ranked:
        rows, k = index_Kk.shape
        columns[0] = ids.take(pa.array(np.repeat(np.arange(rows), k)))
        columns += [pa.array(probability_Kk.reshape(-1)), pa.array(np.tile(np.arange(1, k + 1), rows))]
    return pa.table(columns, names=list(format.columns))


def _ids(table: Path, format: Format, given: Path | None) -> Callable[[pa.ChunkedArray], pa.Array]:
    """A column of our ids -> the challenge's; raises BadInput for one that would break a line, or has no other."""
    ours = pq.read_table(table, columns=[f"{format.level}_id"]).column(0).combine_chunks()
    if given is None:
        broken = ours.filter(pc.match_substring_regex(ours, rf'[\r\n"{format.separator}]'))
        if len(broken):
            raise BadInput(
                f"the {format.level} {broken[0].as_py()!r} has a {format.separator!r}, a quote or a line's end in its name"
            )
        return lambda column: column.combine_chunks()
    mine, theirs = _renamed(given, format)
    without = ours.filter(pc.invert(pc.is_in(ours, mine)))
    if len(without):
        raise BadInput(f"{given}: {len(without):,} of {len(ours):,} {format.level}s aren't in it (first: {without[0].as_py()!r})")
    return lambda column: theirs.take(pc.index_in(column.combine_chunks(), mine))


def _renamed(path: Path, format: Format) -> tuple[pa.Array, pa.Array]:
    own: Sequence[str] = ("imageid",) if format.level == "image" else ("occurrenceid",)
    other = (format.columns[0], *(name for name in format.ids if name not in own))
    columns = read_list(path, "images", own)
    pair = [column(columns, names, path) for names in (own, other)]
    if len(set(pair[0])) < len(pair[0]):
        pair = [list(values) for values in zip(*dict(zip(*pair, strict=True)).items(), strict=True)]
    return pa.array(pair[0], pa.string()), pa.array(pair[1], pa.string())
