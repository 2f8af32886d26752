"""One run over all hosts: each goes through its own queue at its own pace, so that a slow one holds up nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from taxakey.dataset.fetch.addresses import CheckedBackend
from taxakey.dataset.fetch.connections import CheckedTransport
from taxakey.dataset.fetch.download import Downloader
from taxakey.dataset.fetch.hosts import Hosts
from taxakey.dataset.fetch.journal import Journal
from taxakey.dataset.fetch.options import FetchOptions
from taxakey.dataset.fetch.outcomes import NotFetched
from taxakey.dataset.fetch.robots import Robots
from taxakey.dataset.fetch.web import Web

_QUEUES = 1000
"""Hosts worked on at once; each holds some tasks and a batch of addresses in memory."""
_RESOLVERS = 32

Tick = Callable[[], object]


async def crawl(journal: Journal, out: Path, options: FetchOptions, tick: Tick) -> None:
    """Try every open address of the journal; `tick` is called for each that is settled."""
    resolvers = ThreadPoolExecutor(_RESOLVERS, "name server")
    hosts = Hosts(options, journal.pauses(), journal.remember_pause)
    backend = CheckedBackend(resolvers, private=options.allow_private_addresses, public=options.contact is not None)
    web = Web(CheckedTransport(backend, most_idle=options.concurrency), hosts, options)
    try:
        run = _Run(journal, Downloader(web, Robots(web, options), out, options), hosts, options, tick)
        await run.all_hosts()
    finally:
        await web.aclose()
        resolvers.shutdown(wait=False, cancel_futures=True)
    journal.close_run(run.left)


class _Run:
    def __init__(self, journal: Journal, downloader: Downloader, hosts: Hosts, options: FetchOptions, tick: Tick) -> None:
        self.left: dict[str, str] = {}
        """Host that was left alone -> why."""
        self._journal = journal
        self._downloader = downloader
        self._hosts = hosts
        self._options = options
        self._tick = tick

    async def all_hosts(self) -> None:
        names = self._journal.hosts_waiting()
        waiting = iter(names)  # shared: whoever is done with a host takes the next one
        async with asyncio.TaskGroup() as group:
            for _ in range(min(_QUEUES, len(names))):
                group.create_task(self._some_hosts(waiting))

    async def _some_hosts(self, names: Iterator[str]) -> None:
        for name in names:
            await self._one_host(name)

    async def _one_host(self, name: str) -> None:
        """Go through a host's queue, then again through what failed for reasons that may pass.

        Failed addresses wait for the next pass, not for a timer of their own: one that always fails never holds up the others.
        """
        for _ in range(self._options.attempts):
            queue = self._journal.waiting(name)
            async with asyncio.TaskGroup() as group:
                for _ in range(self._options.per_host):
                    group.create_task(self._drain(name, queue))
            if next(self._journal.waiting(name), None) is None:
                return

    async def _drain(self, name: str, queue: Iterator[tuple[int, str]]) -> None:
        while (why := self._hosts.named(name).left) is None:
            number, url = next(queue, (None, ""))
            if number is None:
                return
            try:
                picture = await self._downloader.fetch(url)
            except NotFetched as failure:
                self._journal.failed(number, failure)
                if failure.again != "soon":
                    self._tick()
            else:
                self._journal.fetched(number, url, picture)
                self._tick()
        self.left[name] = why
