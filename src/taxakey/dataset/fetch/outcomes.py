"""What came of an address: a picture on disk, or the reason why there is none."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

Again = Literal["soon", "later", "never"]
"""Whether an address is tried again: in this run, in a later one, or not at all."""


class Fetched(NamedTuple):
    """A picture that lies in the folder."""

    path: str
    """Relative to the artifact's folder."""
    sha256: str
    bytes: int
    media_type: str
    final_url: str


class NotFetched(Exception):
    """Why an address gave no picture.

    `reason` is one of a few fixed texts, so that failures can be counted; `detail` says it in full. `trouble`: the host is to
    blame and must be spared for a while, for `wait` seconds if it said so itself. `asked`: a request for the picture went out.
    """

    def __init__(
        self, reason: str, detail: str, again: Again, *, trouble: bool = False, wait: float | None = None, asked: bool = True
    ) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = re.sub(r"[\x00-\x1f\x7f]+", " ", detail)[:300]  # parts of it were written by strangers
        self.again = again
        self.trouble = trouble
        self.wait = wait
        self.asked = asked
