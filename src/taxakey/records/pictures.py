"""Where a record's picture lies, and what the picture is called."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".jp2", ".avif")


class Place(NamedTuple):
    """A picture's absolute path, or None with the reason why it can't be used; both None: only an address is known."""

    path: str | None
    reason: str | None = None


def locate(identifier: str | None, folders: Sequence[Path], *, confined: bool) -> Place:
    """Resolve what a record says of its picture.

    Absolute paths and file: URLs are taken as they are. A relative path is tried from each of the absolute `folders`, and
    stays with the first where nothing is found; `confined`: it may not lead out of that.
    """
    if not identifier:
        return Place(None)
    if "\0" in identifier:
        return Place(None, "broken path")
    if identifier.startswith("file:"):
        parts = urlsplit(identifier)
        here = parts.netloc in ("", "localhost") and os.path.isabs(parts.path)
        return Place(os.path.normpath(unquote(parts.path))) if here else Place(None, "file on another machine")
    if "://" in identifier:
        return Place(None)
    if os.path.isabs(identifier):
        return Place(os.path.normpath(identifier))
    tried = [os.path.normpath(folder / identifier) for folder in folders]
    if confined and not tried[0].startswith(os.path.join(str(folders[0]), "")):
        return Place(None, "path leaves the archive's folder")
    found = (path for path in tried if os.path.exists(path))
    return Place(tried[0] if len(tried) == 1 else next(found, tried[0]))


def ids_by_stem(identifiers: Sequence[str | None], observations: Sequence[str | None]) -> list[str | None]:
    """image_id of the pictures of an archive: the file's name without suffix where these differ throughout.

    Else "{observation}_{number}", the observation's id cut down to what stands behind its last slash where that tells them apart.
    """
    stems = [_stem(text) if text else None for text in identifiers]
    given = [stem for stem in stems if stem]
    if len(set(given)) == len(given):
        return stems
    whole = {observation for observation in observations if observation}
    short = {observation: observation.rstrip("/").rsplit("/", 1)[-1] for observation in whole}
    if len(set(short.values())) < len(whole):
        short = {observation: observation for observation in whole}
    seen: dict[str, int] = {}
    ids: list[str | None] = []
    for identifier, observation in zip(identifiers, observations, strict=True):
        if not identifier or not observation:
            ids.append(None)
            continue
        seen[observation] = seen.get(observation, 0) + 1
        ids.append(f"{short[observation]}_{seen[observation]}")
    return ids


def _stem(identifier: str) -> str:
    """Last part of a path or address without its suffix; plain strings, because millions of addresses are slow with pathlib.

    >>> _stem("https://example.org/photos/7/leaf%201.jpeg?size=large")
    'leaf 1'
    """
    if "://" in identifier:
        identifier = unquote(identifier.partition("?")[0].partition("#")[0])
    last = identifier.rstrip("/").rpartition("/")[2]
    return last.rpartition(".")[0] or last


def ids_by_path(paths: Sequence[str]) -> list[str]:
    """image_id of pictures in folders: relative paths without suffix where these still differ, else with it."""
    stems = [path.removesuffix(PurePosixPath(path).suffix) for path in paths]
    return stems if len(set(stems)) == len(set(paths)) else list(paths)


def ids_of_table(given: Sequence[str | None] | None, paths: Sequence[str | None]) -> list[str | None]:
    """image_id of the rows of a table: those given, if there is one for each and all differ, else from the path.

    Where a path itself stands twice, the ids stay as given, so that the second row is found and rejected.
    """
    known = [path for path in paths if path]
    if given and (len(set(known)) < len(known) or (all(given) and len(set(given)) == len(given))):
        return list(given)
    ids = iter(ids_by_path(known))
    return [next(ids) if path else None for path in paths]
