"""The calls of GBIF's download service, as https://techdocs.gbif.org/en/openapi/v1/occurrence describes them.

GET  /occurrence/download/{key} or /{DOI prefix}/{DOI suffix}   status, doi, downloadLink, size, totalRecords
POST /occurrence/download/request                               basic authentication, answers with the key
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx

from taxakey import __version__, progress
from taxakey.errors import BadInput, DownloadFailed

API = "https://api.gbif.org/v1"
ORDER_FILE = "gbif-order.json"
KEY = re.compile(r"\d{7}-\d{15,18}")
BUSY = (420, 429, 500, 502, 503, 504)

_DOI = re.compile(r"(?:https?://(?:dx\.)?doi\.org/|doi:)?(10\.\d{4,9}/\S+)", re.IGNORECASE)
_WAITING = ("PREPARING", "RUNNING", "SUSPENDED")
_UNSURE = (500, 502, 504)
"""Answers after which an order may have been taken all the same."""
_UNTIL_SEEN = "; the order may have been taken: look at https://www.gbif.org/user/download and name its key with --gbif"


@dataclass(frozen=True)
class GbifOptions:
    """How GBIF is asked. Times in seconds; `attempts`: how often in a row a call or a piece of a file may fail."""

    api: str = API
    first_pause: float = 20.0
    longest_pause: float = 300.0
    longest_wait: float = 24 * 3600.0
    timeout: float = 60.0
    attempts: int = 6

    def __post_init__(self) -> None:
        if urlsplit(self.api).scheme not in ("http", "https"):
            raise BadInput(f"--gbif-api {self.api}: not an address; the service is {API}")
        if not 0 < self.first_pause <= self.longest_pause or self.attempts < 1:
            raise BadInput("the pauses between questions to GBIF must be above 0 and grow, and at least one attempt is needed")


@dataclass(frozen=True)
class Download:
    """What GBIF says of a download. `size` in bytes."""

    key: str
    doi: str | None
    status: str
    link: str | None
    size: int | None
    records: int | None
    created: str | None
    licence: str | None

    def citation(self) -> str:
        """As GBIF asks to cite it (https://www.gbif.org/citation-guidelines)."""
        day = (self.created or "")[:10] or "date unknown"
        return f"GBIF.org ({day}) GBIF Occurrence Download {f'https://doi.org/{self.doi}' if self.doi else self.key}"


class Gbif:
    """GBIF's download service, a context that closes its connections. `sleep` is replaced where nobody wants to wait."""

    def __init__(self, options: GbifOptions | None = None, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self.options = options or GbifOptions()
        self.sleep = sleep
        self.client = httpx.Client(
            timeout=self.options.timeout,
            headers={"User-Agent": f"taxakey/{__version__}", "Accept-Encoding": "identity"},
            follow_redirects=True,
            max_redirects=5,
        )

    def __enter__(self) -> Gbif:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def find(self, key_or_doi: str) -> Download:
        """What GBIF says of a download; raises BadInput where it knows none of that key or DOI."""
        place = place_of(key_or_doi)
        answer = self.ask("GET", f"/occurrence/download/{place}")
        if answer.status_code == 404:
            raise BadInput(
                f"{key_or_doi}: GBIF knows no such download; copy its key or DOI from https://www.gbif.org/user/download"
            )
        said = _json(answer)
        key = str(said.get("key", ""))
        if not KEY.fullmatch(key):
            raise DownloadFailed(f"{key_or_doi}: GBIF's answer has no key ({key!r}); try again later")
        size = said.get("size")
        return Download(
            key=key, doi=said.get("doi"), status=str(said.get("status")), link=said.get("downloadLink"),
            size=size if isinstance(size, int) else None, records=said.get("totalRecords"), created=said.get("created"),
            licence=said.get("license"),
        )  # fmt: skip

    def wait(self, key: str) -> Download:
        """Ask at growing intervals until the download is prepared; raises DownloadFailed where it won't be, or takes too long."""
        pause, waited = self.options.first_pause, 0.0
        with progress.working(f"waiting for GBIF to prepare {key}"):
            while (download := self.find(key)).status in _WAITING:
                if waited >= self.options.longest_wait:
                    raise DownloadFailed(
                        f"{key}: still {download.status} after {waited / 3600:.1f} h; run the same command again later"
                    )
                self.sleep(pause)
                waited += pause
                pause = min(1.5 * pause, self.options.longest_pause)
        refuse_unless_prepared(download)
        return download

    def ask(self, method: str, path: str, *, repeat: bool = True, **content: Any) -> httpx.Response:
        """Call the service; again, with growing pauses, while it is busy. `repeat`: also where the answer got lost on its way.

        Raises BadInput where the account is refused, DownloadFailed for every other failure but 404.
        """
        url, pause = self.options.api.rstrip("/") + path, self.options.first_pause
        for attempt in range(1, self.options.attempts + 1):
            last = attempt == self.options.attempts
            try:
                answer = self.client.request(method, url, **content)
            except httpx.HTTPError as error:
                if last or not repeat:
                    what = f"{type(error).__name__} ({error})"
                    raise DownloadFailed(f"{url}: {what}; see whether the network works{'' if repeat else _UNTIL_SEEN}") from None
                self.sleep(pause)
            else:
                if answer.status_code not in BUSY or (not repeat and answer.status_code in _UNSURE):
                    return _allowed(answer, _UNTIL_SEEN if not repeat else "")
                if last:
                    raise DownloadFailed(
                        f"{url}: answered {answer.status_code} {attempt} times ({short(answer.text)}); GBIF prepares at most "
                        "three downloads of a person at a time: wait for yours, or try again later"
                    )
                self.sleep(max(pause, retry_after(answer, self.options.longest_pause)))
            pause = min(2 * pause, self.options.longest_pause)
        raise AssertionError("the last attempt returns or raises")


def _allowed(answer: httpx.Response, unsure: str) -> httpx.Response:
    if answer.status_code in (401, 403):
        raise BadInput(f"GBIF refused the account ({answer.status_code}); check GBIF_USER and GBIF_PWD in the environment")
    if answer.is_error and answer.status_code != 404:
        raise DownloadFailed(
            f"{answer.request.url}: answered {answer.status_code} ({short(answer.text)}){unsure or '; try again later'}"
        )
    return answer


def _json(answer: httpx.Response) -> dict[str, Any]:
    try:
        said = answer.json()
    except ValueError:
        said = None
    if not isinstance(said, dict):
        raise DownloadFailed(f"{answer.request.url}: the answer is no JSON object ({short(answer.text)}); is the address right?")
    return said


def refuse_unless_prepared(download: Download) -> None:
    """Raise DownloadFailed where there is nothing to fetch, or nothing yet."""
    if download.status in _WAITING:
        raise DownloadFailed(f"{download.key}: GBIF is still preparing it ({download.status}); try again in some minutes")
    if download.status != "SUCCEEDED" or not download.link:
        raise DownloadFailed(
            f"{download.key}: GBIF says {download.status}, so there is nothing to fetch; order it anew "
            f"(where a {ORDER_FILE} names this key, delete that file first)"
        )


def place_of(key_or_doi: str) -> str:
    """The end of a download's address; raises BadInput where the text is neither a key nor a DOI.

    >>> place_of("https://doi.org/10.15468/dl.abc123"), place_of("0001234-250101000000000")
    ('10.15468/dl.abc123', '0001234-250101000000000')
    """
    text = key_or_doi.strip()
    if KEY.fullmatch(text):
        return text
    if (doi := _DOI.fullmatch(text)) and not set(doi[1]) & set("?#%") and ".." not in doi[1]:
        return doi[1]
    raise BadInput(f"{key_or_doi}: neither the key (0001234-250101000000000) nor the DOI (10.15468/dl.abc123) of a GBIF download")


def retry_after(answer: httpx.Response, longest: float) -> float:
    """Seconds that the server asks to wait; 0 where it doesn't say."""
    said = answer.headers.get("Retry-After", "").strip()
    return min(float(said), longest) if said.isdecimal() else 0.0


def short(text: str) -> str:
    """The beginning of an answer, for a message."""
    return " ".join(text.split())[:120]
