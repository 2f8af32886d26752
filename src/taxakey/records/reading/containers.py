"""Where the files of an archive lie: in a folder, a zip or a tar file. They are read as streams and never unpacked to disk."""

from __future__ import annotations

import posixpath
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from taxakey.errors import BadRecords

PACKED = (".zip", ".tgz", ".tar.gz")
_MOST_EXPANSION = 200
"""Tables shrink tenfold to fiftyfold in a zip; far more is a file made to fill the memory."""
_SMALL = 256 * 2**20


@dataclass(frozen=True)
class Container:
    """`names`: the files at its top; `open` reads one of them, or one below; `folder`: where relative paths of pictures begin."""

    path: Path
    folder: Path
    names: tuple[str, ...]
    open: Callable[[str], IO[bytes]]


def is_packed(path: Path) -> bool:
    return path.name.lower().endswith(PACKED)


@contextmanager
def open_container(path: Path) -> Iterator[Container]:
    """Open a folder, a zip or a gzipped tar file; raises BadRecords, here and while it is read, where it is damaged."""
    try:
        if path.is_dir():
            names = sorted(file.name for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
            yield Container(path, path.resolve(), tuple(names), lambda name: _open_in_folder(path, name))
        elif path.name.lower().endswith(".zip"):
            with zipfile.ZipFile(path) as archive:
                yield _of_zip(archive, path)
        else:
            with tarfile.open(path, "r:gz") as tar:
                yield _of_tar(tar, path)
    except (zlib.error, EOFError, tarfile.ReadError) as error:
        raise BadRecords(f"{path}: damaged ({error}); download it again") from None
    except zipfile.BadZipFile as error:
        raise BadRecords(f"{path}: not a zip file ({error}); download it again") from None
    except (RuntimeError, NotImplementedError) as error:  # a password, an unknown compression
        raise BadRecords(f"{path}: can't be unpacked ({error}); unpack it yourself and name the folder") from None


def _open_in_folder(folder: Path, name: str) -> IO[bytes]:
    try:
        return open(folder / _inside(name, folder), "rb")
    except (FileNotFoundError, IsADirectoryError):
        raise BadRecords(f"{folder / name}: no such file, and the archive's description needs it") from None


def _of_zip(archive: zipfile.ZipFile, path: Path) -> Container:
    inner, names = _inner(archive.namelist())

    def open_member(name: str) -> IO[bytes]:
        try:
            member = archive.getinfo(inner + _inside(name, path))
        except KeyError:
            raise BadRecords(f"{path}: holds no {inner + name}, and the archive's description needs it") from None
        if member.file_size > _SMALL and member.file_size > _MOST_EXPANSION * member.compress_size:
            raise BadRecords(
                f"{path}: {name} would expand {member.file_size // max(member.compress_size, 1)}-fold, as no table does; "
                "if you trust it, unpack it yourself and name the folder"
            )
        return archive.open(member)

    return Container(path, path.parent.resolve(), names, open_member)


def _of_tar(archive: tarfile.TarFile, path: Path) -> Container:
    members = {posixpath.normpath(member.name): member for member in archive.getmembers() if member.isfile()}
    inner, names = _inner(list(members))

    def open_member(name: str) -> IO[bytes]:
        member = members.get(inner + _inside(name, path))
        file = archive.extractfile(member) if member else None
        if file is None:
            raise BadRecords(f"{path}: holds no {inner + name}, and the archive's description needs it")
        return file

    return Container(path, path.parent.resolve(), names, open_member)


def _inside(name: str, archive: Path) -> str:
    """A file's name within the archive, normalised; one that leads outside is refused."""
    normal = posixpath.normpath(name.strip())
    if posixpath.isabs(normal) or normal.split("/")[0] == "..":
        raise BadRecords(f"{archive}: meta.xml names {name!r}, which lies outside the archive; correct it")
    return normal


def _inner(names: list[str]) -> tuple[str, tuple[str, ...]]:
    """The folder in which the archive's files lie, "" or with a slash at its end, and the files: many zips wrap all in one."""
    files = [name for name in names if not name.endswith("/") and not name.startswith("__MACOSX/")]
    described = [name.removesuffix("meta.xml") for name in files if posixpath.basename(name) == "meta.xml"]
    folders = described or [name[: name.rfind("/") + 1] for name in files] or [""]
    inner = min(folders, key=lambda folder: (folder.count("/"), folder))
    below = (name.removeprefix(inner) for name in files if name.startswith(inner))
    return inner, tuple(sorted(name for name in below if "/" not in name and not name.startswith(".")))
