"""The split manifest: which picture is in which part, told by hashes alone, so that it can be published without the
pictures.

One file, split_manifest.parquet, whose metadata hold its own digest: the SHA-256 of its rows as text, in the order of
image_id, each "{image_id}\t{part}\t{sha256}\t{source_sha256}\t{perceptual_hash}\n" with hexadecimal hashes and nothing for
null. Who names that digest in a paper has fixed the split: any change of a row changes it.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from taxakey.artifacts import read_json, read_manifest, write_parquet
from taxakey.dataset.build import PARTS
from taxakey.dataset.duplicates import NEAR_DISTANCE, distinct_hashes, hamming
from taxakey.dataset.inspection import HASH_BITS, look
from taxakey.errors import ArtifactError, BadImage, BadInput, MissingArtifact

FILE = "split_manifest.parquet"
SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("part", pa.string(), nullable=False),
        ("sha256", pa.string()),
        ("source_sha256", pa.string()),
        ("perceptual_hash", pa.binary(HASH_BITS // 8)),
    ]
)
"""`sha256`: of the picture as the dataset holds it; `source_sha256`: of the file that it was made from, where that is
known."""

_DIGEST = b"taxakey.digest"
_SLICE = 100_000


class Answer(NamedTuple):
    """A picture of a dataset that a file is ("exact") or is a copy of ("near"), and the bits in which their hashes
    differ."""

    how: str
    part: str
    image_id: str
    distance: int


def digest_of(rows: pa.Table) -> str:
    """The digest of a split manifest's rows, whatever their order."""
    rows = rows.select(SCHEMA.names).sort_by("image_id")
    digest = hashlib.sha256()
    for first in range(0, len(rows), _SLICE):
        columns = [column.to_pylist() for column in rows.slice(first, _SLICE).columns]
        columns[-1] = [None if value is None else value.hex() for value in columns[-1]]
        digest.update("".join("\t".join(value or "" for value in row) + "\n" for row in zip(*columns, strict=True)).encode())
    return digest.hexdigest()


def write_split_manifest(file: Path, rows: pa.Table) -> str:
    """Write the rows (columns of `SCHEMA`) in the order of image_id; returns the digest."""
    digest = digest_of(rows)
    table = rows.select(SCHEMA.names).cast(SCHEMA).sort_by("image_id")
    write_parquet(file, table.replace_schema_metadata({_DIGEST: digest.encode()}))
    return digest


class SplitManifest:
    """A split manifest that was checked against its digest; open it with `SplitManifest.read`."""

    def __init__(self, rows: pa.Table, digest: str) -> None:
        self.rows = rows
        self.digest = digest
        self._hashes, self._code_N = distinct_hashes(rows["perceptual_hash"])
        self._part_N = np.array(rows["part"].to_pylist(), dtype=object)

    @classmethod
    def read(cls, path: Path | str) -> SplitManifest:
        """From the file, or from a finished artifact "audit". Raises ArtifactError where a row or a digest was changed."""
        path = Path(path)
        file = path / FILE if path.is_dir() else path
        if path.is_dir():
            read_manifest(path, "audit")
        if not file.is_file():
            raise MissingArtifact(f"{file}: no such file; `taxakey audit` writes it")
        try:
            table = pq.read_table(file)
        except pa.ArrowInvalid as error:
            raise BadInput(f"{file}: not a Parquet file ({error}); get it again") from None
        if missing := [name for name in SCHEMA.names if name not in table.column_names]:
            raise BadInput(f"{file}: no split manifest, it lacks the columns {', '.join(missing)}")
        named, found = (table.schema.metadata or {}).get(_DIGEST, b"").decode(), digest_of(table)
        if named != found:
            raise ArtifactError(
                f"{file}: its rows have the digest {found}, it names {named or 'none'}; it was changed, get it again"
            )
        if path.is_dir() and (noted := read_json(path / "audit.json")["split_manifest"]["digest"]) != found:
            raise ArtifactError(f"{file}: its digest is {found}, audit.json beside it names {noted}; it was changed, audit again")
        return cls(table.select(SCHEMA.names), found)

    def was_it_there(self, source: bytes | str | Path, distance: int = NEAR_DISTANCE) -> list[Answer]:
        """For each part that has the picture, train first: the very bytes, else its nearest copy within `distance` bits.

        An empty list: the picture was nowhere. Raises BadImage for what is no picture, unless its very bytes were there.
        """
        facts = look(source if isinstance(source, bytes) else str(source))
        same = [pc.fill_null(pc.equal(self.rows[name], facts.get("sha256")), False) for name in ("sha256", "source_sha256")]
        exact_N = pc.or_(*same).to_numpy()
        if facts.get("failure") and not exact_N.any():
            raise BadImage(f"{'the picture' if isinstance(source, bytes) else source}: {facts['failure']}")
        bits_N = np.where(exact_N, 0, self._bits(facts.get("perceptual_hash")))
        answers = []
        for part in PARTS:
            here = np.flatnonzero((self._part_N == part) & (bits_N <= distance))
            if len(here):
                best = int(here[np.lexsort((bits_N[here], ~exact_N[here]))[0]])
                how = "exact" if exact_N[best] else "near"
                answers.append(Answer(how, part, self.rows["image_id"][best].as_py(), int(bits_N[best])))
        return answers

    def _bits(self, perceptual_hash: bytes | None) -> NDArray[np.int64]:
        """Bits in which each row's hash differs, [N]; all of them and one where either has none."""
        if perceptual_hash is None or not len(self._hashes):
            return np.full(len(self.rows), HASH_BITS + 1)
        bits_U = hamming(self._hashes, np.frombuffer(perceptual_hash, dtype=">u8").astype(np.uint64))
        return np.where(self._code_N < 0, HASH_BITS + 1, bits_U[self._code_N])
