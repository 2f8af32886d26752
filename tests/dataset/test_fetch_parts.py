"""The parts of a fetch that need no server: addresses, headers, options, the journal."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxakey.dataset.fetch.addresses import is_public
from taxakey.dataset.fetch.hosts import Host, Hosts, retry_after
from taxakey.dataset.fetch.journal import Journal
from taxakey.dataset.fetch.options import FetchOptions
from taxakey.dataset.fetch.outcomes import Fetched, NotFetched
from taxakey.dataset.fetch.robots import Robots
from taxakey.dataset.fetch.web import Web
from taxakey.errors import ArtifactError, BadInput

LOCAL = FetchOptions(allow_private_addresses=True)


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "127.8.8.8", "::1", "0.0.0.0", "::", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1",
     "169.254.169.254", "fe80::1", "fe80::1%eth0", "fc00::1", "fec0::1", "100.64.0.1", "224.0.0.1", "ff02::1", "240.0.0.1",
     "255.255.255.255", "192.0.2.1", "2001:db8::1", "::ffff:10.0.0.1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::",
     "::127.0.0.1"],
)  # fmt: skip
def test_addresses_that_arent_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "172.32.0.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_addresses_that_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), (" 7 ", 7), ("3600", 3600), ("9" * 40, 999_999_999), ("Fri, 01 Mar 2024 12:01:30 GMT", 90), ("-5", None),
     ("Fri, 01 Mar 2024 11:00:00 GMT", 0), ("1.5", None), ("tomorrow", None), ("", None), (None, None),
     ("Fri, 01 Mar 2024 14:00:10 +0200", 10), ("Friday, 01-Mar-24 12:00:20 GMT", 20), ("Fri, 99 Mar 2024 12:00:00 GMT", None)],
)  # fmt: skip
def test_retry_after(text: str | None, seconds: float | None) -> None:
    assert retry_after(text, datetime(2024, 3, 1, 12, tzinfo=UTC)) == seconds


@given(st.text(max_size=60))
def test_retry_after_takes_any_text(text: str) -> None:
    seconds = retry_after(text)
    assert seconds is None or seconds >= 0


# ---- options ----


@pytest.mark.parametrize("contact", ["me@example.org", "mailto:me@example.org", "https://example.org/~me?a=1"])
def test_contacts(contact: str) -> None:
    assert contact in FetchOptions(contact=contact).user_agent


@pytest.mark.parametrize(
    "contact", ["", "me", "me@example", "example.org", "me@example.org)\r\nX: y", "https://a.org/\r\nX: y", "a b@c.de"]
)
def test_what_is_no_contact(contact: str) -> None:
    with pytest.raises(BadInput, match="neither a mail address nor a page"):
        FetchOptions(contact=contact)


def test_public_hosts_need_a_contact() -> None:
    with pytest.raises(BadInput, match="--contact"):
        FetchOptions()


@pytest.mark.parametrize(
    "wrong", [{"rate": 0}, {"per_host": 0}, {"concurrency": -1}, {"attempts": 0}, {"max_bytes": 0}, {"longest_wait": 0},
              {"max_redirects": -1}, {"media_types": ("image/svg+xml",)}, {"media_types": ()}],
)  # fmt: skip
def test_impossible_options(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match=next(iter(wrong)).removesuffix("s").replace("_", ".")):
        FetchOptions(allow_private_addresses=True, **wrong)


# ---- addresses written by strangers ----


class _Silent(httpx.AsyncBaseTransport):
    """Answers everything, robots.txt too, without a network."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, stream=httpx.ByteStream(b"User-agent: *\nDisallow: /private*\n"))


_PARTS = st.sampled_from(
    ["[", "]", "::", "%", "%zz", "@", ":", "99999", "\\", "xn--", "ü", "..", "/", "?", "#", " ", "a", "é", "$", "*"]
)


@given(st.lists(_PARTS | st.text(max_size=4), max_size=12).map("".join))
def test_any_text_as_an_address_is_answered_or_refused(text: str) -> None:
    """Whatever a record holds, one address never ends the run: NotFetched is all that may be raised."""

    options = FetchOptions(allow_private_addresses=True, rate=1e6)

    async def ask() -> None:
        web = Web(_Silent(), Hosts(options, {}, lambda *_: None), options)  # type: ignore[arg-type]
        with suppress(NotFetched):
            async with web.answer(f"http://{text}", Robots(web, options).check):
                pass
        await web.aclose()

    asyncio.run(ask())


