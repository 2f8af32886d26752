"""Records of small pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from small_pictures import MakeRecords, noise

from taxakey.artifacts import Plan
from taxakey.records.table import Observations


@pytest.fixture
def make_records(tmp_path: Path) -> MakeRecords:
    """Writes records of pictures given as (path, species, split) with further columns by name."""

    def make(rows: Sequence[tuple[Path | str | None, str, str]], name: str = "records", **columns: Sequence[Any]) -> Path:
        numbers = range(len(rows))
        table = pa.table(
            {
                "occurrenceID": [f"o{number}" for number in numbers],
                "image_id": [f"i{number}" for number in numbers],
                "path": pa.array([None if row[0] is None else str(row[0]) for row in rows], pa.string()),
                "identifier": [f"https://example.org/{number}" for number in numbers],
                "scientificName": [row[1] for row in rows],
                "split": pa.array([row[2] for row in rows], pa.string()),
                **columns,
            }
        )
        found = Observations.from_table(table)
        assert not found.rejected.num_rows
        found.write(tmp_path / name, Plan("records"))
        return tmp_path / name

    return make


@pytest.fixture
def small_records(tmp_path: Path, make_records: MakeRecords) -> Path:
    """Forty good pictures of three species, a third of them not for training; one species is in test only."""
    rows = []
    for number in range(40):
        file = tmp_path / f"pictures/{number}.jpg"
        file.parent.mkdir(exist_ok=True)
        noise(number, 60, 80).save(file, quality=90)
        species = ("Poa annua", "Poa bulbosa", "Bellis perennis")[number % 3]
        rows.append((file, species, ("train", "train", "train", "validation", "test")[number % 5]))
    rows.append((rows[0][0], "Zea mays", "test"))
    return make_records(rows)
