"""The same figure for each institution, each organ and each month, and whether it differs from that of the others.

Shapes: O observations, I images, G groups.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from taxakey.evaluation.analyses import Group, Grouping
from taxakey.evaluation.labels import Labelled, label
from taxakey.evaluation.sources import Sources
from taxakey.metrics.accuracy import hits
from taxakey.metrics.differences import Difference, holm
from taxakey.metrics.grouped import GroupShares, shares_by_group
from taxakey.metrics.intervals import Interval
from taxakey.records.groups import codes_of

COLUMNS = {"institution": "institutionCode", "organ": "organ", "month": "month"}
LEAST_ROWS = 10
"""Of a group that is shown: of fewer an interval says next to nothing."""
MOST_GROUPS = 30
MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class GroupedRows:
    """Rows of one kind. `rows_G`, `species_G`: counted; `shares`: as functions of the weights of the observations."""

    by: str
    names: tuple[str, ...]
    rows_G: NDArray[np.int64]
    species_G: NDArray[np.int64]
    shares: GroupShares
    exact_p_values: tuple[float, ...]
    """Of each group against all others, by Fisher's exact test on rows."""
    rows_known: int
    """In any group, also one that isn't shown."""
    left_out: int
    rows_without: int

    def key(self, group: int) -> str:
        """Name of its statistic among all others."""
        return f"{self.by} {group}"


def grouped_rows(sources: Sources) -> list[GroupedRows]:
    """The kinds that the dataset's table tells of; none without a dataset. Organs are told of photographs."""
    if sources.part is None:
        return []
    table = sources.part.table
    kinds = {by: column for by, column in COLUMNS.items() if table[column].null_count < len(table)}
    if not kinds:
        return []
    place_I = pc.index_in(sources.images.table["image_id"], table["image_id"].combine_chunks())
    rows = {level: label(getattr(sources, level), sources.taxonomy, "species") for level in ("observations", "images")}
    observation_I = observation_of_images(sources)
    found = []
    for by, column in kinds.items():
        names, group_I = _named(by, table[column].take(place_I))
        if by == "organ":
            found.append(_grouped(by, names, group_I, rows["images"], observation_I))
        else:
            group_O = _agreed(group_I, observation_I, len(sources.observations))
            found.append(_grouped(by, names, group_O, rows["observations"], np.arange(len(group_O))))
    return [each for each in found if each.names or each.left_out]


def grouping(rows: GroupedRows, figures: Mapping[str, Interval], differences: Mapping[str, Difference]) -> Grouping:
    """What the page shows; months in their order, others by number of rows."""
    numbers = range(len(rows.names))
    known = [number for number in numbers if rows.key(number) in differences]
    p_values = [max(differences[rows.key(number)].p_value, rows.exact_p_values[number]) for number in known]
    corrected = dict(zip(known, holm(p_values).tolist(), strict=True))
    groups = tuple(
        Group(
            rows.names[number],
            int(rows.rows_G[number]),
            int(rows.species_G[number]),
            figures[rows.key(number)],
            differences.get(rows.key(number)),
            corrected.get(number),
        )
        for number in numbers
    )
    return Grouping(rows.by, groups, rows.left_out, rows.rows_without)


def observation_of_images(sources: Sources) -> NDArray[np.int64]:
    """Row of each image's observation [I]; -1 where it has none."""
    ids = sources.observations.table["observation_id"].combine_chunks()
    return pc.fill_null(pc.index_in(sources.images.table["observation_id"], ids), -1).to_numpy().astype(np.int64)


def _named(by: str, column: pa.ChunkedArray) -> tuple[list[str], NDArray[np.int64]]:
    """Names of the groups, and the group of each image; -1 where it isn't given. An impossible month isn't given."""
    if by == "month":
        month_I = pc.fill_null(column, 0).to_numpy().astype(np.int64) - 1
        return list(MONTHS), np.where((month_I >= 0) & (month_I < len(MONTHS)), month_I, -1)
    codes_I, names = codes_of(column)
    place = np.append(np.argsort(np.argsort(np.array(names, dtype=object))), -1)  # by name, whatever came first
    return sorted(names), place[codes_I]


def _agreed(group_I: NDArray[np.int64], observation_I: NDArray[np.int64], observations: int) -> NDArray[np.int64]:
    """The group of each observation all of whose images are of one; else -1 [O]."""
    inside = observation_I >= 0
    low_O, high_O = np.full(observations, np.iinfo(np.int64).max), np.full(observations, -1)
    np.minimum.at(low_O, observation_I[inside], group_I[inside])
    np.maximum.at(high_O, observation_I[inside], group_I[inside])
    return np.where(low_O == high_O, high_O, -1)


def _grouped(by: str, names: list[str], group: NDArray[np.int64], rows: Labelled, observation: NDArray[np.int64]) -> GroupedRows:
    """Groups with enough rows whose species is known, the largest `MOST_GROUPS`; an observation may have rows in several."""
    judged = rows.known_O & (observation >= 0)
    group = np.where(judged, group, -1)
    count = np.bincount(group[group >= 0], minlength=len(names))
    large = np.flatnonzero(count >= LEAST_ROWS)
    shown = large[np.argsort(-count[large], kind="stable")][:MOST_GROUPS]
    if by == "month":
        shown = np.sort(shown)
    pairs = np.unique(np.stack([group, rows.label_O], axis=1)[group >= 0], axis=0)
    species = np.bincount(pairs[:, 0], minlength=len(names))
    return GroupedRows(
        by,
        tuple(names[number] for number in shown),
        count[shown],
        species[shown],
        _shares(group, hits(rows.rank_O, 1), observation, shown),
        exact_p_values=_exact(group, hits(rows.rank_O, 1), shown),
        rows_known=int(count.sum()),
        left_out=int((count > 0).sum()) - len(shown),
        rows_without=int((judged & (group < 0)).sum()),
    )


def _exact(group: NDArray[np.int64], right: NDArray[np.float64], shown: NDArray[np.int64]) -> tuple[float, ...]:
    """Fisher's exact test, because the bootstrap sees no chance at all where a small group was named rightly throughout."""
    from scipy.stats import fisher_exact  # half a second to load

    total = np.bincount(group[group >= 0], minlength=int(shown.max(initial=-1)) + 1)
    hit = np.bincount(group[group >= 0], right[group >= 0], len(total)).astype(np.int64)
    others = [(hit.sum() - hit[each], (total - hit).sum() - (total - hit)[each]) for each in shown]
    tables = [[[hit[each], total[each] - hit[each]], list(rest)] for each, rest in zip(shown, others, strict=True)]
    return tuple(float(fisher_exact(table).pvalue) for table in tables)


def _shares(
    group: NDArray[np.int64], right: NDArray[np.float64], observation: NDArray[np.int64], shown: NDArray[np.int64]
) -> GroupShares:
    """Rows are drawn by observation: all photographs of one come together or not at all."""
    inside = np.flatnonzero(group >= 0)
    place = np.full(max(group.max(initial=0), shown.max(initial=0)) + 1, len(shown))
    place[shown] = np.arange(len(shown))  # groups too small to be shown are one more, the last: they belong to "all others"
    return shares_by_group(
        right[inside],
        np.ones(len(inside)),
        place[group[inside]],
        len(shown) + 1,
        observation_N=observation[inside],
    )
