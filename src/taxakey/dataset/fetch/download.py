"""One address to one file: what the host answers, checked while it streams in, and put in its place whole or not at all."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path

import httpx

from taxakey.dataset.fetch.options import FetchOptions
from taxakey.dataset.fetch.outcomes import Fetched, NotFetched
from taxakey.dataset.fetch.picture import HEAD, MEDIA_TYPES, check_picture, media_type_of
from taxakey.dataset.fetch.robots import Robots
from taxakey.dataset.fetch.web import Web, body, check_trouble, has_length

PARTIAL = ".partial"


def place_of(sha256: str, media_type: str) -> str:
    """Where a picture lies, relative to the artifact's folder: by its content, so no name from outside reaches the disk.

    4,096 folders: ten million pictures make 2,400 in each.

    >>> place_of("0a1b2c", "image/jpeg")
    'files/0a1/0a1b2c.jpg'
    """
    return f"files/{sha256[:3]}/{sha256}{MEDIA_TYPES[media_type][1]}"


class Downloader:
    """Fetches pictures into the artifact's folder."""

    def __init__(self, web: Web, robots: Robots, out: Path, options: FetchOptions) -> None:
        self._web = web
        self._robots = robots
        self._out = out
        self._options = options
        self._numbers = count()

    async def fetch(self, url: str) -> Fetched:
        """The picture at an address; raises NotFetched."""
        async with self._web.answer(url, self._robots.check) as response:
            _check_status(response)
            _check_length(response, self._options.max_bytes)
            partial = self._out / PARTIAL / f"{next(self._numbers)}.partial"
            try:
                return await self._receive(response, partial)
            except BaseException:
                partial.unlink(missing_ok=True)
                raise

    async def _receive(self, response: httpx.Response, partial: Path) -> Fetched:
        digest, size, media_type = hashlib.sha256(), 0, None
        with open(partial, "wb") as file:
            async for piece in _from_head_on(body(response)):
                if media_type is None:
                    media_type = self._check_head(piece, response)
                size += len(piece)
                if size > self._options.max_bytes:
                    raise _too_large(f"more than {self._options.max_bytes:,} bytes", self._options.max_bytes)
                digest.update(piece)
                file.write(piece)
        if media_type is None:
            raise NotFetched("empty", "an answer of 0 bytes", "soon")
        path = place_of(digest.hexdigest(), media_type)
        # In a thread: a disk that is busy must not hold up the network.
        await asyncio.to_thread(self._put, partial, path, media_type, whole=not has_length(response))
        return Fetched(path, digest.hexdigest(), size, media_type, str(response.url))

    def _check_head(self, head: bytes, response: httpx.Response) -> str:
        media_type = media_type_of(head)
        if media_type is None:
            said = response.headers.get("Content-Type", "nothing")
            raise NotFetched("not a picture", f"begins with {head[:HEAD]!r}; the host calls it {said}", "never")
        if media_type not in self._options.media_types:
            raise NotFetched("unwanted type", media_type, "never")
        return media_type

    def _put(self, partial: Path, path: str, media_type: str, *, whole: bool) -> None:
        check_picture(partial, media_type, self._options.max_pixels, whole=whole)
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        (self._out / path).parent.mkdir(parents=True, exist_ok=True)
        os.replace(partial, self._out / path)


async def _from_head_on(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same bytes with the first piece long enough to tell the type, unless there are no more."""
    head, told = b"", False
    async for piece in pieces:
        if told:
            yield piece
        elif len(head := head + piece) >= HEAD:
            told = True
            yield head
    if head and not told:
        yield head


def _check_status(response: httpx.Response) -> None:
    """Raise NotFetched unless the host gives what was asked for."""
    check_trouble(response)
    said = f"HTTP {response.status_code} {response.reason_phrase}".strip()
    if response.status_code in (404, 410):
        raise NotFetched("not found", said, "never")
    if response.status_code in (401, 402, 403, 451):
        raise NotFetched("forbidden", said, "never", trouble=True)
    if response.status_code != 200:
        raise NotFetched("refused", said, "never")


def _check_length(response: httpx.Response, max_bytes: int) -> None:
    length = response.headers.get("Content-Length", "")
    if length.isdecimal() and int(length) > max_bytes:
        raise _too_large(f"{int(length):,} bytes", max_bytes)


def _too_large(size: str, max_bytes: int) -> NotFetched:
    return NotFetched("too large", f"{size}, over the limit of {max_bytes / 2**20:,.1f} MiB", "never")
