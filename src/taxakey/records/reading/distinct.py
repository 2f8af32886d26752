"""A Python function on columns of millions of rows: called once for each distinct combination of values in a block of rows.

Names, ranks and families are few against the rows that bear them, so a block of 65,536 rows needs hundreds of calls. Shapes: N
rows of the columns, n of a block, d distinct combinations in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

_ROWS = 2**16

Text = Callable[..., str | None]


def by_distinct(function: Text, *columns: pa.ChunkedArray) -> pa.ChunkedArray:
    """`function` of the values of each row [N], as one dictionary; the columns are strings or dictionaries of them."""
    chunks = [_block(function, batch) for batch in blocks(*columns)]
    return pa.chunked_array(chunks, pa.dictionary(pa.int32(), pa.string())).unify_dictionaries()


def blocks(*columns: pa.ChunkedArray) -> Iterator[list[pa.Array]]:
    """The columns in blocks of rows."""
    table = pa.table(list(columns), names=[str(at) for at in range(len(columns))])
    for batch in table.to_batches(max_chunksize=_ROWS):
        yield list(batch.columns)


def _block(function: Text, columns: list[pa.Array]) -> pa.Array:
    encoded = [column if pa.types.is_dictionary(column.type) else column.dictionary_encode() for column in columns]
    rows_d, inverse_n = _combinations([pc.fill_null(column.indices, -1).to_numpy(zero_copy_only=False) for column in encoded])
    picked = [column.take(pa.array(rows_d)).cast(pa.string()).to_pylist() for column in encoded]
    values = pa.array([function(*row) for row in zip(*picked, strict=True)], pa.string())
    return values.take(pa.array(inverse_n)).dictionary_encode()


def _combinations(codes: list[NDArray[np.int32]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """A row for each distinct combination of codes [d], and which of them each row has [n]."""
    combined_n = np.zeros(len(codes[0]), np.int64)
    for codes_n in codes:
        # Ranks after every column keep the product below n², which 64 bits hold however many columns there are.
        _, ranks_n = np.unique(codes_n, return_inverse=True)
        _, combined_n = np.unique(combined_n * (ranks_n.max(initial=0) + 1) + ranks_n, return_inverse=True)
    _, rows_d, inverse_n = np.unique(combined_n, return_index=True, return_inverse=True)
    return rows_d, inverse_n
