"""Datasets of one table and a folder of pictures: Danish Fungi and FungiCLEF, PlantCLEF, the mini set of NAFlora-1M.

Columns are found by their names, without regard to case and underscores, so that the small differences between the years don't
matter; what a layout needs to be recognised is in `marks`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from taxakey.errors import BadRecords
from taxakey.records.layouts.roots import root_of
from taxakey.records.reading.archives import TABLE_SUFFIXES
from taxakey.records.reading.checking import TOO_LONG, first_of, observations
from taxakey.records.reading.delimited import plain, read_delimited
from taxakey.records.reading.distinct import by_distinct
from taxakey.records.reading.names import Columns, author_of, name_rows, without_author
from taxakey.records.reading.pictures import ids_of_table, locate_all
from taxakey.records.reading.tables import open_table, sniff_table
from taxakey.records.table import Observations


@dataclass(frozen=True)
class Layout:
    """`columns`: ours -> theirs, in lower case without underscores, in the order of preference; `marks`: sets of columns of
    which one must be there; `roots`: folders in which the pictures may lie; `whole_names`: names have their author behind them;
    `picture`: the path of a picture where no column has it, from the columns.
    """

    name: str
    columns: Mapping[str, tuple[str, ...]]
    marks: tuple[frozenset[str], ...]
    roots: tuple[str, ...] = ()
    constants: Mapping[str, str] = field(default_factory=dict)
    whole_names: bool = False
    picture: Callable[[Columns], pa.ChunkedArray] | None = None

    def recognises(self, path: Path) -> bool:
        """Whether a file is a table with the columns of this layout."""
        if not path.is_file() or path.suffix.lower() not in TABLE_SUFFIXES:
            return False
        header = {_plainly(name) for name in sniff_table(path)[1]}
        return any(marks <= header for marks in self.marks)

    def read(self, path: Path) -> Observations:
        """Read the table; raises BadRecords where a name or a picture is lacking."""
        dialect, header = sniff_table(path)
        positions = self._positions(header, path)
        found = read_delimited(partial(open_table, path), dialect, {name: (at,) for name, at in positions.items()}, str(path))
        columns: Columns = dict(zip(found.table.column_names, found.table.columns, strict=True))
        return self._observations(columns, len(found.table), path).add_rejected(TOO_LONG, found.too_long)

    def _positions(self, header: list[str], path: Path) -> dict[str, int]:
        places = {_plainly(name): at for at, name in reversed([*enumerate(header)])}
        found = {}
        for ours, theirs in self.columns.items():
            position = next((places[name] for name in theirs if name in places), None)
            if position is not None:
                found[ours] = position
        lacking = [
            name for name in ("scientificName", "picture") if name not in found and not (name == "picture" and self.picture)
        ]
        if lacking:
            known = ", ".join(self.columns[lacking[0]])
            raise BadRecords(
                f"{path}: no column for {lacking[0]} as {self.name} has it ({known}); its columns are {', '.join(header)}; "
                "name them with --column"
            )
        return found

    def _observations(self, columns: Columns, rows: int, path: Path) -> Observations:
        for name, value in self.constants.items():
            columns.setdefault(name, pa.chunked_array([pa.repeat(value, rows).dictionary_encode()]))
        picture = plain(columns.pop("picture")) if "picture" in columns else self.picture(columns)  # type: ignore[misc]
        columns["path"], misplaced = locate_all(picture, [root_of(path.parent, self.roots, picture)], confined=True)
        columns["identifier"] = first_of({**columns, "picture": picture}, "identifier", "picture")
        if self.whole_names:
            columns["verbatimScientificName"] = columns["scientificName"]
            columns["scientificName"] = by_distinct(without_author, columns["verbatimScientificName"])
            columns.setdefault("scientificNameAuthorship", by_distinct(author_of, columns["verbatimScientificName"]))
        columns["image_id"] = ids_of_table(plain(columns["image_id"]) if "image_id" in columns else None, picture)
        columns["occurrenceID"] = first_of(columns, "occurrenceID", "image_id")
        unnamed = name_rows(columns, rows)
        return observations(columns, pc.coalesce(misplaced, unnamed), picture)


def _plainly(name: str) -> str:
    return name.lower().replace("_", "").replace(" ", "")


# ---- the layouts ----

_COMMON = {
    "family": ("family",), "order": ("order",), "class": ("class",), "phylum": ("phylum",), "kingdom": ("kingdom",),
    "genus": ("genus",), "eventDate": ("eventdate", "date"), "year": ("year",), "month": ("month",), "day": ("day",),
    "decimalLatitude": ("latitude", "decimallatitude"), "decimalLongitude": ("longitude", "decimallongitude"),
    "countryCode": ("countrycode",), "license": ("license",), "rightsHolder": ("rightsholder",), "split": ("learntag", "split"),
}  # fmt: skip

DANISH_FUNGI = Layout(
    name="danish-fungi",
    columns=_COMMON
    | {
        "picture": ("imagepath", "filename", "imageuniqueid"),
        "identifier": ("imageurl",),
        "occurrenceID": ("observationid", "observation", "gbifid"),
        "scientificName": ("species", "scientificname"),
        "taxonRank": ("taxonrank",),
        "taxonID": ("classid",),
        "habitat": ("habitat",),
        "substrate": ("substrate", "metasubstrate"),
        "metasubstrate": ("metasubstrate",),
        "poisonous": ("poisonous",),
        "gbifID": ("gbifid",),
    },
    marks=(frozenset({"imageuniqueid"}), frozenset({"substrate", "habitat", "classid"}), frozenset({"metasubstrate", "habitat"})),
    roots=("DF20", "DF20_300", "DF21", "DF21_300", "images"),
    constants={"kingdom": "Fungi"},
)
"""Danish Fungi 2020 (Picek et al., 2022) and FungiCLEF 2022 to 2024: comma, one row a picture. `species` is the name without its
author; class_id -1 (unknown species) has none. MetaSubstrate is read where there is no Substrate."""


def _plantclef_picture(columns: Columns) -> pa.ChunkedArray:
    return pc.binary_join_element_wise(plain(columns["taxonID"]), plain(columns["image_name"]), "/")


PLANTCLEF = Layout(
    name="plantclef",
    columns=_COMMON
    | {
        "picture": ("imagepath",),
        "image_name": ("imagename",),
        "identifier": ("url", "imagebackupurl"),
        "occurrenceID": ("obsid", "observationid", "gbifoccurrenceid"),
        "scientificName": ("species", "scientificname", "speciesname"),
        "taxonID": ("speciesid", "classid"),
        "organ": ("organ",),
        "creator": ("author",),
        "institutionCode": ("partner", "publisher"),
    },
    marks=(
        frozenset({"speciesid", "imagename"}),
        frozenset({"speciesid", "imagepath"}),
        frozenset({"classid", "imagepath", "species"}),
    ),
    roots=("images", "train", "val", "test"),
    constants={"kingdom": "Plantae"},
    whole_names=True,
    picture=_plantclef_picture,
)
"""PlantCLEF 2022 to 2024: semicolons, one row a picture. Assumed columns, all but two optional: image_path, or image_name below a
folder named by species_id; species_id (classid in 2022's web part), obs_id, species with its author, genus, family, organ,
author, license, partner, url, learn_tag. Pictures lie in images/ beside the table."""


def _naflora_picture(columns: Columns) -> pa.ChunkedArray:
    name = plain(columns["image_id"])
    return pc.binary_join_element_wise(
        pc.utf8_slice_codeunits(name, 0, 3),
        pc.utf8_slice_codeunits(name, 3, 5),
        pc.binary_join_element_wise(name, ".jpg", ""),
        "/",
    )


NAFLORA_MINI = Layout(
    name="naflora-mini",
    columns={
        "image_id": ("imageid",),
        "taxonID": ("categoryid",),
        "scientificName": ("scientificname",),
        "scientificNameAuthorship": ("authors",),
        "family": ("family",),
        "genus": ("genus",),
        "specificEpithet": ("species",),
        "institutionCode": ("institutionid",),
        "picture": ("filename",),
    },
    marks=(frozenset({"categoryid", "genusid", "institutionid", "imageid", "scientificname"}),),
    roots=("train_images", "images"),
    constants={"kingdom": "Plantae"},
    picture=_naflora_picture,
)
"""The table of NAFlora-1M's mini set (dpl10/NAFlora-1M): tabs, a nameless first column, `species` an epithet. The picture of
image_id 00026__004 is 000/26/00026__004.jpg, as in Herbarium 2022."""
