"""One GET: hop by hop over redirects, each at its host's turn, and its body in bounded pieces."""

from __future__ import annotations

import asyncio
import ssl
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpcore
import httpx

from taxakey.dataset.fetch.connections import CheckedTransport
from taxakey.dataset.fetch.hosts import Hosts, retry_after
from taxakey.dataset.fetch.options import FetchOptions
from taxakey.dataset.fetch.outcomes import NotFetched

_PIECE = 2**16
BeforeHop = Callable[[httpx.URL], Awaitable[None]]


class Web:
    """Sends requests and follows their redirects; whatever goes wrong on the way is a NotFetched."""

    def __init__(self, transport: CheckedTransport, hosts: Hosts, options: FetchOptions) -> None:
        self.hosts = hosts
        self._options = options
        self._client = httpx.AsyncClient(
            transport=transport,
            timeout=httpx.Timeout(options.read_timeout, connect=options.connect_timeout, pool=None),
            # "identity": pictures don't shrink, and what isn't packed can't unpack to gigabytes.
            headers={"User-Agent": options.user_agent, "Accept": "image/*,*/*;q=0.5", "Accept-Encoding": "identity"},
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),  # nobody needs to recognise us by more than our name
        )

    async def aclose(self) -> None:
        await self._client.aclose()

    @asynccontextmanager
    async def answer(self, url: str, before_hop: BeforeHop | None = None) -> AsyncIterator[httpx.Response]:
        """The first answer that is no redirect, its body unread; its host's turn lasts as long as the block.

        `before_hop` is awaited before each request, with its address, and may raise NotFetched.
        """
        request, seen = self._first(url), set[str]()
        while True:
            self._check_hop(request.url, seen)
            try:
                if before_hop is not None:
                    await before_hop(request.url)
                async with self.hosts.turn(request.url.host), self._sent(request) as response:
                    if not response.has_redirect_location:
                        yield response
                        return
                    assert response.next_request is not None
                    request = response.next_request
            except NotFetched as failure:
                failure.asked |= len(seen) > 1  # what stops the second hop comes after the first one was asked
                raise

    def _first(self, url: str) -> httpx.Request:
        try:
            return self._client.build_request("GET", url)
        except (httpx.InvalidURL, ValueError, UnicodeError) as error:
            raise NotFetched("bad address", str(error), "never", asked=False) from None

    def _check_hop(self, url: httpx.URL, seen: set[str]) -> None:
        if url.scheme not in ("http", "https") or not url.host or (url.port or 80) > 65535:
            raise NotFetched("bad address", f"{url}: not an http or https address", "never", asked=bool(seen))
        if str(url) in seen:
            raise NotFetched("redirects in a circle", f"comes back to {url} after {len(seen)} hops", "never")
        if len(seen) > self._options.max_redirects:
            raise NotFetched("too many redirects", f"more than {self._options.max_redirects}", "never")
        seen.add(str(url))

    @asynccontextmanager
    async def _sent(self, request: httpx.Request) -> AsyncIterator[httpx.Response]:
        with _network_errors(self._options):
            async with asyncio.timeout(self._options.deadline):
                try:
                    response = await self._client.send(request, stream=True)
                except (httpx.InvalidURL, ValueError) as error:  # a stranger's address may fail as late as here
                    raise NotFetched("bad address", str(error), "never") from None
                try:
                    if response.status_code != 200 and _is_short(response):
                        async for _ in response.aiter_raw():  # read to its end, or the connection can't be used again
                            pass
                    yield response
                finally:
                    await response.aclose()


@contextmanager
def _network_errors(options: FetchOptions) -> Iterator[None]:
    """Whatever the network does wrong, as a NotFetched that says so; it may be better in a while."""
    try:
        yield
    except httpcore.ConnectTimeout:
        reason, detail = "timeout", f"no connection within {options.connect_timeout:g} s"
    except httpcore.TimeoutException:
        reason, detail = "timeout", f"silent for {options.read_timeout:g} s"
    except TimeoutError:
        reason, detail = "timeout", f"not done within {options.deadline:g} s"
    except httpcore.ConnectError as error:
        reason, detail = "can't connect", str(error)
    except httpx.RemoteProtocolError as error:  # raised by httpx itself: for a Location that is no address
        raise NotFetched("bad redirect", str(error), "never") from None
    except (httpcore.NetworkError, httpcore.ProtocolError, ssl.SSLError, zlib.error) as error:
        reason, detail = "cut off", str(error) or type(error).__name__
    else:
        return
    raise NotFetched(reason, detail, "soon", trouble=True)


async def body(response: httpx.Response) -> AsyncIterator[bytes]:
    """The body in pieces of at most 64 KiB, unpacked where the host packed it unasked."""
    packing = response.headers.get("Content-Encoding", "identity").strip().lower()
    if packing in ("", "identity"):
        async for piece in response.aiter_raw():
            yield piece
        return
    if packing not in ("gzip", "x-gzip", "deflate"):
        raise NotFetched("unknown packing", f"packed as {packing}, which wasn't asked for", "never")
    unpacker = zlib.decompressobj(wbits=47)  # 47: gzip or zlib, whichever its first bytes show
    async for piece in response.aiter_raw():
        while piece and not unpacker.eof:
            yield unpacker.decompress(piece, _PIECE)
            piece = unpacker.unconsumed_tail
    if not unpacker.eof:
        raise NotFetched("cut off", f"the {packing} body ends before its end", "soon", trouble=True)


def _is_short(response: httpx.Response) -> bool:
    length = response.headers.get("Content-Length", "")
    return length.isdecimal() and int(length) <= _PIECE


def has_length(response: httpx.Response) -> bool:
    """Whether HTTP itself tells the end of the body from a broken connection."""
    return "Content-Length" in response.headers or "Transfer-Encoding" in response.headers


def check_trouble(response: httpx.Response) -> None:
    """Raise NotFetched when the host says that it can't answer just now."""
    if response.status_code in (408, 425, 429) or response.status_code >= 500:
        reason = "too many requests" if response.status_code == 429 else "server error"
        said = f"HTTP {response.status_code} {response.reason_phrase}".strip()
        wait = retry_after(response.headers.get("Retry-After"))
        raise NotFetched(reason, said, "soon", trouble=True, wait=wait)
