from __future__ import annotations

import io

from taxakey.records.reading.delimited import Dialect, read_delimited


def test_a_file_whose_rows_are_all_too_long_has_no_rows_and_says_so() -> None:
    text = b"name,path\nBellis perennis,1.jpg,more\nPoa annua,2.jpg,more\n"
    found = read_delimited(lambda: io.BytesIO(text), Dialect(), {"name": [0], "path": [1]}, "a.csv")
    assert found.table.num_rows == 0
    assert found.table.column_names == ["name", "path"]
    assert len(found.too_long) == 2
