"""The same specimens as a second portal delivers them: iDigBio's way, two tables in a zip and no meta.xml.

A third of its records lacks the occurrenceID, so that only institution, collection and catalogue number show what they are.
"""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

from taxakey.artifacts import open_atomically
from taxakey.records.sample.archive import Records, Row, occurrence_id
from taxakey.records.sample.collection import Specimen
from taxakey.records.sample.options import stream

_DELIVERED_TWICE = (
    *("basisOfRecord", "institutionCode", "collectionCode", "catalogNumber", "recordedBy", "recordNumber", "scientificName"),
    *(
        "taxonRank",
        "kingdom",
        "phylum",
        "class",
        "order",
        "family",
        "genus",
        "specificEpithet",
        "eventDate",
        "year",
        "month",
        "day",
    ),
    *("decimalLatitude", "decimalLongitude", "countryCode", "locality", "habitat"),
)
OCCURRENCE = ("id", "dwc:occurrenceID", *(f"dwc:{name}" for name in _DELIVERED_TWICE))
MULTIMEDIA = (
    "coreid",
    "idigbio:uuid",
    "ac:accessURI",
    "dcterms:type",
    "dcterms:format",
    "dcterms:license",
    "dcterms:rightsHolder",
)


def write_idigbio(path: Path, records: Records) -> None:
    """Write the zip; the same records give the same bytes."""
    with open_atomically(path) as file, zipfile.ZipFile(file, "w") as archive:
        for name, columns, rows in (
            ("occurrence.csv", OCCURRENCE, _occurrences(records)),
            ("multimedia.csv", MULTIMEDIA, _multimedia(records)),
        ):
            info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            info.compress_type, info.create_system, info.external_attr = zipfile.ZIP_DEFLATED, 3, 0o644 << 16
            with archive.open(info, "w", force_zip64=True) as raw, io.TextIOWrapper(raw, "utf-8", newline="\n") as text:
                writer = csv.DictWriter(text, columns, lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)


def delivered(records: Records) -> Iterator[Specimen]:
    """The specimens that this portal has too."""
    options = records.collection.options
    return (one for one in records.specimens() if stream(options.seed, "record", one.number, 5).random() < options.idigbio)


def _occurrences(records: Records) -> Iterator[Row]:
    for specimen in delivered(records):
        row = records.occurrence(specimen)
        lacking = stream(records.collection.options.seed, "record", specimen.number, 6).random() < 1 / 3
        ids = {"id": _uuid(records, specimen, 0), "dwc:occurrenceID": "" if lacking else occurrence_id(specimen)}
        yield ids | {f"dwc:{name}": row.get(name, "") for name in _DELIVERED_TWICE}


def _multimedia(records: Records) -> Iterator[Row]:
    for specimen in delivered(records):
        for photograph, row in enumerate(records.photographs(specimen)):
            yield {
                "coreid": _uuid(records, specimen, 0),
                "idigbio:uuid": _uuid(records, specimen, 1 + photograph),
                "ac:accessURI": row["identifier"],
                "dcterms:type": row["type"],
                "dcterms:format": row["format"],
                "dcterms:license": row["license"],
                "dcterms:rightsHolder": row["rightsHolder"],
            }


def _uuid(records: Records, specimen: Specimen, number: int) -> str:
    rng = stream(records.collection.options.seed, "record", specimen.number, 7, number)
    return str(UUID(bytes=rng.bytes(16), version=4))
