"""What works on whole columns says the same as a loop over their rows."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxakey.records.reading import distinct
from taxakey.records.reading.delimited import Compactor, Dialect, plain, read_delimited, sniff, stack
from taxakey.records.reading.distinct import by_distinct
from taxakey.records.reading.pictures import ids_by_stem, locate, locate_all

TEXT = st.one_of(st.none(), st.sampled_from(["a", "b", "ab", "", "ä"]))
ROWS = st.lists(st.tuples(TEXT, TEXT, TEXT), max_size=40)


def chunked(values: list[str | None], at: int = 3) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(values[:at], pa.string()), pa.array(values[at:], pa.string())])


@given(ROWS, st.booleans())
def test_by_distinct_is_a_loop_over_rows(rows: list[tuple[str | None, ...]], encode: bool) -> None:
    columns = [chunked([row[at] for row in rows]) for at in range(3)]
    calls: list[tuple[str | None, ...]] = []

    def joined(*cells: str | None) -> str | None:
        calls.append(cells)
        return None if cells[0] is None else json.dumps(cells)

    given_columns = [column.dictionary_encode() if encode else column for column in columns]
    found = plain(by_distinct(joined, *given_columns)).to_pylist()
    assert found == [None if row[0] is None else json.dumps(row) for row in rows]
    assert len(calls) <= 2 * len(set(rows))  # once for each block, of which there are two


def test_blocks_are_small_and_names_are_asked_for_once_in_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distinct, "_ROWS", 100)
    calls = []
    by_distinct(lambda name: calls.append(name), pa.chunked_array([["x", "y"] * 500]))  # type: ignore[func-returns-value]
    assert len(calls) == 20


PLACES = st.one_of(
    st.none(),
    st.sampled_from([
        "a.jpg", "b/a.jpg", "./a.jpg", "b/../a.jpg", "../a.jpg", "..", "b//a.jpg", "/c/a.jpg", "https://x.org/a.jpg",
        "a\0.jpg", "", "file:///a%20b.jpg", "file://far/a.jpg", "c:a.jpg", "a..b/c.jpg", "b/", "ftp://x.org/a", "ä/ö.jpg",
        "file:a.jpg", "~/a.jpg",
    ]),
)  # fmt: skip


@given(st.lists(PLACES, max_size=30), st.booleans(), st.booleans())
def test_places_of_whole_columns_are_those_of_each(identifiers: list[str | None], confined: bool, several: bool) -> None:
    folders = [Path("/base"), Path("/base/other")][: 1 + several]
    paths, reasons = locate_all(chunked(identifiers), folders, confined=confined)
    expected = [locate(text, folders, confined=confined) for text in identifiers]
    assert list(zip(paths.to_pylist(), reasons.to_pylist(), strict=True)) == [tuple(place) for place in expected]


@given(st.lists(st.tuples(st.sampled_from(["o/1", "o/2", "p/1", None]), st.booleans()), max_size=30))
def test_numbers_of_pictures_run_within_their_observation(rows: list[tuple[str | None, bool]]) -> None:
    identifiers = [f"https://x.org/{at}/full.jpg" if there else None for at, (_, there) in enumerate(rows)]
    found = ids_by_stem(chunked(identifiers), chunked([observation for observation, _ in rows])).to_pylist()
    if sum(there for _, there in rows) < 2:
        return  # names of files that differ
    seen: dict[str, int] = {}
    whole = {observation for observation, _ in rows if observation}
    for (observation, there), name in zip(rows, found, strict=True):
        if not there or observation is None:
            assert name is None
            continue
        seen[observation] = seen.get(observation, 0) + 1
        short = observation.split("/")[1] if not {"o/1", "p/1"} <= whole else observation
        assert name == f"{short}_{seen[observation]}"


def test_short_rows_keep_their_cells_and_long_ones_are_told() -> None:
    lines = ["id,a,b", *(f"{number},x" if number % 3 else f"{number},x,y" for number in range(50_000)), "7,x,y,z"]
    content = ("\n".join(lines) + "\n").encode()
    found = read_delimited(lambda: io.BytesIO(content), Dialect(), {"id": (0,), "b": (2,)}, "table")
    rows = dict(zip(plain(found.table["id"]).to_pylist(), plain(found.table["b"]).to_pylist(), strict=True))
    assert rows == {str(number): None if number % 3 else "y" for number in range(50_000)}
    assert found.too_long == ["7,x,y,z"]


def test_separators_at_the_end_of_rows_are_no_column_too_many() -> None:
    content = b"a,b\n1,2,\n3,4,\n5,6,7,8\n"
    found = read_delimited(lambda: io.BytesIO(content), Dialect(), {"a": (0,), "b": (1,)}, "table")
    assert found.table.to_pylist() == [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]
    assert found.too_long == ["5,6,7,8"]


def test_quotation_marks_of_gbif_mean_nothing_unless_its_header_has_some() -> None:
    assert sniff(io.BytesIO(b"gbifID\tspecies\n"), "t")[0].quote == ""
    assert sniff(io.BytesIO(b'"gbifID"\t"species"\n'), "t") == (Dialect("\t"), ["gbifID", "species"])
    assert sniff(io.BytesIO(b"path\tspecies\n"), "t")[0].quote == '"'


def test_tables_that_differ_are_stacked() -> None:
    compact = Compactor()
    first = compact({"a": pa.array(["x", "x", "x"]), "b": pa.array(["1", "2", "3"])})
    assert [str(kind) for kind in first.schema.types] == ["dictionary<values=string, indices=int32, ordered=0>", "string"]
    second = pa.table({"a": ["y"], "c": ["z"]})
    assert stack([first, second]).to_pydict() == {"a": ["x"] * 3 + ["y"], "b": ["1", "2", "3", None], "c": [None] * 3 + ["z"]}
