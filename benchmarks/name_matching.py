"""Names matched by Taxakey beside names matched by others, and how long it takes.

    python benchmarks/name_matching.py --data $TAXAKEY_DATA [--examples 5] [--speed] [--out RESULT.json]

Agreement is measured on rWCVP's fuzzy matches of IUCN names, which people checked (redlist-fuzzy-checked.csv). The checklist is
the WCVP extract together with the file's own wcvp_* columns: nearly none of its names is in the extract. What the reviewers
rejected has no row there, so these names should stay unmatched; the wrong names they were offered are absent, which makes this
part easy. Further: IUCN's whole list against the extract, others' dirty lists, and how often a name that is left out of the
checklist would be taken for its neighbour. `--speed` makes a checklist of 1.4 million names and matches 100,000 and 400,000
against it.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import resource
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from taxakey.records.naming.checklist import Checklist, make_checklist, read_checklist
from taxakey.records.naming.checklist_files import Delivered, read_checklist_files
from taxakey.records.naming.matching import Matches, MatchOptions, match_names

Row = Mapping[str, str]


def rows_of(path: Path, encoding: str = "utf-8") -> list[dict[str, str]]:
    with open(path, encoding=encoding, newline="") as file:
        return list(csv.DictReader(file))


def names(rows: Sequence[Row], name: str, author: str | None = None) -> pa.Table:
    columns = {"scientificName": pa.array([row[name] or None for row in rows], pa.string())}
    if author:
        columns["scientificNameAuthorship"] = pa.array([row[author] or None for row in rows], pa.string())
    return pa.table(columns)


# ---- beside rWCVP's checked matches ----


def united_checklist(folder: Path, checked: Sequence[Row]) -> Checklist:
    """The extract and the names that rWCVP's rows speak of; an accepted name that neither holds stays a broken link."""
    extract = read_checklist_files(folder / "wcvp_names_extract.csv")
    columns = {field: extract.names[field] for field in extract.names.column_names}
    theirs: dict[str, list[str | None]] = {field: [] for field in columns}
    for row in {row["wcvp_id"]: row for row in checked if row["wcvp_id"] != "NA"}.values():
        genus, _, rest = row["wcvp_name"].partition(" ")
        facts = {
            "taxonID": row["wcvp_id"], "scientificName": row["wcvp_name"], "scientificNameAuthorship": row["wcvp_authors"],
            "taxonRank": row["wcvp_rank"], "taxonomicStatus": row["wcvp_status"], "genus": genus,
            "species_hybrid": "×" if rest.startswith("× ") else None, "specificEpithet": rest.removeprefix("× "),
            "acceptedNameUsageID": None if row["wcvp_accepted_id"] == "NA" else row["wcvp_accepted_id"],
        }  # fmt: skip
        for field in columns:
            theirs[field].append(facts.get(field))
    added = pa.table(theirs, schema=extract.names.schema)
    return make_checklist(Delivered("WCVP", pa.concat_tables([extract.names, added]), 0), "extract and checked names")


def compare_with_rwcvp(folder: Path, examples: int) -> dict[str, Any]:
    checked = rows_of(folder / "redlist-fuzzy-checked.csv")
    checklist = united_checklist(folder, checked)
    found = by_name(match_names(names(checked, "scientific_name", "authority"), checklist))
    expected: dict[tuple[str, str], set[str]] = defaultdict(set)
    for row in checked:
        expected[row["scientific_name"], row["authority"]] |= {row["wcvp_id"]} - {"NA"}
    kinds: Counter[str] = Counter()
    cases: dict[str, list[str]] = defaultdict(list)
    for (name, author), ids in sorted(expected.items()):
        ours = found[name, author or None]
        kind = verdict(ours, ids)
        kinds[kind] += 1
        wanted = next((row for row in checked if row["scientific_name"] == name and row["wcvp_id"] in ids), None)
        theirs = f"{wanted['wcvp_name']} {wanted['wcvp_authors']}" if wanted else "rejected"
        cases[kind].append(f"{name} {author}: theirs {theirs}; ours {ours.get('path') or ours['reason']}")
    print(f"\nrWCVP's checked fuzzy matches: {len(expected)} distinct names against {len(checklist):,} names")
    show(kinds, cases, examples)
    return {"names": len(expected), **kinds}


