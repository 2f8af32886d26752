"""Other people's answers as a member: a table of ids and the probability of every class becomes predictions.

Shapes: O rows of the table, C classes.

The form is that of Kaggle's challenges: a column of ids, then a column for each class. Whose picture an id means, and what it
truly shows, the table doesn't say; so its predictions have no truth, and no weight can be fitted on them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray

from taxakey import artifacts
from taxakey.errors import BadInput
from taxakey.predictions import STORED_ANSWERS, Predictions, write_full
from taxakey.taxonomy import Taxonomy

SUM_TOLERANCE = 1e-3
"""How far a row's sum may lie from 1: rounding to four digits moves it so far, a forgotten softmax farther."""
_MOST_BYTES = 4 * 2**30  # of numbers in memory; a small compressed file may unpack to anything
_BLOCK = 4 * 2**20


def import_submission(
    file: Path | str, out: Path | str, classes: Path | str, *, part: str = "test", renamed: Mapping[str, str] | None = None
) -> artifacts.Manifest:
    """Write a table of probabilities, packed by gzip or not, as a predictions artifact, each id an image and an observation.

    `classes`: a folder with a taxonomy.parquet (a dataset, a model, predictions), whose classes are the columns, in any order;
    capitals, underscores for spaces and x for × don't matter. `renamed`: column -> class, where a column is called otherwise.
    Rows are made to sum to 1 exactly. Raises BadInput where columns are missing or unknown, an id stands twice, or anything
    isn't a probability.
    """
    file, out = Path(file), Path(out)
    taxonomy = Taxonomy.read(Path(classes) / "taxonomy.parquet")
    recipe = {"part": part, "classes": taxonomy.fingerprint, "renamed": dict(renamed or {})}
    plan = artifacts.Plan("predictions", {"submission": artifacts.hash_of(file)}, recipe)
    ids, p_OC = read_submission(file, taxonomy, renamed)
    if artifacts.start(out, plan) == "finished":
        return artifacts.read_manifest(out, plan.kind)
    Predictions.from_probabilities(p_OC, taxonomy, observation_ids=ids).write(out / "observations.parquet")
    by_image = Predictions.from_probabilities(p_OC, taxonomy, observation_ids=ids, image_ids=ids, level="image")
    by_image.write(out / "images.parquet")
    if len(taxonomy) > STORED_ANSWERS:
        write_full(out / "full" / "00000.arrow", ids, p_OC)
    artifacts.write_parquet(out / "taxonomy.parquet", taxonomy.table)
    counts = {"observations": len(ids), "images": len(ids)}
    notes = (f"Read from {file.name}: others' answers, without truth",)
    return artifacts.finish(out, plan, counts=counts, taxonomy=taxonomy.fingerprint, notes=notes)


def read_submission(
    file: Path | str, taxonomy: Taxonomy, renamed: Mapping[str, str] | None = None
) -> tuple[list[str], NDArray[np.float64]]:
    """Ids [O], and probabilities [O, C] in the order of the taxonomy. Raises BadInput with the file, the fact and the place."""
    file = Path(file)
    table = _table(file)
    id_name, *columns = table.column_names
    if absent := sorted(set(renamed or {}) - set(columns)):
        raise BadInput(f"{file}: has no column {absent[0]!r} that could be another class; leave that out")
    columns = [(renamed or {}).get(name, name) for name in columns]
    column_C = _columns(file, columns, taxonomy)
    ids = table[id_name].to_pylist()
    if len(set(ids)) < len(ids) or None in ids:
        raise BadInput(f"{file}: its column {id_name!r} lacks an id or has one twice; each row needs one of its own")
    p_OC = np.column_stack([table.column(1 + column).to_numpy() for column in column_C])
    _check(file, ids, p_OC, columns, column_C)
    return ids, p_OC / p_OC.sum(axis=1, keepdims=True)


def _table(file: Path) -> pa.Table:
    """Ids as text, everything else as numbers."""
    try:
        with pyarrow.csv.open_csv(file, pyarrow.csv.ReadOptions(block_size=_BLOCK)) as reader:
            names, schema = reader.schema.names, reader.schema
        types = {name: pa.float64() for name in names[1:]} | {names[0]: pa.string()}
        batches, held = [], 0
        options = pyarrow.csv.ConvertOptions(column_types=types, strings_can_be_null=True)
        with pyarrow.csv.open_csv(file, pyarrow.csv.ReadOptions(block_size=_BLOCK), convert_options=options) as reader:
            for batch in reader:
                batches.append(batch)
                held += batch.nbytes
                if held > _MOST_BYTES:
                    raise BadInput(f"{file}: more than {_MOST_BYTES // 2**30} GB of numbers; split it by rows")
    except (pa.ArrowInvalid, OSError) as error:
        raise BadInput(
            f"{file}: not a table of ids and numbers ({error}); write it as CSV with a column for each class"
        ) from None
    if len(set(names)) < len(names):
        raise BadInput(f"{file}: a column's name stands twice; each class has one column")
    table = pa.Table.from_batches(batches, schema=None if batches else schema)
    if not len(table) or len(names) < 2:
        raise BadInput(f"{file}: {len(table)} rows and {len(names)} columns; it needs a column of ids and one for each class")
    return table


def _columns(file: Path, columns: list[str], taxonomy: Taxonomy) -> list[int]:
    """Where each class [C] stands among the columns."""
    place = {_key(name): number for number, name in enumerate(columns)}
    if len(place) < len(columns):
        raise BadInput(f"{file}: two columns differ in capitals or underscores alone; name each class once")
    keys = [_key(name) for name in taxonomy.names]
    missing = [name for name, key in zip(taxonomy.names, keys, strict=True) if key not in place]
    unknown = [name for name in columns if _key(name) not in set(keys)]
    if missing or unknown:
        said = [f"lacks {len(missing)} of {len(keys)} classes (first: {missing[0]})"] if missing else []
        said += [f"has {len(unknown)} columns that aren't classes (first: {unknown[0]})"] if unknown else []
        raise BadInput(f"{file}: {' and '.join(said)}; name the class list that it was made for, or say which is which")
    return [place[key] for key in keys]


def _key(name: str) -> str:
    return " ".join(name.replace("_", " ").replace("×", " x ").casefold().split())


def _check(file: Path, ids: list[str], p_OC: NDArray[np.float64], columns: list[str], column_C: list[int]) -> None:
    bad = np.argwhere(~((p_OC >= 0) & (p_OC <= 1 + SUM_TOLERANCE)))
    if len(bad):
        row, c = bad[0]
        raise BadInput(
            f"{file}: {len(bad):,} values aren't probabilities (first: id {ids[row]}, {columns[column_C[c]]}: {p_OC[row, c]:g}); "
            "numbers from 0 to 1 are needed"
        )
    sum_O = p_OC.sum(axis=1)
    off = np.flatnonzero(np.abs(sum_O - 1) > SUM_TOLERANCE)
    if len(off):
        raise BadInput(
            f"{file}: {len(off):,} rows don't sum to 1 (first: id {ids[off[0]]}, {sum_O[off[0]]:.4g}); give probabilities of "
            "all classes"
        )
