"""What a portal would send: a Darwin Core Archive with the faults of real records, and a checklist of the names.

Columns follow GBIF's download: names as its backbone matched them, the label's own name in `verbatimScientificName`.
"""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5
from xml.sax.saxutils import quoteattr
from zlib import crc32

from taxakey.artifacts import open_atomically
from taxakey.progress import track
from taxakey.records.sample.collection import ISLANDS, Collection, Specimen
from taxakey.records.sample.flora import Species
from taxakey.records.sample.institutions import INSTITUTIONS
from taxakey.records.sample.options import stream
from taxakey.records.sample.words import pick

_DWC = "http://rs.tdwg.org/dwc/terms/"
_GBIF = "http://rs.gbif.org/terms/1.0/"
_DCT = "http://purl.org/dc/terms/"
_OWN = "http://example.org/terms/"
_NAMESPACES = {
    **dict.fromkeys(
        (
            "gbifID",
            "datasetKey",
            "acceptedScientificName",
            "verbatimScientificName",
            "species",
            "taxonKey",
            "acceptedTaxonKey",
            "issue",
        ),
        _GBIF,
    ),
    **dict.fromkeys(("type", "format", "identifier", "license", "rightsHolder", "creator", "created"), _DCT),
    **dict.fromkeys(("substrate", "split"), _OWN),
}
OCCURRENCE = (
    *(
        "gbifID",
        "datasetKey",
        "occurrenceID",
        "basisOfRecord",
        "institutionCode",
        "collectionCode",
        "catalogNumber",
        "recordedBy",
        "recordNumber",
    ),
    *("scientificName", "acceptedScientificName", "verbatimScientificName", "species", "taxonRank", "taxonomicStatus"),
    *("kingdom", "phylum", "class", "order", "family", "genus", "specificEpithet", "taxonKey", "acceptedTaxonKey"),
    *("eventDate", "year", "month", "day", "decimalLatitude", "decimalLongitude", "countryCode", "locality", "habitat"),
    *("license", "issue", "vernacularName", "dynamicProperties", "substrate", "split"),
)
MULTIMEDIA = ("gbifID", "type", "format", "identifier", "license", "rightsHolder", "creator", "created")
CHECKLIST = (
    *("taxonID", "scientificName", "scientificNameAuthorship", "taxonRank", "taxonomicStatus", "acceptedNameUsageID"),
    *("family", "genus", "poisonous", "vernacularName"),
)
TRUTH = ("occurrenceID", "trueName", "givenName", "wrongLabel", "duplicateOf", "leak")
_LICENCES = {
    "CC0_1_0": "http://creativecommons.org/publicdomain/zero/1.0/legalcode",
    "CC_BY_4_0": "http://creativecommons.org/licenses/by/4.0/legalcode",
    "CC_BY_NC_4_0": "http://creativecommons.org/licenses/by-nc/4.0/legalcode",
}
_LONG = 5_000  # specimens whose records take some seconds
Row = dict[str, str]