def verdict(ours: Mapping[str, Any], ids: set[str]) -> str:
    """The same name found (whether or not its accepted name is in the checklist), another one, or none."""
    if not ids:
        return "agree: not matched" if not ours.get("taxonID") else f"disagree: they reject, ours {ours['matchType']}"
    if ours.get("taxonID") in ids:
        return "agree: the same name"
    if ours.get("taxonID"):
        return "disagree: another name"
    return f"disagree: they match, ours {ours['matchType']}"


def by_name(matches: Matches) -> dict[tuple[str, str | None], dict[str, Any]]:
    rows = matches.matched.to_pylist() + matches.unmatched.to_pylist()
    return {(row["verbatimScientificName"], row["verbatimAuthorship"]): row for row in rows}


def show(kinds: Counter[str], cases: Mapping[str, Sequence[str]], examples: int) -> None:
    total = sum(kinds.values())
    for kind, number in sorted(kinds.items()):
        print(f"  {number:5}  {100 * number / total:5.1f} %  {kind}")
        if kind.startswith("disagree"):
            for case in cases[kind][:examples]:
                print(f"           {case}")


# ---- a name that isn't there ----


def left_out(extract: Path) -> dict[str, Any]:
    """Each accepted species of the extract, with all its synonyms and homonyms, is taken out: is it taken for a neighbour?

    Not one by one, but a tenth at a time, so that there are ten matchings and not thousands.
    """
    delivered = read_checklist_files(extract)
    checklist = make_checklist(delivered, str(extract))
    table = checklist.table
    species = table.filter(pc.equal(table["species"], pa.array(np.arange(len(table)), pa.int32())))
    result: dict[str, Any] = {"names": len(species)}
    for with_author in (True, False):
        wrong: Counter[str] = Counter()
        for part in range(10):
            out = species.take(pa.array(np.arange(part, len(species), 10)))
            taxa = out["species"].combine_chunks()
            gone = pc.or_(pc.is_in(table["species"], taxa), pc.is_in(table["words"], out["words"].combine_chunks()))
            ids = table.filter(pc.invert(gone))["taxonID"].combine_chunks()
            kept = Delivered("WCVP", delivered.names.filter(pc.is_in(whole(delivered.names["taxonID"]), ids)), 0)
            columns = ["scientificName"] + ["scientificNameAuthorship"] * with_author
            for kind in match_names(out.select(columns), make_checklist(kept, "nine tenths")).matched["matchType"].to_pylist():
                wrong[kind] += 1
        result["with author" if with_author else "without author"] = dict(wrong)
    print(f"\nLeft out of the checklist and matched all the same, of {len(species):,} accepted species of the extract")
    for key in ("with author", "without author"):
        print(f"  {key}: {sum(result[key].values())} {result[key]}")
    return result


