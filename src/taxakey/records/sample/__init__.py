"""The simulated herbarium: records, names and sheets of an invented flora, drawn from a seed, without network.

options.py       what is asked for, and the random streams of a seed
words.py         invented names of plants, people and places
flora.py         families, genera, species and the traits that they inherit
institutions.py  the herbaria and the look of their sheets
collection.py    specimens by number: which species, where, when, by whom
shapes.py        outlines of leaves, petals, fruits
growth.py        how a plant grows: where its stems, leaves and flowers are
painting.py      a plant as picture
lettering.py     text, stamps, barcodes
sheet.py         the whole sheet and its photograph
web.py           the plant where it grew
drawing.py       all pictures, in parallel, resumable
archive.py       Darwin Core Archive, checklist, the truth
idigbio.py       the same specimens from a second portal
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from taxakey import artifacts, progress
from taxakey.artifacts import Manifest, Plan
from taxakey.records.sample.archive import CHECKLIST, TRUTH, Records, checklist, write_archive, write_table
from taxakey.records.sample.collection import Collection, Specimen
from taxakey.records.sample.drawing import copy_duplicates, draw_all
from taxakey.records.sample.flora import Flora, Species
from taxakey.records.sample.idigbio import write_idigbio
from taxakey.records.sample.institutions import INSTITUTIONS, Institution
from taxakey.records.sample.options import Dirt, SampleOptions
from taxakey.records.sample.sheet import draw_sheet

__all__ = [
    "INSTITUTIONS",
    "Collection",
    "Dirt",
    "Flora",
    "Institution",
    "SampleOptions",
    "Species",
    "Specimen",
    "draw_sheet",
    "sample",
]

KIND = "sample"


def sample(out: Path | str, options: SampleOptions | None = None, *, workers: int = 2) -> Manifest:
    """Draw a simulated herbarium into a folder: archive.zip, checklist.csv, truth.csv, images/; on request web.zip, idigbio.zip.

    Image identifiers in the archives are paths relative to the folder, unless `address` says otherwise. An interrupted run goes
    on where it stopped; the number of `workers` (processes) changes nothing in the result. Raises PlanMismatch for a folder
    begun with other options. Where processes are started (from some 200 sheets on), the caller's script needs the usual
    `if __name__ == "__main__":`.
    """
    out, options = Path(out), options or SampleOptions()
    recipe = asdict(options)
    plan = Plan(KIND, recipe=recipe, seed=recipe.pop("seed"))
    if artifacts.start(out, plan) == "finished":
        return artifacts.read_manifest(out, KIND)
    collection = Collection(options)
    counts = _counts(collection)
    for _ in progress.track(draw_all(collection, out, workers), "drawing sheets", total=counts["sheets"] + counts["web"]):
        pass
    copy_duplicates(collection, out)
    _write_tables(collection, out)
    return artifacts.finish(out, plan, counts=counts)


def _write_tables(collection: Collection, out: Path) -> None:
    sheets, web = Records(collection), Records(collection, web=True)
    write_table(out / "checklist.csv", CHECKLIST, checklist(collection))
    write_table(out / "truth.csv", TRUTH, (row for records in (sheets, web) for row in records.truth()))
    write_archive(out / "archive.zip", sheets)
    if len(web):
        write_archive(out / "web.zip", web)
    if collection.options.idigbio:
        write_idigbio(out / "idigbio.zip", sheets)


def _counts(collection: Collection) -> dict[str, int]:
    """Numbers of what is drawn. Images are files: the sheets and their duplicates; web pictures are counted apart."""
    flora, sheets = collection.flora, int(collection.photographs.sum())
    present = [flora.species[index] for index in sorted(set(collection.species.tolist()))]
    # Among two thousand specimens every institution that has any is met; drawing all only to count them would take long.
    institutions = {collection.specimen(number).institution for number in range(min(collection.drawn, 2000))}
    return {
        "sheets": sheets,
        "images": sheets + len(collection.sources),
        "specimens": collection.drawn,
        "occurrences": collection.drawn + len(collection.sources),
        "species": len(present),
        "unknown_species": len(flora.unknown),
        "genera": len({species.name.genus for species in present}),
        "families": len({species.family for species in present}),
        "institutions": len(institutions),
        "web": collection.options.web,
    }
