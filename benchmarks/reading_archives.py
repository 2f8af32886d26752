"""How fast an archive of occurrences with pictures is read, and with how much memory: ours beside its peers.

    python benchmarks/reading_archives.py [--rows 200000] [--ways Taxakey,pandas.read_csv,python-dwca-reader] [--out RESULT.json]

The zip is written here: GBIF's tables (tab-separated, no quotation marks; 62 columns, of which 33 are filled), one picture an
occurrence, names of 20,000 species by a Zipf law, 2 % of the pictures of no occurrence. "Taxakey" ends with checked
Observations; "pandas.read_csv" reads all columns of both tables as text and joins nothing; "python-dwca-reader" walks the rows
and the extension rows of each. Each way runs in a process of its own; memory is the peak of its resident pages (VmHWM),
and the rate is by processor time, so that a busy machine doesn't slow one of them.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

SPECIES = 20_000
BLOCK = 100_000
UNUSED = [f"unused{number}" for number in range(29)]
MEDIA = {
    "gbifID": None, "type": "StillImage", "format": "image/jpeg", "identifier": None,
    "license": "http://creativecommons.org/licenses/by/4.0/", "rightsHolder": None, "creator": None,
}  # fmt: skip


# ---- the archive ----


def write_archive(file: Path, rows: int) -> None:
    """A zip with meta.xml, occurrence.txt and multimedia.txt."""
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, block in (("occurrence.txt", occurrences), ("multimedia.txt", pictures)):
            with archive.open(name, "w", force_zip64=True) as member:
                for first in range(0, rows, BLOCK):
                    table = block(rng, np.arange(first, min(first + BLOCK, rows)))
                    options = pyarrow.csv.WriteOptions(
                        include_header=first == 0, delimiter="\t", quoting_style="none", quoting_header="none"
                    )
                    pyarrow.csv.write_csv(table, member, options)
        core, media = occurrences(rng, np.arange(1)).column_names, list(MEDIA)
        archive.writestr("meta.xml", meta_xml(core, media))


def occurrences(rng: np.random.Generator, numbers: np.ndarray) -> pa.Table:
    count = len(numbers)
    species = np.minimum(rng.zipf(1.3, count), SPECIES)
    place = rng.integers(0, 60, count)
    day = rng.integers(1, 29, count)
    columns = {
        "gbifID": numbers + 4_000_000_000,
        "datasetKey": text("50c9509d-22c7-4a22-a47d-8c48425e", place + 1000),
        "occurrenceID": text("066918cc-3e03-4a13-96e9-", numbers + 10**11),
        "kingdom": ["Plantae"] * count, "phylum": ["Tracheophyta"] * count, "class": ["Magnoliopsida"] * count,
        "order": text("Ordo", species % 60), "family": text("Familiaceae", species % 300), "genus": text("Genus", species % 4000),
        "species": text("Genus", species % 4000, " epitheton", species), "taxonRank": ["SPECIES"] * count,
        "scientificName": text("Genus", species % 4000, " epitheton", species, " (Linnaeus) Author, ", 1800 + species % 200),
        "scientificNameAuthorship": text("(Linnaeus) Author, ", 1800 + species % 200),
        "taxonKey": 2_000_000 + species, "speciesKey": 2_000_000 + species, "basisOfRecord": ["PRESERVED_SPECIMEN"] * count,
        "institutionCode": text("I", place), "collectionCode": text("Herbarium", place % 7), "catalogNumber": text("B", numbers),
        "recordNumber": rng.integers(1, 9999, count), "recordedBy": text("Collector ", rng.integers(0, 5000, count)),
        "eventDate": text("19", 10 + day, "-0", 1 + day % 9, "-0", 1 + day % 9), "year": 1910 + day, "month": 1 + day % 9,
        "day": 1 + day % 9, "decimalLatitude": np.round(rng.uniform(-60, 70, count), 5),
        "decimalLongitude": np.round(rng.uniform(-180, 180, count), 5), "countryCode": text("C", place),
        "habitat": text("dry grassland, slope ", rng.integers(0, 999, count)),
        "license": ["CC_BY_4_0"] * count, "rightsHolder": text("Botanic Garden ", place), "locality": text("Village ", numbers),
        "lastInterpreted": ["2026-01-01T00:00:00Z"] * count,
    }  # fmt: skip
    return pa.table(columns | {name: [""] * count for name in UNUSED})


def pictures(rng: np.random.Generator, numbers: np.ndarray) -> pa.Table:
    orphan = rng.random(len(numbers)) < 0.02
    filled = {
        "gbifID": np.where(orphan, 9_000_000_000, 4_000_000_000) + rng.permutation(numbers),
        "identifier": text("https://images.example.org/herbarium/sheets/original/", numbers, "/full.jpg"),
        "rightsHolder": text("Botanic Garden ", numbers % 60),
        "creator": text("Photographer ", numbers % 5000),
    }
    return pa.table({name: filled.get(name, [constant] * len(numbers)) for name, constant in MEDIA.items()})


def text(*parts: str | np.ndarray) -> pa.Array:
    columns = [part if isinstance(part, str) else pa.array(part).cast(pa.string()) for part in parts]
    return pc.binary_join_element_wise(*columns, "")


def meta_xml(core: list[str], media: list[str]) -> str:
    def table(tag: str, key: str, kind: str, file: str, names: list[str]) -> str:
        fields = "".join(f'<field index="{at}" term="http://rs.tdwg.org/dwc/terms/{name}"/>' for at, name in enumerate(names))
        return (
            rf'<{tag} encoding="UTF-8" fieldsTerminatedBy="\t" linesTerminatedBy="\n" fieldsEnclosedBy="" ignoreHeaderLines="1" '
            f'rowType="{kind}"><files><location>{file}</location></files><{key} index="0"/>{fields}</{tag}>'
        )

    return (
        '<archive xmlns="http://rs.tdwg.org/dwc/text/">'
        + table("core", "id", "http://rs.tdwg.org/dwc/terms/Occurrence", "occurrence.txt", core)
        + table("extension", "coreid", "http://rs.gbif.org/terms/1.0/Multimedia", "multimedia.txt", media)
        + "</archive>"
    )


# ---- the ways ----


def taxakey(file: Path) -> int:
    from taxakey.records.sources import read_source

    found = read_source(file)
    return len(found) + found.rejections()["picture of no occurrence"]


def pandas(file: Path) -> int:
    from pandas import read_csv

    with zipfile.ZipFile(file) as archive:
        core, media = (
            read_csv(archive.open(name), sep="\t", quoting=3, dtype=str, keep_default_na=False)
            for name in ("occurrence.txt", "multimedia.txt")
        )
    return min(len(core), len(media))


def dwca_reader(file: Path) -> int:
    from dwca.read import DwCAReader

    with DwCAReader(str(file)) as archive:
        return sum(1 for row in archive if row.extensions is not None)


WAYS: dict[str, Callable[[Path], int]] = {"Taxakey": taxakey, "pandas.read_csv": pandas, "python-dwca-reader": dwca_reader}


def measured(name: str, file: Path, answers: multiprocessing.Queue) -> None:  # type: ignore[type-arg]
    begun, processor = time.perf_counter(), time.process_time()
    rows = WAYS[name](file)
    seconds, processor = time.perf_counter() - begun, time.process_time() - processor
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    times = {"seconds": round(seconds, 2), "processor_seconds": round(processor, 2)}
    answers.put({"way": name, "rows": rows, **times, "peak_MB": round(int(peak.split()[1]) / 1000)})


def run(names: list[str], file: Path) -> Iterator[dict[str, object]]:
    context = multiprocessing.get_context("spawn")
    for name in names:
        answers = context.Queue()
        process = context.Process(target=measured, args=(name, file, answers))
        process.start()
        answer = answers.get()
        process.join()
        yield answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--file", type=Path, help="an archive written before; by default one is written")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = given.file or Path(folder) / "archive.zip"
        if not file.is_file():
            write_archive(file, given.rows)
        print(f"{given.rows:,} occurrences and as many pictures, {file.stat().st_size / 1e6:,.0f} MB zipped")
        results = []
        for result in run(given.ways.split(","), file):
            assert result["rows"] == given.rows, result
            speed = given.rows / float(str(result["processor_seconds"]))
            times = f"{result['seconds']:8} s, {result['processor_seconds']:8} s of processor time: {speed:9,.0f} occurrences/s"
            print(f"{result['way']:20} {times}, {result['peak_MB']:6,} MB", flush=True)
            results.append(result)
    if given.out:
        facts = {"date": datetime.now(UTC).date().isoformat(), "machine": platform.machine(), "rows": given.rows}
        given.out.write_text(json.dumps(facts | {"results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