def whole(ids: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.replace_substring_regex(ids, r"\.0$", "")


# ---- lists of others ----


def lists(data: Path, examples: int) -> dict[str, Any]:
    rwcvp, belgium = data / "checklists" / "rwcvp", data / "checklists" / "alien_plants_belgium" / "taxon.csv"
    extract = read_checklist(rwcvp / "wcvp_names_extract.csv")
    quarrying = rows_of(data / "checklists" / "quarrying_plantid" / "taxonomy.csv")
    text = "scientificName,genus,family\n" + "".join(f"{row['latin_name']},{row['genus']},{row['family']}\n" for row in quarrying)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "list.csv"
        path.write_text(text, encoding="utf-8")
        plain = read_checklist(path)
    iucn = rows_of(rwcvp / "redlist-summary_2022-1.csv", "cp1252")
    leaf = rows_of(data / "images" / "leaf99" / "labels.csv")
    flowers = rows_of(data / "images" / "flowers102" / "labels.csv")
    belgian = pyarrow.csv.read_csv(belgium).select(["scientificName", "kingdom", "family", "taxonRank"])
    cases = {
        "IUCN 2022-1 against the WCVP extract": (names(iucn, "scientific_name", "authority"), extract),
        "leaf99's names as delivered against quarrying-plant-id": (names(leaf, "species_verbatim"), plain),
        "flowers102 against quarrying-plant-id": (names(flowers, "scientificName"), plain),
        "Belgian aliens against quarrying-plant-id": (belgian, plain),
        "Belgian aliens against themselves": (belgian, read_checklist(belgium)),
    }
    result = {}
    for title, (table, checklist) in cases.items():
        begun = time.perf_counter()
        matches = match_names(table, checklist)
        print(f"\n{title}: {len(matches.matched) + len(matches.unmatched):,} names, {time.perf_counter() - begun:.1f} s")
        result[title] = matches.counts()
        for kind, number in matches.counts().items():
            print(f"  {number:6,}  {kind}")
            if kind not in ("exact", "without author"):
                for line in some_of(matches, kind, examples):
                    print(f"            {line}")
    return result


def some_of(matches: Matches, kind: str, examples: int) -> Iterator[str]:
    if kind in ("ambiguous", "unmatched"):
        table = matches.unmatched.filter(pc.equal(matches.unmatched["matchType"], kind))
        for row in spread(table, examples):
            yield f"{row['verbatimScientificName']} {row['verbatimAuthorship'] or ''}: {row['reason']}; {row['candidates']}"
    else:
        for row in spread(matches.matched.filter(pc.equal(matches.matched["matchType"], kind)), examples):
            yield f"{row['path']} ({row['matchScore']:.2f})"


def spread(table: pa.Table, examples: int) -> list[dict[str, Any]]:
    return table.take(pa.array(np.unique(np.linspace(0, len(table) - 1, min(examples, len(table))).astype(int)))).to_pylist()


# ---- speed ----


def million(extract: Path, path: Path, copies: int) -> None:
    """The extract `copies` times, each time with other genera, as WCVP writes it: 1.4 million names."""
    rows = rows_of(extract)
    fields = list(rows[0])
    generator = np.random.default_rng(0)
    syllables = [first + vowel + last for first in "bcdfglmnprst" for vowel in "aeiou" for last in "lnrst"]
    with open(path, "w", encoding="utf-8") as file:
        print("|".join(fields), file=file)
        for copy in range(copies):
            made = "".join(generator.choice(syllables, 3))
            buffer = io.StringIO()
            for row in rows:
                changed = {
                    field: f"{row[field][:-2]}{copy}" for field in ("plant_name_id", "accepted_plant_name_id") if row[field]
                }
                changed["genus"] = f"{row['genus']}{made}"
                changed["taxon_name"] = row["taxon_name"].replace(row["genus"], changed["genus"], 1)
                buffer.write("|".join(changed.get(field, row[field]).replace("|", " ") for field in fields) + "\n")
            file.write(buffer.getvalue())


def speed(extract: Path) -> dict[str, Any]:
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "wcvp_names.csv"
        million(extract, path, 275)
        result["file MB"] = round(path.stat().st_size / 1e6)
        begun = now()
        checklist = read_checklist(path)
    result |= {"reading": spent(begun), "names": len(checklist)}
    print(f"\n{len(checklist):,} names of {result['file MB']} MB read: {result['reading']}")
    for number in (100_000, 400_000):
        table = dirty(checklist, number)
        begun = now()
        matches = match_names(table, checklist, MatchOptions())
        result[str(number)] = {**spent(begun), "counts": matches.counts()}
        print(f"{number:,} names: {result[str(number)]}")
    return result


def dirty(checklist: Checklist, number: int) -> pa.Table:
    """Names of the list, seed 0: half without author, a tenth with a letter lost, a tenth with words that aren't there."""
    generator = np.random.default_rng(0)
    some = checklist.table.take(pa.array(generator.choice(len(checklist), number, replace=False)))
    texts, authors = some["scientificName"].to_pylist(), some["scientificNameAuthorship"].to_pylist()
    for place in range(number):
        if place % 2:
            authors[place] = None
        if place % 10 == 0:
            texts[place] = texts[place][:-3] + texts[place][-2:]
        elif place % 10 == 1:
            texts[place] = f"{texts[place].split()[0]} {'xyz' * (place % 3 + 2)}ensis"
    return pa.table({"scientificName": texts, "scientificNameAuthorship": pa.array(authors, pa.string())})


def now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def spent(begun: tuple[float, float]) -> dict[str, float]:
    """Wall clock and processor time since then (a busy machine lengthens only the first), and the peak of memory."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    wall, processor = (end - start for start, end in zip(begun, now(), strict=True))
    return {"wall s": round(wall, 1), "processor s": round(processor, 1), "peak GB": round(peak, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--examples", type=int, default=5)
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    rwcvp = arguments.data / "checklists" / "rwcvp"
    result: dict[str, Any] = {}
    if arguments.speed:
        result["speed"] = speed(rwcvp / "wcvp_names_extract.csv")
    else:
        result["rWCVP"] = compare_with_rwcvp(rwcvp, arguments.examples)
        result["left out"] = left_out(rwcvp / "wcvp_names_extract.csv")
        result["lists"] = lists(arguments.data, arguments.examples)
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
