"""What a host's robots.txt allows (RFC 9309), asked once an origin and run."""

from __future__ import annotations

import asyncio
import math

import httpx
from protego import Protego

from taxakey.dataset.fetch.hosts import Host
from taxakey.dataset.fetch.options import ROBOT, FetchOptions
from taxakey.dataset.fetch.outcomes import Again, NotFetched
from taxakey.dataset.fetch.web import Web, body, check_trouble

_MAX_BYTES = 500 * 2**10
"""What RFC 9309 wants read at least; the rest of a longer one is ignored."""


class Robots:
    """Rules of all origins that were asked."""

    def __init__(self, web: Web, options: FetchOptions) -> None:
        self._web = web
        self._options = options

    async def check(self, url: httpx.URL) -> None:
        """Raise NotFetched unless the robots.txt of the address's origin allows it.

        No such file (4xx) allows everything. One that can't be had forbids everything: the host is left alone until a later run.
        """
        host = self._web.hosts.named(url.host)
        origin = str(url.copy_with(raw_path=b"/robots.txt", fragment=None, userinfo=b""))
        if origin not in host.rules:
            host.rules[origin] = asyncio.create_task(self._read(host, origin))
        rules = await host.rules[origin]
        if isinstance(rules, NotFetched):
            again: Again = "never" if rules.again == "never" else "later"
            raise NotFetched(rules.reason, f"robots.txt: {rules.detail}", again, asked=False)
        try:
            allowed = rules.can_fetch(str(url), ROBOT)
        except ValueError as error:  # Python's own parser of addresses is stricter than httpx's
            raise NotFetched("bad address", str(error), "never", asked=False) from None
        if not allowed:
            raise NotFetched("forbidden by robots.txt", f"{origin} forbids it", "never", asked=False)

    async def _read(self, host: Host, origin: str) -> Protego | NotFetched:
        for _ in range(self._options.attempts):
            try:
                rules = await self._ask(origin)
            except NotFetched as error:
                failure = error
                if failure.again != "soon":
                    break
            else:
                host.slow_down(_interval(rules))
                return rules
        if failure.reason in ("too many redirects", "redirects in a circle", "bad redirect"):
            return Protego.parse("")  # RFC 9309, 2.3.1.2: as if there were none
        if failure.again != "never":
            host.left = host.left or f"its robots.txt can't be had: {failure.reason} ({failure.detail})"
        return failure

    async def _ask(self, address: str) -> Protego:
        async with self._web.answer(address) as response:
            check_trouble(response)
            if response.status_code >= 300:
                return Protego.parse("")
            text = b""
            async for piece in body(response):
                text += piece
                if len(text) >= _MAX_BYTES:
                    break
        return Protego.parse(text[:_MAX_BYTES].decode("utf-8", "replace"))


def _interval(rules: Protego) -> float:
    """Seconds between requests that the rules ask for; 0 where they don't."""
    wanted = [rules.crawl_delay(ROBOT) or 0.0]
    if rate := rules.request_rate(ROBOT):
        wanted.append(rate.seconds / rate.requests if rate.requests else 0.0)
    return max(seconds for seconds in (*wanted, 0.0) if math.isfinite(seconds))