@dataclass(frozen=True)
class Records:
    """The records of a collection, or of its web set; rows are made when asked for, so that memory stays flat."""

    collection: Collection
    web: bool = False

    def __len__(self) -> int:
        return self.collection.options.web if self.web else self.collection.drawn + len(self.collection.sources)

    def specimens(self) -> Iterator[Specimen]:
        """Every specimen in the order of its number."""
        one: Callable[[int], Specimen] = self.collection.web_specimen if self.web else self.collection.specimen
        numbers: Iterable[int] = range(len(self))
        if len(self) >= _LONG:
            numbers = track(numbers, "writing records", total=len(self))
        return map(one, numbers)

    def occurrences(self) -> Iterator[Row]:
        """One row a specimen, as the portal gives it."""
        return map(self.occurrence, self.specimens())

    def multimedia(self) -> Iterator[Row]:
        """One row a photograph."""
        for specimen in self.specimens():
            yield from self.photographs(specimen)

    def photographs(self, specimen: Specimen) -> Iterator[Row]:
        """The rows of one specimen's photographs."""
        licence = self._licence(specimen)
        holder = specimen.collector if self.web else INSTITUTIONS[specimen.institution].name
        for photograph in range(specimen.photographs):
            yield {
                "gbifID": self._gbif_id(specimen),
                "type": "StillImage",
                "format": "image/jpeg",
                "identifier": self._address(specimen, specimen.image_path(photograph)),
                "license": _LICENCES.get(licence, ""),
                "rightsHolder": holder,
                "creator": holder,
                "created": specimen.collected.isoformat() if self.web else "",
            }

    def truth(self) -> Iterator[Row]:
        """What each specimen really is, for experiments on wrong names and duplicates; no portal knows it."""
        names, collection = self.collection.flora.species, self.collection
        for specimen in self.specimens():
            copied = not self.web and specimen.number >= collection.drawn
            source = collection.specimen(int(collection.sources[specimen.number - collection.drawn])) if copied else None
            yield {
                "occurrenceID": occurrence_id(specimen),
                "trueName": names[specimen.species].name.canonical,
                "givenName": names[specimen.named].name.canonical,
                "wrongLabel": _yes(specimen.species != specimen.named),
                "duplicateOf": occurrence_id(source) if source else "",
                "leak": specimen.leak,
            }

    def _address(self, specimen: Specimen, path: str) -> str:
        pattern = self.collection.options.address
        return pattern.format(path=path, number=specimen.institution + 1, institution=specimen.institution_code.lower())

    def _gbif_id(self, specimen: Specimen) -> str:
        return str((5_000_000_000 if self.web else 4_000_000_000) + specimen.number)

    def _licence(self, specimen: Specimen) -> str:
        rng = stream(self.collection.options.seed, "record", specimen.number, 1 + self.web)
        if rng.random() < self.collection.options.dirt.no_licence:
            return ""
        return pick(rng, list(_LICENCES)) if self.web else INSTITUTIONS[specimen.institution].licence

    def occurrence(self, specimen: Specimen) -> Row:
        """The row of one specimen."""
        species = self.collection.flora.species[specimen.named]
        row = {
            "gbifID": self._gbif_id(specimen),
            "datasetKey": "" if self.web else str(uuid5(NAMESPACE_URL, f"http://example.org/{specimen.institution_code}")),
            "occurrenceID": occurrence_id(specimen),
            "basisOfRecord": "HUMAN_OBSERVATION" if self.web else "PRESERVED_SPECIMEN",
            "institutionCode": specimen.institution_code,
            "collectionCode": "" if self.web else "Plants",
            "catalogNumber": specimen.catalog_number,
            "recordedBy": specimen.collector,
            "recordNumber": "" if self.web else str(specimen.record_number),
            "verbatimScientificName": specimen.verbatim,
            "kingdom": "Plantae",
            "phylum": "Tracheophyta",
            "class": "Magnoliopsida",
            "order": species.order,
            "family": species.family,
            "genus": species.name.genus,
            "countryCode": ISLANDS[specimen.island][1],
            "locality": specimen.locality,
            "habitat": specimen.habitat,
            "substrate": specimen.substrate,
            "license": self._licence(specimen),
            "split": specimen.split,
        }
        row |= _genus_columns(species) if specimen.genus_only else _name_columns(specimen, species)
        place, when = self._place_and_date(specimen)
        issues = [*_name_issues(specimen, species), *(["ZERO_COORDINATE"] if place["decimalLatitude"] == "0.0" else [])]
        return row | place | when | {"issue": ";".join(issues)}

    def _place_and_date(self, specimen: Specimen) -> tuple[Row, Row]:
        dirt, rng = self.collection.options.dirt, stream(self.collection.options.seed, "record", specimen.number, 3 + self.web)
        place = {"decimalLatitude": str(specimen.latitude), "decimalLongitude": str(specimen.longitude)}
        if (chance := rng.random()) < dirt.no_coordinates:
            place = dict.fromkeys(place, "")
        elif chance < dirt.no_coordinates + dirt.zero_coordinates:
            place = dict.fromkeys(place, "0.0")
        day = specimen.collected
        when = {"eventDate": day.isoformat(), "year": str(day.year), "month": str(day.month), "day": str(day.day)}
        if (chance := rng.random()) < dirt.no_date:
            when = dict.fromkeys(when, "")
        elif chance < dirt.no_date + dirt.year_only:
            when = {"eventDate": str(day.year), "year": str(day.year), "month": "", "day": ""}
        return place, when


def occurrence_id(specimen: Specimen) -> str:
    """The identifier that an institution gives to a record."""
    again = ":2" if specimen.leak == "same specimen" else ""
    return f"urn:catalog:{specimen.institution_code}:Plants:{specimen.catalog_number}{again}"


def _yes(holds: bool) -> str:
    return "true" if holds else "false"


def _name_columns(specimen: Specimen, species: Species) -> Row:
    return {
        "scientificName": specimen.name.full,
        "acceptedScientificName": species.name.full,
        "species": species.name.canonical,
        "taxonRank": "SPECIES",
        "taxonomicStatus": "ACCEPTED" if specimen.name == species.name else "SYNONYM",
        "specificEpithet": specimen.name.epithet,
        "taxonKey": str(specimen.name.key),
        "acceptedTaxonKey": str(species.name.key),
        "vernacularName": species.vernacular,
        "dynamicProperties": json.dumps({"poisonous": species.poisonous}),
    }


