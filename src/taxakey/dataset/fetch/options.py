"""How polite a fetch is, and what it takes."""

from __future__ import annotations

import re
from dataclasses import dataclass

from taxakey import __version__
from taxakey.dataset.fetch.picture import MEDIA_TYPES
from taxakey.dataset.preprocess import MAX_BYTES, MAX_PIXELS
from taxakey.errors import BadInput

ROBOT = "Taxakey"
"""The name by which a robots.txt may address us."""

# No brackets, control characters or spaces: the contact stands within brackets in a header.
_CONTACT = re.compile(r"(mailto:)?[^\s@()<>,;\x00-\x20]+@[^\s@()<>,;]+\.[^\s@()<>,;]+|https?://[^\s()<>\x00-\x20]+")


@dataclass(frozen=True)
class FetchOptions:
    """Times are in seconds. A "host" is a name or an address, whatever the port."""

    contact: str | None = None
    """A mail address or a page where the people whose servers are asked can reach you; public hosts aren't asked without it."""
    rate: float = 2.0
    """Requests a second to one host, at most; a robots.txt may ask for fewer."""
    per_host: int = 2
    """Requests under way at one host."""
    concurrency: int = 128
    """Requests under way in all."""
    attempts: int = 3
    """How often a run tries a picture that fails for a reason that may pass."""
    backoff: float = 1.0
    """First pause after a host's trouble; each further trouble in a row doubles it, times a random number from 0.5 to 1.5."""
    longest_backoff: float = 60.0
    longest_wait: float = 300.0
    """A host that asks for a longer pause (Retry-After, Crawl-delay) is left alone until a later run."""
    host_failures: int = 8
    """So many troubles in a row, and the host is left alone until a later run."""
    connect_timeout: float = 15.0
    read_timeout: float = 30.0
    """Longest silence of a host that is answering."""
    deadline: float = 600.0
    """Longest time for one answer, however many drops it comes in."""
    max_redirects: int = 5
    max_bytes: int = MAX_BYTES
    max_pixels: int = MAX_PIXELS
    media_types: tuple[str, ...] = tuple(MEDIA_TYPES)
    allow_private_addresses: bool = False
    """Also ask this machine and the local network. Records are written by others: by default they can't point there."""

    def __post_init__(self) -> None:
        if self.contact is None and not self.allow_private_addresses:
            raise BadInput("no contact is given; name a mail address or a page of yours, so that hosts can reach you (--contact)")
        if self.contact is not None and not _CONTACT.fullmatch(self.contact):
            raise BadInput(f"the contact {self.contact!r} is neither a mail address nor a page (https://…)")
        for name in ("rate", "per_host", "concurrency", "attempts", "host_failures", "max_bytes", "max_pixels"):
            _require(getattr(self, name) > 0, f"{name} is {getattr(self, name)}; it must be above 0")
        for name in ("backoff", "longest_backoff", "longest_wait", "connect_timeout", "read_timeout", "deadline"):
            _require(getattr(self, name) > 0, f"{name} is {getattr(self, name)} seconds; it must be above 0")
        _require(self.max_redirects >= 0, f"max_redirects is {self.max_redirects}; it must be 0 or more")
        _require(len(self.media_types) > 0, "media_types is empty; then nothing can be fetched")
        if unknown := [name for name in self.media_types if name not in MEDIA_TYPES]:
            raise BadInput(f"fetch: the media type {unknown[0]!r} isn't one of {', '.join(MEDIA_TYPES)}")

    @property
    def user_agent(self) -> str:
        """Who we are, as the header says it."""
        return f"{ROBOT}/{__version__}" + (f" (+{self.contact})" if self.contact else "")

    def deciding(self) -> dict[str, object]:
        """The options that decide what the artifact holds. The others may change when an interrupted fetch goes on."""
        return {"max_bytes": self.max_bytes, "max_pixels": self.max_pixels, "media_types": list(self.media_types)}


def _require(holds: bool, fact: str) -> None:
    if not holds:
        raise BadInput(f"fetch: {fact}")
