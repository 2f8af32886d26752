"""How often one host is asked: its pace, its pauses, and when it is left alone."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from taxakey.dataset.fetch.options import FetchOptions
from taxakey.dataset.fetch.outcomes import NotFetched

_REMEMBERED_HOSTS = 10_000


class Host:
    """One host's turns. Every request to it, robots.txt and redirects included, is made within `turn`."""

    def __init__(self, name: str, options: FetchOptions, total: asyncio.Semaphore, until: float | None) -> None:
        """`total` is shared by all hosts; `until`: when the pause ends that the host asked an earlier run for, in Unix time."""
        self.name = name
        self.left: str | None = None
        """Why the host is left alone until a later run."""
        self.rules: dict[str, asyncio.Task[Any]] = {}
        """Origin -> the task that gets its robots.txt, or has got it."""
        self.users = 0
        self._options = options
        self._total = total
        self._slots = asyncio.Semaphore(options.per_host)
        self._interval = 1 / options.rate
        self._next = 0.0
        self._failures = 0
        if until is not None:
            self._pause(until - time.time())

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait until the host may be asked; how the request ends within decides when it may be asked next."""
        async with self._slots:
            while True:
                await self._wait()
                async with self._total:
                    if not self._may_be_asked():
                        continue  # it was when the wait for a connection began
                    self._next = time.monotonic() + self._interval
                    try:
                        yield
                    except NotFetched as failure:
                        self._note(failure)
                        raise
                    self._failures = 0
                    return

    async def _wait(self) -> None:
        while not self._may_be_asked():
            await asyncio.sleep(self._next - time.monotonic())  # then look again: others may have met trouble meanwhile

    def _may_be_asked(self) -> bool:
        if self.left is not None:
            raise NotFetched("host left alone", f"{self.name}: {self.left}", "later", asked=False)
        return self._next <= time.monotonic()

    def _note(self, failure: NotFetched) -> None:
        if not failure.trouble:
            self._failures = 0
            return
        self._failures += 1
        if self._failures >= self._options.host_failures:
            self.left = f"{self._failures} failures in a row, the last: {failure.reason} ({failure.detail})"
        elif failure.wait is not None:
            self._pause(failure.wait)
        elif failure.again != "never":  # a host that forbids is no host that can't
            self._pause(self._backoff())

    def _backoff(self) -> float:
        doubled = self._options.backoff * 2 ** (self._failures - 1)
        return min(doubled, self._options.longest_backoff) * random.uniform(0.5, 1.5)

    def _pause(self, seconds: float) -> None:
        if seconds > self._options.longest_wait:
            self.left = f"asks not to be asked for {seconds:,.0f} s"
        self._next = max(self._next, time.monotonic() + seconds)

    def may_be_forgotten(self) -> bool:
        """Whether nothing would be lost: nobody waits for a turn, no pause is running, and it isn't left alone."""
        return not self.users and self.left is None and self._next < time.monotonic()

    def slow_down(self, interval: float) -> None:
        """Obey a robots.txt that asks for `interval` seconds between requests."""
        self._interval = max(self._interval, interval)
        self._next = max(self._next, time.monotonic() + self._interval)
        if interval > self._options.longest_wait:
            self.left = f"its robots.txt asks for {interval:,.0f} s between requests"


class Hosts:
    """All hosts of a run, by name. Those that are idle are forgotten when there are too many."""

    def __init__(self, options: FetchOptions, pauses: Mapping[str, float], remember: Callable[[str, float], None]) -> None:
        """`pauses`: host -> end of a pause in Unix time, from earlier runs; `remember` is told of each new one."""
        self._options = options
        self._pauses = pauses
        self._remember = remember
        self._total = asyncio.Semaphore(options.concurrency)
        self._known: dict[str, Host] = {}

    @asynccontextmanager
    async def turn(self, name: str) -> AsyncIterator[None]:
        """A turn at the host of that name; raises NotFetched when it is left alone."""
        host = self.named(name)
        host.users += 1
        try:
            async with host.turn():
                yield
        except NotFetched as failure:
            if failure.trouble and failure.wait is not None:
                self._remember(name, time.time() + failure.wait)
            raise
        finally:
            host.users -= 1

    def named(self, name: str) -> Host:
        """The host of that name."""
        if name not in self._known:
            if len(self._known) >= _REMEMBERED_HOSTS:
                self._forget_idle()
            self._known[name] = Host(name, self._options, self._total, self._pauses.get(name))
        return self._known[name]

    def _forget_idle(self) -> None:
        for name in [name for name, host in self._known.items() if host.may_be_forgotten()]:
            del self._known[name]


def retry_after(text: str | None, now: datetime | None = None) -> float | None:
    """The header Retry-After, seconds or an HTTP date, as seconds from now, 0 or more; None where it is missing or neither.

    >>> retry_after("120"), retry_after("soon"), retry_after("Thu, 01 Jan 1970 00:00:00 GMT")
    (120.0, None, 0.0)
    """
    if text is None:
        return None
    if text.strip().isdecimal():
        return float(text.strip()[:9])
    try:
        date = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    date = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max(0.0, (date - (now or datetime.now(UTC))).total_seconds())
