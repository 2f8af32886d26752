"""An artifact: a folder on disk that one stage writes and the next one reads.

A stage calls `start`, writes its files with the atomic writers below, and calls `finish`, which writes `manifest.json` last.
So a folder without a manifest is never mistaken for a finished one, and a stage that was interrupted finds its `plan.json`,
sees that nothing has changed, and goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import IO, Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from taxakey import __version__
from taxakey.errors import ArtifactError, BadInput, MissingArtifact, PlanMismatch

FORMAT_VERSION = 1
_PACKAGES = (
    "duckdb", "imagehash", "lightning", "numpy", "onnxruntime", "opencv-python-headless", "pillow", "pyarrow", "pyspark",
    "rapidocr", "scipy", "simplejpeg", "timm", "torch",
)  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """What decides the contents of an artifact; two runs with equal plans write the same."""

    kind: str
    inputs: Mapping[str, str] = field(default_factory=dict)
    """Name of each input -> its hash, see `hash_of`."""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    """Resolved options of the stage, plain JSON values."""
    seed: int | None = None


@dataclass(frozen=True)
class Manifest:
    """`manifest.json`: what the folder is, from what it was made, and how much is in it."""

    kind: str
    format_version: int
    inputs: Mapping[str, str]
    recipe: Mapping[str, Any]
    seed: int | None
    counts: Mapping[str, int]
    taxonomy: str | None
    packages: Mapping[str, str]
    taxakey: str
    created: str
    notes: tuple[str, ...] = ()
    """Facts that a reader of the numbers must know, e.g. that no pretrained weights could be had."""


# ---- writing without half-written files ----


@contextmanager
def open_atomically(path: Path | str, mode: Literal["wb", "w"] = "wb") -> Iterator[IO[Any]]:
    """Write beside `path`, then flush, sync and rename: the file is there whole, or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with open(aside, mode, encoding=None if "b" in mode else "utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def write_text(path: Path | str, text: str) -> None:
    """Write a text file atomically, UTF-8."""
    with open_atomically(path, "w") as file:
        file.write(text)


def write_json(path: Path | str, value: object) -> None:
    """Write JSON atomically; NaN and infinities are refused, because JSON has none."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_parquet(path: Path | str, table: pa.Table, *, row_group_size: int | None = None) -> None:
    """Write a Parquet file atomically (zstd)."""
    with open_atomically(path) as file:
        pq.write_table(table, file, compression="zstd", row_group_size=row_group_size)


def read_json(path: Path | str) -> Any:
    """Read JSON; raises MissingArtifact or BadInput with the file's name and the place of the fault."""
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MissingArtifact(f"{path}: no such file") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: not JSON ({error}); restore it or write the artifact again") from None


def hash_of(path: Path | str) -> str:
    """SHA-256 of a file, or of the manifest of an artifact's folder."""
    path = Path(path)
    if path.is_dir():
        path = path / "manifest.json"
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise MissingArtifact(f"{path}: no such file; the stage that writes it hasn't finished") from None


# ---- the life of an artifact ----


def start(folder: Path | str, plan: Plan) -> Literal["new", "resumed", "finished"]:
    """Begin an artifact, go on with an interrupted one, or find it finished.

    Raises PlanMismatch when the folder was begun with another plan, and ArtifactError when it holds foreign files.
    """
    folder = Path(folder)
    wanted = json.loads(json.dumps(asdict(plan)))
    plan_file = folder / "plan.json"
    if plan_file.is_file():
        found = read_json(plan_file)
        if found != wanted:
            raise PlanMismatch(f"{folder}: {_difference(found, wanted)}; name another folder, or delete this one")
        return "finished" if (folder / "manifest.json").is_file() else "resumed"
    if folder.is_dir() and any(folder.iterdir()):
        raise ArtifactError(f"{folder}: not empty and not begun by Taxakey; name another folder")
    if folder.exists() and not folder.is_dir():
        raise ArtifactError(f"{folder}: a file, not a folder; name another place")
    write_json(plan_file, wanted)
    return "new"


def _difference(found: dict[str, Any], wanted: dict[str, Any]) -> str:
    if found.get("kind") != wanted["kind"]:
        return f"holds {found.get('kind')!r}, not {wanted['kind']!r}"
    for part in ("inputs", "recipe"):
        before, now = found.get(part) or {}, wanted[part] or {}
        for key in sorted({*before, *now}):
            if key not in before or key not in now or before[key] != now[key]:
                old, new = (_short(values[key]) if key in values else "not there" for values in (before, now))
                return f"was begun with {part} {key!r} = {old}, now it is {new}"
    return f"was begun with seed {found.get('seed')}, now it is {wanted['seed']}"


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "…"


def finish(
    folder: Path | str,
    plan: Plan,
    *,
    counts: Mapping[str, int],
    taxonomy: str | None = None,
    notes: tuple[str, ...] = (),
) -> Manifest:
    """Write `manifest.json`, which makes the artifact a finished one."""
    manifest = Manifest(
        kind=plan.kind,
        format_version=FORMAT_VERSION,
        inputs=dict(plan.inputs),
        recipe=dict(plan.recipe),
        seed=plan.seed,
        counts=dict(counts),
        taxonomy=taxonomy,
        packages=package_versions(),
        taxakey=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        notes=notes,
    )
    write_json(Path(folder) / "manifest.json", asdict(manifest))
    return manifest


def read_manifest(folder: Path | str, kind: str) -> Manifest:
    """Read the manifest of a finished artifact; raises MissingArtifact or ArtifactError where it isn't one of that kind."""
    folder = Path(folder)
    file = folder / "manifest.json"
    if not folder.is_dir():
        raise MissingArtifact(f"{folder}: no such folder; a finished {kind} is needed here")
    if not file.is_file():
        state = "was begun and not finished; run its command again" if (folder / "plan.json").is_file() else "isn't one"
        raise MissingArtifact(f"{folder}: a finished {kind} is needed here, and this folder {state}")
    content = read_json(file)
    if not isinstance(content, dict) or content.get("kind") != kind:
        found = content.get("kind") if isinstance(content, dict) else content
        raise ArtifactError(f"{folder}: holds {found!r}, where {kind!r} is needed")
    if content["format_version"] > FORMAT_VERSION:
        raise ArtifactError(
            f"{folder}: written by Taxakey {content['taxakey']} in format {content['format_version']}, "
            f"this is {__version__} with format {FORMAT_VERSION}; install the newer version"
        )
    return Manifest(**{**content, "notes": tuple(content["notes"])})


def kind_of(folder: Path | str) -> str | None:
    """The kind of a finished artifact, or None where the folder isn't one."""
    file = Path(folder) / "manifest.json"
    content = read_json(file) if file.is_file() else None
    return content.get("kind") if isinstance(content, dict) else None


def package_versions() -> dict[str, str]:
    """Of the packages that may change a result, those that are installed."""
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # an extra that isn't installed
    return versions
