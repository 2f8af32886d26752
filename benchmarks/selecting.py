"""Millions of generated records through names, filter, cap and split, beside the query one would write first and beside pandas.

    python benchmarks/selecting.py FOLDER [--records 50000000] [--peers] [--engine duckdb|spark]

FOLDER keeps the generated Parquet files. Names follow Zipf's law over 20,000 species; 15 % of the rows carry one of their
synonyms, 1 % a name that no checklist has; a fifth breaks another rule. Each way runs in a process of its own and ends with the
kept rows in memory: wall-clock and processor seconds, and its peak memory (VmHWM). pandas is meant for 5 million.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from taxakey.records.engines import EngineName, open_engine
from taxakey.records.naming.delivered_names import DELIVERED
from taxakey.records.selection import NAMES, SelectionOptions, given_names, select
from taxakey.records.splits import split
from taxakey.records.table import SCHEMA, Observations

SPECIES = 20_000
SYNONYMS = 3
OPTIONS = SelectionOptions(basis_of_record=("PRESERVED_SPECIMEN",), licences=("CC0", "CC-BY", "CC-BY-NC"))

_DRAWN = """
select
  'urn:catalog:X' || (row // 2) as "occurrenceID", 'x' || row as image_id,
  'https://herbarium' || (row * 7919 % 60) || '.example.org/images/' || row || '.jpg' as identifier,
  case when hash(row, 1) % 100 = 0 then 'Nomen nudum' || species
       when hash(row, 2) % 100 < 15 then 'Synonymum sp' || species || 's' || (hash(row, 3) % {synonyms})
       else 'Genus' || (species // 10) || ' sp' || species end as "scientificName",
  'Author ' || (species % 500) as "scientificNameAuthorship", 'Plantae' as kingdom, 'Familia' || (species // 100) as family,
  case when hash(row, 4) % 100 < 8 then 'HUMAN_OBSERVATION' else 'PRESERVED_SPECIMEN' end as "basisOfRecord",
  case when hash(row, 5) % 100 < 12 then 'All rights reserved'
       else 'http://creativecommons.org/licenses/by/4.0/legalcode' end as license,
  1850 + cast(hash(row, 6) % 170 as integer) as year, (hash(row, 7) % 18000) / 100.0 - 90 as "decimalLatitude",
  (hash(row, 8) % 36000) / 100.0 - 180 as "decimalLongitude", 'HUH' || (hash(row, 9) % 54) as "institutionCode",
  cast(row as string) as "catalogNumber"
from (select range as row, cast(floor(exp(hash(range) / 18446744073709551616.0 * ln({species} + 1))) as bigint) - 1 as species
      from range({first}, {last}))
"""


def generate(folder: Path, records: int, per_file: int = 5_000_000) -> list[Path]:
    """The Parquet files, drawn where they aren't there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(SCHEMA.empty_table(), folder / "schema.parquet")
    files = [folder / "schema.parquet"]
    for first in range(0, records, per_file):
        file = folder / f"{first:012}-{min(records, first + per_file):012}.parquet"
        if not file.is_file():
            sql = _DRAWN.format(species=SPECIES, synonyms=SYNONYMS, first=first, last=min(records, first + per_file))
            duckdb.sql(sql).write_parquet(str(file) + ".partial", compression="zstd")
            Path(str(file) + ".partial").rename(file)
        files.append(file)
    return files


def checklist() -> dict[str, int]:
    """Known name -> species."""
    known = {f"Genus{number // 10} sp{number}": number for number in range(SPECIES)}
    return known | {f"Synonymum sp{number}s{s}": number for number in range(SPECIES) for s in range(SYNONYMS)}


def looked_up(given: pa.Table) -> pa.Table:
    species = checklist()
    rows = []
    for delivered in given.to_pylist():
        number = species.get(delivered["scientificName"])
        row = {theirs: delivered[ours] or "" for ours, theirs in DELIVERED.items()}
        if number is None:
            rows.append({**row, "reason": "unmatched"})
        else:
            name = {"scientificName": f"Genus{number // 10} sp{number}", "genus": f"Genus{number // 10}"}
            rows.append(row | name | {"taxonID": str(number), "kingdom": "Plantae", "family": f"Familia{number // 100}"})
    return pa.Table.from_pylist(rows, schema=NAMES)


def ours(files: list[Path], engine_name: EngineName) -> str:
    with open_engine(engine_name, memory="1500MB", spill=files[0].parent / "spill") as engine:
        engine.read("observations", files)
        times = [time.perf_counter()]
        names = looked_up(given_names(engine))
        times.append(time.perf_counter())
        selected = select(engine, OPTIONS, names=names)
        times.append(time.perf_counter())
    observations = split(Observations(selected.table, SCHEMA.empty_table()))
    times.append(time.perf_counter())
    names_s, select_s, split_s = np.diff(times)
    return f"{len(observations):,} images kept; names {names_s:.0f} s, filter and cap {select_s:.0f} s, split {split_s:.0f} s"


def naive(files: list[Path]) -> str:
    """One query with a window over all rows, DuckDB's defaults but for the memory."""
    known = checklist()
    names = pa.table({"name": list(known), "species": [f"sp{number}" for number in known.values()]})
    connection = duckdb.connect()
    connection.execute("set memory_limit = '12GB'")
    connection.execute(f"set temp_directory = '{files[0].parent / 'spill'}'")
    connection.register("names", names)
    rows = connection.read_parquet([str(file) for file in files[1:]])
    rows.create_view("rows")
    kept = connection.sql("""
        select * from (
          select r.*, n.species, count(*) over (partition by n.species) as images,
            row_number() over (partition by n.species order by md5(r.image_id || ':0')) as place
          from rows r join names n on r."scientificName" = n.name
          where r."basisOfRecord" = 'PRESERVED_SPECIMEN' and r.license like '%creativecommons%')
        where images > 10 and place <= 100""").to_arrow_table()
    return f"{len(kept):,} images kept"


def pandas_way(files: list[Path]) -> str:
    import pandas as pd

    table = pd.concat([pd.read_parquet(file) for file in files[1:]])
    table["species"] = table["scientificName"].map(checklist())
    table = table[table["species"].notna() & (table["basisOfRecord"] == "PRESERVED_SPECIMEN")]
    table = table[table["license"].str.contains("creativecommons")]
    table = table[table.groupby("species")["image_id"].transform("size") > 10]
    kept = table.sample(frac=1, random_state=0).groupby("species").head(100)
    return f"{len(kept):,} images kept"


def _peak() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--records", type=int, default=50_000_000)
    parser.add_argument("--engine", choices=("duckdb", "spark"), default="duckdb")
    parser.add_argument("--peers", action="store_true", help="the naive query and pandas as well")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    options = parser.parse_args()
    files = generate(options.folder / str(options.records), options.records)
    if options.only:
        begun = time.perf_counter()
        ways = {
            "taxakey": lambda: ours(files, options.engine),
            "naive": lambda: naive(files),
            "pandas": lambda: pandas_way(files),
        }
        said = ways[options.only]()
        print(json.dumps({"seconds": time.perf_counter() - begun, "cpu": time.process_time(), "peak": _peak(), "said": said}))
        return
    print(f"{options.records:,} records, {sum(file.stat().st_size for file in files) / 1e9:.1f} GB of Parquet")
    first = None
    for way in ("taxakey", *(("naive", "pandas") if options.peers else ())):
        command = [sys.executable, __file__, *sys.argv[1:], "--only", way]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            print(f"{way:8} failed: {done.stderr.strip().splitlines()[-1][:200] if done.stderr.strip() else done.returncode}")
            continue
        found = json.loads(done.stdout.splitlines()[-1])
        first = first or found["seconds"]
        ratio = found["seconds"] / first
        spent = f"{found['seconds']:6.1f} s ({ratio:.1f} ×), {found['cpu']:.0f} s of processors, {found['peak'] / 1e9:.2f} GB"
        print(f"{way:8} {spent}; {found['said']}", flush=True)


if __name__ == "__main__":
    main()
