"""The audit of a dataset: hashes of all its pictures, the findings of `leaks.py`, a page to read, and the split manifest."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from shutil import rmtree
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from taxakey.artifacts import Manifest, Plan, finish, hash_of, read_manifest, start, write_json, write_parquet, write_text
from taxakey.dataset.auditing.audit_page import page
from taxakey.dataset.auditing.leaks import KINDS, LEAKS, AuditOptions, find
from taxakey.dataset.auditing.split_manifest import FILE, write_split_manifest
from taxakey.dataset.build import PARTS, default_workers, shards_of
from taxakey.dataset.inspection import HASH_BITS, look, read_inspection
from taxakey.dataset.reader import Dataset
from taxakey.progress import track, working

_HASHES = pa.schema([("sha256", pa.string()), ("perceptual_hash", pa.binary(HASH_BITS // 8)), ("failure", pa.string())])
_BATCH = 64


def audit(
    dataset_folder: Path | str,
    out: Path | str,
    options: AuditOptions | None = None,
    *,
    inspection: Path | str | None = None,
    workers: int | None = None,
) -> Manifest:
    """Make the artifact "audit" of a dataset: audit.json, audit.md, findings.parquet and the split manifest.

    With the artifact `inspection` of its records the split manifest also knows the hash of the file that each picture was
    made from. An interrupted audit goes on with the next shard. Raises MissingArtifact or ArtifactError for what isn't such
    an artifact.
    """
    out, options = Path(out), options or AuditOptions()
    dataset = Dataset.open(dataset_folder)
    inputs = {"dataset": hash_of(dataset.folder)} | ({} if inspection is None else {"inspection": hash_of(inspection)})
    plan = Plan("audit", inputs, asdict(options))
    sources = None if inspection is None else read_inspection(inspection)
    if start(out, plan) == "finished":
        return read_manifest(out, "audit")
    _write_missing_hashes(dataset, out, workers or default_workers())
    rows = _rows(dataset, out)
    with working("comparing the parts"):
        findings = find(rows, options)
    write_parquet(out / "findings.parquet", findings)
    digest = write_split_manifest(out / FILE, rows.append_column("source_sha256", _source_hashes(rows, sources)))
    result = summary(rows, findings) | {"split_manifest": {"file": FILE, "pictures": len(rows), "digest": digest}}
    write_json(out / "audit.json", result)
    write_text(out / "audit.md", page(result, findings, dataset.folder.name))
    manifest = finish(out, plan, counts=result["findings"], notes=(f"{FILE} has the digest {digest}",))
    rmtree(out / "hashes", ignore_errors=True)  # all that is in them is in the split manifest
    return manifest


# ---- hashes of the pictures, shard by shard ----


def _write_missing_hashes(dataset: Dataset, out: Path, workers: int) -> None:
    missing = [
        shard for part in PARTS for shard in shards_of(dataset.folder, part) if not (out / "hashes" / shard.name).is_file()
    ]
    total = sum(len(dataset.part(part)) for part in PARTS)
    done = total - sum(pq.read_metadata(shard).num_rows for shard in missing)
    with ThreadPoolExecutor(workers) as pool:
        progress = track(_hashes(pool, missing), "looking at pictures", total=total, done=done)
        for shard in missing:
            rows = [next(progress) for _ in range(pq.read_metadata(shard).num_rows)]
            write_parquet(out / "hashes" / shard.name, pa.Table.from_pylist(rows, schema=_HASHES))
        next(progress, None)  # lets the display end


def _hashes(pool: ThreadPoolExecutor, shards: list[Path]) -> Iterator[dict[str, Any]]:
    for shard in shards:
        with pq.ParquetFile(shard) as file:
            for batch in file.iter_batches(_BATCH, columns=["image.bytes"]):
                for facts in pool.map(look, batch.column("image").field("bytes").to_pylist()):
                    yield {name: facts.get(name) for name in _HASHES.names}


def _rows(dataset: Dataset, out: Path) -> pa.Table:
    """What the dataset says of each picture, its part and hashes; train before validation before test."""
    tables = []
    for part in PARTS:
        table = dataset.part(part).table
        table = table.append_column("part", pa.array([part] * len(table), pa.string()))
        hashes = [pq.read_table(out / "hashes" / shard.name) for shard in shards_of(dataset.folder, part)]
        for name, column in zip(_HASHES.names, pa.concat_tables(hashes).columns, strict=True):
            table = table.append_column(name, column)
        tables.append(table)
    return pa.concat_tables(tables).combine_chunks()


def _source_hashes(rows: pa.Table, inspection: pa.Table | None) -> pa.ChunkedArray | pa.Array:
    if inspection is None:
        return pa.nulls(len(rows), pa.string())
    return inspection["sha256"].take(pc.index_in(rows["image_id"], inspection["image_id"].combine_chunks()))


# ---- what the page and the manifest say ----


def summary(rows: pa.Table, findings: pa.Table) -> dict[str, Any]:
    """Pictures of each part, findings by kind, how much of validation and test an earlier part has seen, shares of
    institutions."""
    kinds = {pair["values"]: pair["counts"] for pair in pc.value_counts(findings["kind"]).to_pylist()}
    leaks = findings.filter(pc.is_in(findings["kind"], pa.array(LEAKS)))
    numbers = {part: pc.sum(pc.equal(rows["part"], part)).as_py() or 0 for part in PARTS}
    seen = {}
    for part, earlier in (("validation", ("train",)), ("test", ("train",)), ("test", ("validation",))):
        met = leaks.filter(pc.and_(pc.equal(leaks["part"], part), pc.is_in(leaks["other_part"], pa.array(earlier))))
        number = pc.count_distinct(met["image_id"]).as_py()
        seen[f"{part} in {earlier[0]}"] = {"pictures": number, "share": number / numbers[part] if numbers[part] else 0.0}
    return {
        "pictures": numbers,
        "findings": {kind: kinds.get(kind, 0) for kind in KINDS},
        "seen": seen,
        "repeated_within": {part: _repeated(rows, part) for part in PARTS},
        "institutions": _institutions(rows, numbers),
    }


def _repeated(rows: pa.Table, part: str) -> int:
    """Pictures of a part beyond the first of the same bytes."""
    hashes = rows.filter(pc.equal(rows["part"], part))["sha256"].drop_null()
    return len(hashes) - int(pc.count_distinct(hashes).as_py())


def _institutions(rows: pa.Table, numbers: dict[str, int]) -> list[dict[str, Any]]:
    """Pictures of each institution in each part, with its share of the part; the largest first."""
    counted = rows.group_by(["institutionCode", "part"]).aggregate([("image_id", "count")]).to_pylist()
    found: dict[str | None, dict[str, int]] = {}
    for row in counted:
        found.setdefault(row["institutionCode"], dict.fromkeys(PARTS, 0))[row["part"]] = row["image_id_count"]
    order = sorted(found.items(), key=lambda item: (-sum(item[1].values()), item[0] or ""))
    return [
        {
            "institutionCode": name,
            **counts,
            **{f"share_of_{part}": counts[part] / numbers[part] if numbers[part] else 0.0 for part in PARTS},
        }
        for name, counts in order
    ]
