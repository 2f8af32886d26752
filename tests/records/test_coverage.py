from __future__ import annotations

import pyarrow as pa

from taxakey.records.coverage import by_family, coverage


def test_species_are_counted_from_the_checklist_to_the_dataset() -> None:
    species = pa.table(
        {"scientificName": ["Bus b", "Aus c", "Aus a", "Aus d"], "family": ["Baceae", "Aaceae", "Aaceae", "Aaceae"]}
    )
    counts = pa.table(
        {
            "accepted": ["Aus a", "Aus a", "Bus b", None, "Aus d", "Zus z"],
            "dropped": pa.array([None, "licence", "licence", "unmatched", None, None], pa.string()),
            "images": [12, 3, 4, 99, 5, 1],
        }
    )
    selected = pa.table({"scientificName": ["Aus a"] * 10})
    found = coverage(species, counts, selected)
    assert found.to_pylist() == [
        {"scientificName": "Aus a", "family": "Aaceae", "records": 15, "usable": 12, "images": 10},
        {"scientificName": "Aus c", "family": "Aaceae", "records": 0, "usable": 0, "images": 0},
        {"scientificName": "Aus d", "family": "Aaceae", "records": 5, "usable": 5, "images": 0},
        {"scientificName": "Bus b", "family": "Baceae", "records": 4, "usable": 0, "images": 0},
    ]
    assert by_family(found, enough=10).to_pylist() == [
        {"family": "Aaceae", "species": 3, "with_records": 2, "with_enough": 1, "in_dataset": 1},
        {"family": "Baceae", "species": 1, "with_records": 1, "with_enough": 0, "in_dataset": 0},
    ]