# ---- hosts ----


def test_a_host_without_waiters_may_be_forgotten_and_a_paused_one_not() -> None:
    free, paused = (Host(name, LOCAL, asyncio.Semaphore(), until) for name, until in (("a", None), ("b", time.time() + 100)))
    assert (free.may_be_forgotten(), paused.may_be_forgotten()) == (True, False)


def test_hosts_are_forgotten_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taxakey.dataset.fetch.hosts._REMEMBERED_HOSTS", 10)
    hosts = Hosts(LOCAL, {"kept": time.time() + 100}, lambda *_: None)
    kept = hosts.named("kept")
    for number in range(100):
        hosts.named(str(number))
    assert len(hosts._known) <= 11
    assert hosts.named("kept") is kept


def test_a_host_keeps_its_distance_even_after_waiting_for_a_connection() -> None:
    """Several may be asked by their own pace, and get the only connection in one moment when another host lets go of it."""

    async def times() -> list[float]:
        total, asked = asyncio.Semaphore(1), []
        host = Host("a", FetchOptions(allow_private_addresses=True, rate=20, per_host=4), total, None)

        async def ask() -> None:
            async with host.turn():
                asked.append(time.monotonic())

        async with total:
            tasks = [asyncio.create_task(ask()) for _ in range(4)]
            await asyncio.sleep(0.3)
        await asyncio.gather(*tasks)
        return asked

    assert all(b - a >= 0.05 for a, b in pairwise(asyncio.run(times())))


def test_pauses_after_trouble_grow_up_to_a_bound_and_vary() -> None:
    host = Host("a", FetchOptions(allow_private_addresses=True, backoff=1, longest_backoff=10), asyncio.Semaphore(), None)
    for failures, middle in ((1, 1), (2, 2), (3, 4), (4, 8), (5, 10), (60, 10)):
        host._failures = failures
        pauses = [host._backoff() for _ in range(200)]
        assert 0.5 * middle <= min(pauses) < 0.7 * middle
        assert 1.3 * middle < max(pauses) <= 1.5 * middle


# ---- the journal ----


def rows(*urls: str) -> list[tuple[int, str, str, str]]:
    return [(number, f"i{number}", url, "h") for number, url in enumerate(urls)]


def fill(journal: Journal, *batches: list[tuple[int, str, str, str]]) -> None:
    journal.fill(iter(batches), iter([]))


def test_an_interrupted_filling_begins_anew(tmp_path: Path) -> None:
    def interrupted() -> Any:
        yield rows("a", "b", "c")
        raise KeyboardInterrupt

    with Journal(tmp_path / "j") as journal, pytest.raises(KeyboardInterrupt):
        journal.fill(interrupted(), iter([]))
    with Journal(tmp_path / "j") as journal:
        fill(journal, rows("a"), [(5, "i5", "z", "h")])
        assert [url for _, url in journal.waiting("h")] == ["a", "z"]
        fill(journal, rows("never", "looked", "at"))
        assert journal.count() == (2, 2)


def test_a_queue_gives_each_address_once_however_long_it_is(tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal:
        fill(journal, rows(*(f"u{number}" for number in range(100))))
        seen = []
        for number, url in journal.waiting("h", batch=7):
            seen.append(url)
            if number % 3 == 0:
                journal.failed(number, NotFetched("server error", "HTTP 500", "soon"))
            elif number % 3 == 1:
                journal.fetched(number, url, Fetched("p", "s", 1, "image/jpeg", url))
        assert seen == [f"u{number}" for number in range(100)]
        assert journal.count() == (100, 67)


def test_hosts_with_most_to_do_come_first(tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal:
        hosts = ("small", "big", "big", "also")
        fill(journal, [(number, f"i{number}", f"u{number}", host) for number, host in enumerate(hosts)])
        assert journal.hosts_waiting() == ["big", "also", "small"]


def test_a_file_that_is_no_journal(tmp_path: Path) -> None:
    (tmp_path / "j").write_bytes(b"something else altogether" * 100)
    with pytest.raises(ArtifactError, match="delete the folder"):
        Journal(tmp_path / "j")