def _genus_columns(species: Species) -> Row:
    """All that is known when a name could be matched to its genus only."""
    name, key = f"{species.name.genus} {species.genus_author}", str(1_000_000 + crc32(species.name.genus.encode()) % 900_000)
    ranks = {"taxonRank": "GENUS", "taxonomicStatus": "ACCEPTED", "taxonKey": key, "acceptedTaxonKey": key}
    return {"scientificName": name, "acceptedScientificName": name, **ranks}


def _name_issues(specimen: Specimen, species: Species) -> list[str]:
    if specimen.genus_only:
        return ["TAXON_MATCH_HIGHERRANK"]
    return ["TAXON_MATCH_FUZZY"] if specimen.verbatim != specimen.name.canonical else []


# ---- files ----


def write_archive(path: Path, records: Records) -> None:
    """Write a Darwin Core Archive; the same records give the same bytes."""
    with open_atomically(path) as file, zipfile.ZipFile(file, "w") as archive:
        for name, columns, rows in (
            ("occurrence.txt", OCCURRENCE, records.occurrences()),
            ("multimedia.txt", MULTIMEDIA, records.multimedia()),
        ):
            with _member(archive, name) as text:
                text.write("\t".join(columns) + "\n")
                text.writelines("\t".join(row.get(column, "") for column in columns) + "\n" for row in rows)
        with _member(archive, "meta.xml") as text:
            text.write(_meta())
        with _member(archive, "eml.xml") as text:
            text.write(_eml("Web pictures" if records.web else "Herbarium sheets"))


@contextmanager
def _member(archive: zipfile.ZipFile, name: str) -> Iterator[io.TextIOWrapper]:
    info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))  # the time of writing would change the bytes
    info.compress_type, info.create_system, info.external_attr = zipfile.ZIP_DEFLATED, 3, 0o644 << 16
    with archive.open(info, "w", force_zip64=True) as raw, io.TextIOWrapper(raw, encoding="utf-8", newline="\n") as text:
        yield text


def _meta() -> str:
    core = _table("core", "id", _DWC + "Occurrence", "occurrence.txt", OCCURRENCE)
    extension = _table("extension", "coreid", _GBIF + "Multimedia", "multimedia.txt", MULTIMEDIA)
    head = '<?xml version="1.0" encoding="UTF-8"?>\n<archive xmlns="http://rs.tdwg.org/dwc/text/" metadata="eml.xml">'
    return f"{head}\n{core}{extension}</archive>\n"


def _table(tag: str, key: str, row_type: str, file: str, columns: Sequence[str]) -> str:
    layout = {
        "encoding": "UTF-8",
        "fieldsTerminatedBy": "\\t",
        "linesTerminatedBy": "\\n",
        "fieldsEnclosedBy": "",
        "ignoreHeaderLines": "1",
    }
    attributes = " ".join(f"{name}={quoteattr(value)}" for name, value in {**layout, "rowType": row_type}.items())
    first = 1 if tag == "extension" else 0  # gbifID is a field of the core, and only the key of an extension
    fields = [f'    <field index="{i}" term="{_NAMESPACES.get(c, _DWC)}{c}"/>\n' for i, c in enumerate(columns) if i >= first]
    return (
        f"  <{tag} {attributes}>\n    <files><location>{file}</location></files>\n"
        f'    <{key} index="0"/>\n{"".join(fields)}  </{tag}>\n'
    )


def _eml(title: str) -> str:
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<eml:eml xmlns:eml="https://eml.ecoinformatics.org/eml-2.2.0" packageId="taxakey-sample" system="taxakey">\n'
        f"  <dataset><title>{title} of an invented flora, drawn by Taxakey</title></dataset>\n</eml:eml>\n"
    )


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Row]) -> None:
    """Write rows as CSV, UTF-8, with a header."""
    with open_atomically(path, "w") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def checklist(collection: Collection) -> Iterator[Row]:
    """Accepted names and synonyms of the known species, sorted by name; unknown species aren't in it."""
    for species in sorted(
        (collection.flora.species[index] for index in collection.flora.known), key=lambda one: one.name.canonical
    ):
        for name in (species.name, *species.synonyms):
            yield {
                "taxonID": str(name.key),
                "scientificName": name.canonical,
                "scientificNameAuthorship": name.author,
                "taxonRank": "SPECIES",
                "taxonomicStatus": "Accepted" if name == species.name else "Synonym",
                "acceptedNameUsageID": str(species.name.key),
                "family": species.family,
                "genus": name.genus,
                "poisonous": _yes(species.poisonous),
                "vernacularName": species.vernacular if name == species.name else "",
            }
