"""Files that organisers would reject: each way, alone, with the number of its line; and files that they would take."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxakey.errors import BadInput
from taxakey.evaluation.challenges import reading
from taxakey.evaluation.challenges.checking import check
from taxakey.evaluation.challenges.formats import FORMATS, format_of

PLANTCLEF = ["o1;7;0.5;1", "o1;9;0.25;2", "o1;8;2.5e-1;3", "o2;9;1;1"]
HERBARIUM = ["Id,Predicted", "0,15", "1,7", "2,15"]
FUNGI = ["observationID,class_id", "5,3", "6,-1", "7,3"]
GOOD = {"plantclef2022": PLANTCLEF, "herbarium2022": HERBARIUM, "fungiclef2023": FUNGI}


def faults_of(folder: Path, name: str, lines: list[str] | bytes, **lists: str) -> list[tuple[str, bool]]:
    """What is found, and whether it rejects; `expected` and `classes` are the texts of lists."""
    file = folder / "file"
    file.write_bytes(lines if isinstance(lines, bytes) else ("\n".join(lines) + "\n").encode())
    for kind, text in lists.items():
        (folder / f"{kind}.csv").write_text(text, encoding="utf-8")
    found = check(file, FORMATS[name], **{kind: folder / f"{kind}.csv" for kind in lists})
    assert found.accepted == (not any(fault.rejects for fault in found.faults))
    return [(str(fault), fault.rejects) for fault in found.faults]


def changed(lines: list[str], line: int, text: str | None) -> list[str]:
    """The same lines but one, counted from 1; None leaves it out."""
    return [*lines[: line - 1], *([] if text is None else [text]), *lines[line:]]


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n"])
def test_good_files_are_taken(name: str, end: str, tmp_path: Path) -> None:
    """With any end of lines, with quotes, and without an end of the last line."""
    text = end.join(GOOD[name])
    for written in (text + end, text, "\n".join(f'"{line}"'.replace(FORMATS[name].separator, f'"{FORMATS[name].separator}"')
                                                for line in GOOD[name])):  # fmt: skip
        found = faults_of(tmp_path, name, written.encode())
        assert not [text for text, rejects in found if rejects]
        assert bool(found) == (end == "\n\n" and '"' not in written), "empty lines are noted"


def test_year_2024_differs_by_its_header(tmp_path: Path) -> None:
    assert not faults_of(tmp_path, "fungiclef2024", ["observation_id,class_id", "5,3"])
    assert faults_of(tmp_path, "fungiclef2024", FUNGI)[0][0].startswith("its header is 'observationID,class_id'")


@pytest.mark.parametrize(("line", "text", "said"), [
    (2, "o1;7;0.25;2", "line 2: repeats a class of its obsid"),
    (2, "o1;9;0.25;1", "line 2: repeats a rank of its obsid"),
    (2, None, "line 2: leaves out a rank before its own"),
    (1, None, "line 1: leaves out a rank before its own"),
    (4, "o2;9;1;0", "line 4: has rank 0 or less; ranks begin at 1"),
    (2, "o1;9;0.2;2", "line 3: has a higher probability than the rank before it"),
    (2, "o1;9;NaN;2", "line 2: has no probability (empty or NaN)"),
    (2, "o1;9;inf;2", "line 2: has a probability that isn't a finite number"),
    (2, "o1;9;0,25;2", "line 2: has a decimal comma in its probability; write a point"),
    (2, "o1;9;0.25;2.0", "line 2: has its rank with a decimal point (3.0), as pandas writes columns with gaps; write 3"),
    (2, "o1;Bellis perennis;0.25;2", "line 2: has a classid that isn't a whole number"),
    (2, "o1;;0.25;2", "line 2: has no classid"),
    (2, "o1;-1;0.25;2", "line 2: has a negative classid; this challenge has no unknown species"),
    (2, ";9;0.25;2", "line 2: has no obsid"),
    (4, "o2 ;9;1;1", "line 4: has a space beside its obsid"),
    (2, "o1;9;0.25", "line 2: must have 4 fields between semicolons, and has not"),
    (2, "o1;9;0.25;2;", "line 2: must have 4 fields between semicolons, and has not"),
])  # fmt: skip
def test_a_bad_row_of_a_run_file(line: int, text: str | None, said: str, tmp_path: Path) -> None:
    found = faults_of(tmp_path, "plantclef2022", changed(PLANTCLEF, line, text))
    assert (said, True) in found
    if "fields" not in said and "no obsid" not in said:  # a row that falls away leaves a gap in the ranks
        assert len(found) == 1, found


@pytest.mark.parametrize(("name", "line", "text", "said"), [
    ("herbarium2022", 3, "0,7", "line 3: repeats an Id that stands further up; leave one of them"),
    ("herbarium2022", 2, "0,-1", "line 2: has a negative Predicted; this challenge has no unknown species"),
    ("herbarium2022", 2, "0,15.0",
     "line 2: has its Predicted with a decimal point (3.0), as pandas writes columns with gaps; write 3"),
    ("herbarium2022", 1, "Id;Predicted", "its values stand between semicolons, not commas (Id,Predicted)"),
    ("herbarium2022", 1, "id,predicted", "its header is 'id,predicted'; it must be Id,Predicted (capitals count)"),
    ("herbarium2022", 1, None, "has no header; its first line must be Id,Predicted"),
    ("fungiclef2023", 3, "6,-2", "line 3: has a negative class_id; only -1 says unknown"),
    ("fungiclef2023", 4, "6,3", "line 4: repeats an observationID that stands further up; leave one of them"),
])  # fmt: skip
def test_a_bad_row_of_a_file_with_one_answer(name: str, line: int, text: str | None, said: str, tmp_path: Path) -> None:
    assert faults_of(tmp_path, name, changed(GOOD[name], line, text)) == [(said, True)]


@pytest.mark.parametrize(("make", "said"), [
    (lambda good: b"", "holds no row"),
    (lambda good: b"Id,Predicted\n", "holds no row below its header"),
    (lambda good: gzip.compress(good), "is compressed by gzip; unpack it first"),
    (lambda good: good.decode().encode("utf-16"), "is UTF-16 text, as Excel writes it; save it as CSV in UTF-8"),
    (lambda good: b"\xef\xbb\xbf" + good,
     "begins with a byte-order mark, which becomes part of its first value; save it as UTF-8 without"),
    (lambda good: good + b"3,1\xe4\n", "line 5: isn't UTF-8 text; save the file as UTF-8"),
    (lambda good: good + b"3,\0\n", "line 5: holds a zero byte, so the file is no text; write it again"),
])  # fmt: skip
def test_what_is_no_text(make: Callable[[bytes], bytes], said: str, tmp_path: Path) -> None:
    good = ("\n".join(HERBARIUM) + "\n").encode()
    assert (said, True) in faults_of(tmp_path, "herbarium2022" if said != "holds no row" else "plantclef2022", make(good))


def test_a_run_file_with_a_header_or_commas(tmp_path: Path) -> None:
    found = faults_of(tmp_path, "plantclef2022", ["obsid;classid;probability;rank", *PLANTCLEF])
    assert found == [("line 1 is a header (obsid;classid;probability;rank), and this file has none; delete it", True)]
    found = faults_of(tmp_path, "plantclef2022", [line.replace(";", ",") for line in PLANTCLEF])
    assert found == [("its values stand between commas, not semicolons (obsid;classid;probability;rank)", True)]


def test_at_most_thirty_rows(tmp_path: Path) -> None:
    rows = [f"o1;{number};{1 / number};{number}" for number in range(1, 32)]
    assert not faults_of(tmp_path, "plantclef2022", rows[:30])
    assert faults_of(tmp_path, "plantclef2022", rows) == [("line 31: is row 31 of its obsid; at most 30 are taken", True)]


def test_expected_ids_and_classes(tmp_path: Path) -> None:
    """Of a challenge that wants every id, and of one where a missing one is merely not found."""
    found = faults_of(tmp_path, "herbarium2022", HERBARIUM, expected="Id,Predicted\n0,0\n1,0\n5,0\n6,0\n", classes="15\n")
    assert found == [
        ("line 3: has a Predicted that isn't in the list of classes", True),
        ("line 4: is of no picture that is expected (2)", True),
        ("2 of 4 expected pictures are missing (5, 6)", True),
    ]
    found = faults_of(tmp_path, "plantclef2022", PLANTCLEF, expected="obsid;image_name\no1;a\no1;b\no2;c\no3;d\n")
    assert found == [("1 of 3 expected observations are missing (o3); they count as not found", False)]
    assert not faults_of(tmp_path, "fungiclef2023", FUNGI, classes="class_id,poisonous\n3,1\n"), "-1 is no class"
    (tmp_path / "test_metadata.json").write_text('[{"image_id": "0"}, {"image_id": 1}, {"image_id": "2"}]')
    (tmp_path / "file").write_text("\n".join(HERBARIUM))
    assert check(tmp_path / "file", FORMATS["herbarium2022"], expected=tmp_path / "test_metadata.json").accepted
    with pytest.raises(BadInput, match=r"expected.csv: no column obsid or .*; it has a, b"):
        faults_of(tmp_path, "plantclef2022", PLANTCLEF, expected="a,b\n1,2\n")


def test_columns_besides(tmp_path: Path) -> None:
    """The organisers of FungiCLEF read columns by name, and their own sample writes one more."""
    fungi = [",observationID,class_id", "0,5,3", "1,6,-1"]
    assert faults_of(tmp_path, "fungiclef2023", fungi) == [
        ("has columns besides observationID,class_id: ''; leave them out", False)
    ]
    herbarium = ["Id,Predicted,score", "0,15,0.3"]
    assert faults_of(tmp_path, "herbarium2022", herbarium) == [
        ("has columns besides Id,Predicted: 'score'; leave them out", True)
    ]


def test_many_faults_of_one_kind_are_one_line(tmp_path: Path) -> None:
    rows = ["Id,Predicted", *(f"{number}," for number in range(50_000))]
    assert faults_of(tmp_path, "herbarium2022", rows) == [("lines 2, 3, 4 and 49,997 more: has no Predicted", True)]


@given(st.integers(0, 2**32 - 1), st.integers(3, 200))
def test_lines_are_counted_across_blocks(tmp_path_factory: pytest.TempPathFactory, seed: int, block: int) -> None:
    """However the file falls into blocks, the same faults in the same lines as a loop over lines finds."""
    rng = np.random.default_rng(seed)
    lines = ["Id,Predicted", *(f"{number},{'x' if rng.random() < 0.1 else 4}" for number in range(60))]
    bad = [number for number, line in enumerate(lines, 1) if line.endswith("x")]
    folder = tmp_path_factory.mktemp("blocks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "_BLOCK", block)
        (folder / "file").write_text("\n".join(lines) + "\n")
        found = check(folder / "file", FORMATS["herbarium2022"])
    assert found.rows == 60
    assert [(*fault.lines, fault.count) for fault in found.faults] == ([(*bad[:3], len(bad))] if bad else [])


def test_real_files_of_other_challenges(shared_data: Path, tmp_path: Path) -> None:
    with gzip.open(shared_data / "metrics" / "kaggle_leaf99_submissions" / "submit0.csv.gz") as file:
        said = faults_of(tmp_path, "herbarium2022", file.read())
    assert said[0][0].startswith("its header is 'id,Acer_Capillipes")
    reference = shared_data / "metrics" / "fungiclef2023_reference"
    good = check(reference / "pred.csv", FORMATS["fungiclef2023"], expected=reference / "gt.csv")
    assert (good.rows, good.ids, good.faults) == (77, 77, ())


def test_what_isnt_there(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such file; name the file"):
        check(tmp_path / "none", FORMATS["herbarium2022"])
    with pytest.raises(BadInput, match="unknown challenge 'plantclef'; one of plantclef2022, herbarium2022"):
        format_of("plantclef")
