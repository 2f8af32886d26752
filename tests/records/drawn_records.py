"""Records, what a checklist says to their names, and what was seen in their pictures: drawn, for tests of selection."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from taxakey.records.naming.delivered_names import DELIVERED
from taxakey.records.selection import GIVEN, NAMES
from taxakey.records.table import SCHEMA

ROWS = 3000
LICENCES = ["http://creativecommons.org/licenses/by/4.0/legalcode", "CC0_1_0", "CC BY-NC 4.0", None, "© the museum's own"]
BASES = ["PRESERVED_SPECIMEN", "PreservedSpecimen".upper(), "HUMAN_OBSERVATION", "preserved_specimen", None]


def records(rows: int = ROWS, seed: int = 0) -> pa.Table:
    """Rows with a Zipf of names, several hosts and what real records lack."""
    rng = np.random.default_rng(seed)
    species = np.minimum(rng.zipf(1.3, rows), 40)
    at_host = (species + rng.integers(0, 3, rows)) % 7
    columns: dict[str, Any] = {
        "occurrenceID": [f"o{row // 2}" for row in range(rows)],
        "image_id": [f"i{row}" for row in rng.permutation(rows)],
        "identifier": [f"https://Host{host}.example.org:80/{row}.jpg" for row, host in enumerate(at_host)],
        "scientificName": [f"Aus species{number}" for number in species],
        "scientificNameAuthorship": [None if number % 3 else "L." for number in species],
        "kingdom": [None if number % 4 else "Plantae" for number in species],
        "family": ["Oldaceae"] * rows,
        "basisOfRecord": [BASES[i] for i in rng.integers(0, 5, rows)],
        "license": [LICENCES[i] for i in rng.integers(0, 5, rows)],
        "year": [None if y < 1500 else int(y) for y in rng.integers(1450, 2200, rows)],
        "eventDate": ["x"] * rows,
        "decimalLatitude": [0.0 if x < 0.1 else float(x) for x in rng.random(rows)],
        "decimalLongitude": [0.0 if x < 0.3 else float(x) for x in rng.random(rows)],
    }
    return pa.table({name: pa.array(columns.get(name, [None] * rows), SCHEMA.field(name).type) for name in SCHEMA.names})


def checklist_says(table: pa.Table) -> pa.Table:
    """Species 1 to 4 are one; 5 isn't known; 6 was never asked for; 7 and 8 are two taxa of one name; the rest are themselves."""
    rows = []
    for given in sorted({tuple(row.values()) for row in table.select(list(DELIVERED)).to_pylist()}, key=str):
        name = given[0]
        number = int(name.removeprefix("Aus species"))
        accepted = "Bus unus" if number <= 4 else "Cus par" if number in (7, 8) else name
        row = dict(zip(GIVEN, (part or "" for part in given), strict=True))
        row |= {"scientificName": accepted, "taxonID": f"t{accepted}", "family": "Newaceae", "genus": accepted.split()[0]}
        if number == 5:
            row = {**dict.fromkeys(row), **{key: row[key] for key in GIVEN}, "reason": "unmatched"}
        if number == 8:
            row["taxonID"] = "another"
        if number != 6:
            rows.append(row)
    return pa.Table.from_pylist(rows, schema=NAMES)


def inspected(table: pa.Table, seed: int = 1) -> pa.Table:
    rng = np.random.default_rng(seed)
    rows = table.num_rows - 50  # some were never looked at
    groups = [int(g) if g < 200 else None for g in rng.integers(0, 1500, rows)]
    return pa.table(
        {
            "image_id": table["image_id"].to_pylist()[:rows],
            "failure": ["broken" if x < 0.02 else None for x in rng.random(rows)],
            "near_group": pa.array(groups, pa.int64()),
            "sharpness": rng.random(rows),
        }
    )
