"""Which photographs a person means by files, folders and patterns, and which of them show one specimen."""

from __future__ import annotations

import glob
from collections.abc import Iterable
from pathlib import Path

from taxakey.errors import BadInput

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".jp2", ".avif"}
"""What is taken for a picture inside a folder; a file that is named itself may be called anything."""


def find_photographs(arguments: Iterable[str]) -> list[Path]:
    """Files as named; folders with everything below them that looks like a picture, sorted; patterns (`**` too). None twice.

    Raises BadInput for an argument that yields nothing.
    """
    found: dict[Path, None] = {}
    for argument in arguments:
        found |= dict.fromkeys(_meant_by(argument))
    return list(found)


def _meant_by(argument: str) -> list[Path]:
    path = Path(argument)
    if path.is_dir():
        if pictures := _below(path):
            return pictures
        raise BadInput(f"{argument}: no pictures in this folder ({', '.join(sorted(SUFFIXES))})")
    if path.exists():
        return [path]
    if any(character in argument for character in "*?["):
        matches = [Path(match) for match in sorted(glob.glob(argument, recursive=True))]
        if pictures := [picture for match in matches for picture in (_below(match) if match.is_dir() else [match])]:
            return pictures
        raise BadInput(f"{argument}: no file fits this pattern")
    if "://" in argument:
        raise BadInput(f"{argument}: a web address; download the picture first and give the file")
    raise BadInput(f"{argument}: no such file or folder")


def _below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())


def by_folder(photographs: Iterable[Path]) -> dict[Path, list[Path]]:
    """Group photographs by the folder they lie in: each folder is one specimen."""
    specimens: dict[Path, list[Path]] = {}
    for photograph in photographs:
        specimens.setdefault(photograph.parent, []).append(photograph)
    return specimens
