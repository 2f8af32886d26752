"""Pictures known to genus or family only: a part of a dataset of their own, for training by a loss that can use them.

They are never validated or tested on. Without such a loss they are left out, and counted.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from taxakey.records.table import PARTIAL_RANKS, Observations
from taxakey.taxonomy import Taxonomy

PARTIAL = "partial"
"""The part's name in the names of files; `Dataset.partial` opens it."""


def usable_rows(observations: Observations) -> pa.Table:
    """The rows of `Observations.partial` with a file, whose observation and image no other row has."""
    rows, known = observations.partial, observations.table
    usable = pc.is_valid(rows["path"])
    for name in ("occurrenceID", "image_id"):
        usable = pc.and_(usable, pc.invert(pc.is_in(rows[name], known[name].combine_chunks())))
    rows = rows.filter(usable)
    first = np.unique(np.array(rows["image_id"].to_pylist(), dtype=str), return_index=True)[1]
    rows = rows.take(pa.array(np.sort(first)))
    split = rows.schema.get_field_index("split")
    return rows.set_column(split, rows.schema.field(split), pa.array(["train"] * rows.num_rows, pa.string()))


def partial_counts(observations: Observations, names: pa.Table, taxonomy: Taxonomy) -> dict[str, int]:
    """What became of them: in the dataset (`names`), of these above no class, and left out for want of a good picture."""
    of_class = [pc.is_in(names[rank], pa.array(taxonomy.taxa(rank), pa.string())) for rank in PARTIAL_RANKS]
    return {
        "partial": len(names),
        "partial_of_no_class": len(names) - (pc.sum(pc.or_(*of_class)).as_py() or 0),
        "partial_left_out": observations.partial.num_rows - len(names),
    }
