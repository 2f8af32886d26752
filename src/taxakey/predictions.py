"""Predictions: the table that passes from a model to evaluation, ensembles and files for others. No torch.

Shapes: O rows (observations or images), C classes, G taxa of a rank, k stored answers.

One row per observation or per image, made from the FULL scores while they are there; everything that a metric needs and that
a cut-off list of answers would lose is computed before the cut: sums over genera, families and poisonous species,
the rank and the probability of the true taxon, the sum of the tail, the log-sum-exp.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from taxakey.artifacts import open_atomically, write_parquet
from taxakey.errors import BadInput, MissingArtifact
from taxakey.taxonomy import RANKS, Taxonomy

STORED_ANSWERS = 100
"""Answers kept per row and rank (DESIGN: top k, 100 by default)."""

_FULL = "log_probability"
_ANSWERS = tuple(f"{rank}_{kind}" for rank in RANKS for kind in ("index", "probability"))
_ROWS_IN_A_GROUP = 20_000
"""Of a file; with 100 answers a rank, 50 MB: what a reader of portions holds."""

Level = Literal["observation", "image"]


@dataclass(frozen=True)
class Truth:
    """What is known of each row: names, which may lie outside the taxonomy. None = not known."""

    species: Sequence[str | None]
    genus: Sequence[str | None]
    family: Sequence[str | None]

    @classmethod
    def unknown(cls, rows: int) -> Truth:
        return cls([None] * rows, [None] * rows, [None] * rows)


@dataclass(frozen=True, eq=False)
class Predictions:
    """A checked table of predictions.

    Columns, for each rank r of species, genus, family:

    * `{r}_index` list<int32>[k], `{r}_probability` list<float32>[k]: the k most probable taxa, falling, ties by index;
      indices are positions in `taxonomy.taxa(r)`
    * `true_{r}` string (null: not known), `true_{r}_index` int32 (-1: not known, or not a taxon of the model),
      `true_{r}_probability` float32 (0 where the index is -1), `true_{r}_rank` int32 from 1 (0 where the index is -1)

    and `observation_id`, `image_id` (null in a row for an observation of several images), `images` (how many were averaged),
    `poisonous_probability` (null where the taxonomy marks none), `tail` (species probability beyond the k stored),
    `logsumexp` (of the raw scores; the mean over an observation's images).
    """

    table: pa.Table
    taxonomy_fingerprint: str
    level: Level

    def __len__(self) -> int:
        return self.table.num_rows

    @classmethod
    def from_probabilities(
        cls,
        probabilities_OC: NDArray[np.floating],
        taxonomy: Taxonomy,
        *,
        observation_ids: Sequence[str],
        image_ids: Sequence[str | None] | None = None,
        images: Sequence[int] | None = None,
        truth: Truth | None = None,
        logsumexp_O: NDArray[np.floating] | None = None,
        k: int = STORED_ANSWERS,
        level: Level = "observation",
    ) -> Predictions:
        """Rank and sum full probabilities [O, C]. Call it once per batch and join the batches with `concat`."""
        rows = len(probabilities_OC)
        if probabilities_OC.shape[1] != len(taxonomy):
            raise BadInput(f"scores for {probabilities_OC.shape[1]} classes, where the taxonomy has {len(taxonomy)}")
        if not np.isfinite(probabilities_OC).all():
            raise BadInput(
                "probabilities that aren't finite numbers: the model diverged; train it again with a lower learning rate"
            )
        truth = truth or Truth.unknown(rows)
        columns: dict[str, pa.Array] = {
            "observation_id": pa.array(observation_ids, pa.string()),
            "image_id": pa.array(image_ids if image_ids is not None else [None] * rows, pa.string()),
            "images": pa.array(images if images is not None else [1] * rows, pa.int32()),
        }
        for rank, names in zip(RANKS, (truth.species, truth.genus, truth.family), strict=True):
            scores_OG = np.asarray(taxonomy.sum_over(rank, probabilities_OC))
            columns |= _ranked_columns(rank, scores_OG, names, taxonomy, k)
        poisonous = taxonomy.poisonous()
        columns["poisonous_probability"] = (
            pa.nulls(rows, pa.float32())
            if poisonous is None
            else pa.array(probabilities_OC[:, poisonous].sum(1).astype(np.float32))
        )
        stored = np.asarray(columns["species_probability"].values).reshape(rows, min(k, len(taxonomy))).sum(1)
        total = probabilities_OC.sum(1)
        columns["tail"] = pa.array(np.maximum(total - stored, 0).astype(np.float32))
        columns["logsumexp"] = (
            pa.nulls(rows, pa.float32()) if logsumexp_O is None else pa.array(np.asarray(logsumexp_O, dtype=np.float32))
        )
        return cls(pa.table(columns), taxonomy.fingerprint, level)

    @classmethod
    def concat(cls, parts: Sequence[Predictions]) -> Predictions:
        """Join batches of one model."""
        if len({(part.taxonomy_fingerprint, part.level) for part in parts}) != 1:
            raise BadInput("predictions of different models or levels can't be joined")
        return cls(pa.concat_tables([part.table for part in parts]), parts[0].taxonomy_fingerprint, parts[0].level)

    # ---- access: numpy arrays, [O] or [O, k] ----

    def index(self, rank: str) -> NDArray[np.int32]:
        """Stored answers [O, k] of a rank, most probable first."""
        return self._lists(f"{rank}_index")

    def probability(self, rank: str) -> NDArray[np.float32]:
        """Their probabilities [O, k]."""
        return self._lists(f"{rank}_probability")

    def true_index(self, rank: str) -> NDArray[np.int32]:
        """True taxon [O]; -1 where it isn't known or isn't in the model."""
        return self.values(f"true_{rank}_index")

    def true_rank(self, rank: str) -> NDArray[np.int32]:
        """Position [O] of the true taxon among ALL taxa of the rank, from 1; 0 where its index is -1."""
        return self.values(f"true_{rank}_rank")

    def true_probability(self, rank: str) -> NDArray[np.float32]:
        """Probability [O] of the true taxon; 0 where its index is -1."""
        return self.values(f"true_{rank}_probability")

    def values(self, column: str) -> NDArray:
        """A plain numeric column [O]."""
        return self.table.column(column).to_numpy()

    def strings(self, column: str) -> list[str | None]:
        """A column of strings [O]."""
        return self.table.column(column).to_pylist()

    def _first(self, answers: int) -> Predictions:
        table = self.table
        for name in _ANSWERS:
            first_Ok = np.ascontiguousarray(self._lists(name)[:, :answers])
            table = table.set_column(table.column_names.index(name), name, _fixed_lists(first_Ok))
        return Predictions(table, self.taxonomy_fingerprint, self.level)

    def _lists(self, column: str) -> NDArray:
        array = self.table.column(column).combine_chunks()
        flat = array.flatten().to_numpy(zero_copy_only=False)
        return flat.reshape(len(array), len(flat) // max(len(array), 1))

    # ---- files ----

    def write(self, path: Path | str) -> None:
        """Write one Parquet file, atomically; the fingerprint and the level travel in its metadata."""
        facts = {"taxonomy": self.taxonomy_fingerprint, "level": self.level}
        table = self.table.replace_schema_metadata({f"taxakey.{key}": value for key, value in facts.items()})
        write_parquet(path, table, row_group_size=_ROWS_IN_A_GROUP)

    @classmethod
    def read(cls, path: Path | str, *, answers: int | None = None) -> Predictions:
        """Read what `write` wrote; only the first so many answers of each row, where so many are enough.

        With five of them a million rows of a hundred answers take a tenth of the memory: the file is read in portions. With 0
        of them ids, truth and sums are read alone, without a look at the answers.
        """
        facts = _facts(path)
        if answers is None:
            return cls(pq.read_table(path), *facts)
        if answers == 0:
            plain = [name for name in pq.read_schema(path).names if name not in _ANSWERS]
            return cls(pq.read_table(path, columns=plain), *facts)
        portions = [portion._first(answers) for portion in cls.portions(path)]
        return cls.concat(portions) if portions else cls(pq.read_table(path), *facts)

    @classmethod
    def portions(cls, path: Path | str, *, rows: int = _ROWS_IN_A_GROUP) -> Iterator[Predictions]:
        """The same rows, so many at a time: a million of them with 100 answers at three ranks are 2.4 GB, a portion 50 MB."""
        facts = _facts(path)
        # Not pre_buffer: it would fetch the whole file before the first portion.
        with pq.ParquetFile(path, pre_buffer=False) as file:
            for batch in file.iter_batches(rows):
                yield cls(pa.Table.from_batches([batch]), *facts)


# ---- full scores: `full/*.arrow` beside the table ----


def write_full(path: Path | str, observation_ids: Sequence[str], probabilities_OC: NDArray[np.floating]) -> None:
    """Write all probabilities [O, C] of some rows, atomically, as logarithms in float16."""
    # As logarithms: float16 holds no number below 6e-8, and among 80,000 classes most probabilities are smaller.
    log_p_OC = np.log(np.maximum(probabilities_OC, np.finfo(probabilities_OC.dtype).tiny)).astype(np.float16)
    table = pa.table({"observation_id": list(observation_ids), _FULL: _fixed_lists(log_p_OC)})
    # Arrow rather than Parquet: read in a fifth of the time, and of gigabytes that are read whole every time; a seventh larger.
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with open_atomically(path) as out, pa.ipc.new_file(out, table.schema, options=options) as writer:
        writer.write_table(table)


def read_full(folder: Path | str) -> Iterator[tuple[list[str], NDArray[np.float16]]]:
    """Ids and natural logarithms [O, C] of the full scores in a folder, as written: a file at a time, by name.

    Raises MissingArtifact where there are none.
    """
    paths = sorted(Path(folder).glob("*.arrow"))
    if not paths:
        raise MissingArtifact(f"{folder}: no full scores (*.arrow) in it; predict again with --full")
    for path in paths:
        with pa.memory_map(str(path)) as source:
            table = pa.ipc.open_file(source).read_all()
        lists = table[_FULL].combine_chunks()
        yield table["observation_id"].to_pylist(), lists.flatten().to_numpy(zero_copy_only=False).reshape(len(lists), -1)


def _facts(path: Path | str) -> tuple[str, Level]:
    """Fingerprint and level of a file, or what is wrong with it."""
    if not Path(path).is_file():
        raise MissingArtifact(f"{path}: no predictions there; run `taxakey predict` first")
    facts = {key.decode(): value.decode() for key, value in (pq.read_schema(path).metadata or {}).items()}
    if "taxakey.taxonomy" not in facts:
        raise BadInput(f"{path}: not a table of predictions (no taxonomy fingerprint in its metadata)")
    return facts["taxakey.taxonomy"], "image" if facts["taxakey.level"] == "image" else "observation"


def _ranked_columns(
    rank: str, scores_OG: NDArray[np.floating], names: Sequence[str | None], taxonomy: Taxonomy, k: int
) -> dict[str, pa.Array]:
    k = min(k, scores_OG.shape[1])
    order_Ok = top_k(scores_OG, k)
    true_O = taxonomy.index_of(names, rank)
    rank_O, probability_O = rank_of(scores_OG, true_O)
    return {
        f"{rank}_index": _fixed_lists(order_Ok.astype(np.int32)),
        f"{rank}_probability": _fixed_lists(np.take_along_axis(scores_OG, order_Ok, axis=1).astype(np.float32)),
        f"true_{rank}": pa.array(names, pa.string()),
        f"true_{rank}_index": pa.array(true_O.astype(np.int32)),
        f"true_{rank}_probability": pa.array(probability_O.astype(np.float32)),
        f"true_{rank}_rank": pa.array(rank_O.astype(np.int32)),
    }


def top_k(scores_OG: NDArray[np.floating], k: int) -> NDArray[np.int64]:
    """Positions [O, k] of the k largest scores of each row, falling; equal scores stand in the order of their index.

    >>> top_k(np.array([[0.1, 0.4, 0.1, 0.4]]), 3)
    array([[1, 3, 0]])
    """
    groups = scores_OG.shape[1]
    if k >= groups:
        return np.argsort(-scores_OG, axis=1, kind="stable")[:, :k]
    # argpartition alone may choose the wrong one of several equal scores at the cut, so the few rows with such a tie are sorted.
    candidates = np.sort(np.argpartition(-scores_OG, k - 1, axis=1)[:, :k], axis=1)
    values = np.take_along_axis(scores_OG, candidates, axis=1)
    cut = values.min(axis=1, keepdims=True)
    tied = np.flatnonzero((scores_OG >= cut).sum(axis=1) > k)
    order = np.take_along_axis(candidates, np.argsort(-values, axis=1, kind="stable"), axis=1)
    order[tied] = np.argsort(-scores_OG[tied], axis=1, kind="stable")[:, :k]
    return order


def rank_of(scores_OG: NDArray[np.floating], true_O: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.floating]]:
    """Rank [O] from 1 and score [O] of the true taxon, ties by index; both 0 where `true_O` is -1.

    >>> rank_of(np.array([[0.5, 0.5, 0.0]]), np.array([1]))
    (array([2]), array([0.5]))
    """
    rows = len(true_O)
    if not scores_OG.shape[1]:
        return np.zeros(rows, dtype=np.int64), np.zeros(rows)
    known = true_O >= 0
    column = np.where(known, true_O, 0)
    score_O, rank_O = scores_OG[np.arange(rows), column], np.ones(rows, dtype=np.int64)
    later = np.flatnonzero(scores_OG.argmax(axis=1) != column)  # argmax is the first one of equals: the others' rank is 1
    rank_O[later] = _rank_by_count(scores_OG[later], column[later], score_O[later])
    return np.where(known, rank_O, 0), np.where(known, score_O, 0.0)


def _rank_by_count(
    scores_OG: NDArray[np.floating], column_O: NDArray[np.integer], score_O: NDArray[np.floating]
) -> NDArray[np.int64]:
    rank_O = 1 + _count(scores_OG > score_O[:, None])
    tied = np.flatnonzero(_count(scores_OG >= score_O[:, None]) > rank_O)  # rare, and dear to look at
    before = np.arange(scores_OG.shape[1]) < column_O[tied, None]
    rank_O[tied] += ((scores_OG[tied] == score_O[tied, None]) & before).sum(axis=1)
    return rank_O


def _count(mask_OG: NDArray[np.bool_]) -> NDArray[np.int64]:
    """How many are true in each row. By bits: four times as fast as a sum of truth values."""
    return np.bitwise_count(np.packbits(mask_OG, axis=1)).sum(axis=1, dtype=np.int64)


def _fixed_lists(values_Ok: NDArray) -> pa.Array:
    if not values_Ok.shape[1]:  # no taxon of this rank is known; pyarrow has no lists of fixed size 0
        return pa.array([[]] * len(values_Ok), pa.list_(pa.from_numpy_dtype(values_Ok.dtype)))
    return pa.FixedSizeListArray.from_arrays(pa.array(values_Ok.reshape(-1)), values_Ok.shape[1])
