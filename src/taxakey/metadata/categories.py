"""Words such as habitats as inputs of a network: one-hot, "unknown" being one of the words. Shapes: N pictures, V words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

UNKNOWN = "unknown"


def plain_words(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Small letters without space around them; "" and "unknown" are null."""
    words = pc.utf8_lower(pc.utf8_trim_whitespace(column.cast(pa.string())))
    return pc.if_else(pc.is_in(words, pa.array(["", UNKNOWN])), None, words)


def vocabulary(column: pa.ChunkedArray, most: int) -> tuple[str, ...]:
    """The `most` most frequent words of a column, sorted; equally frequent ones in the order of the alphabet."""
    counted = pc.value_counts(pc.drop_null(plain_words(column)))
    if isinstance(counted, pa.ChunkedArray):
        counted = counted.combine_chunks()
    table = pa.table({"word": counted.field("values"), "count": counted.field("counts")})
    frequent = table.sort_by([("count", "descending"), ("word", "ascending")]).slice(0, most)
    return tuple(sorted(frequent["word"].to_pylist()))


def one_hot(column: pa.ChunkedArray, words: Sequence[str]) -> NDArray[np.float64]:
    """[N, V + 1]: a one for the word, in the last column for a word that isn't in the list and for none."""
    place = pc.fill_null(pc.index_in(plain_words(column), value_set=pa.array(words, pa.string())), len(words))
    return np.eye(len(words) + 1)[np.asarray(place)]
