"""Connections that are kept for the next request to the same origin.

httpcore's own pool looks at each of its connections several times a request, and asks the system about the idle ones: with a
hundred of them that costs twenty times the request itself. Here the hosts' turns (hosts.py) bound how many are in use, so
what is left to do is to keep the idle ones.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator
from typing import Any

import httpcore
import httpx

from taxakey.dataset.fetch.addresses import CheckedBackend

_KEPT_SECONDS = 30.0


class CheckedTransport(httpx.AsyncBaseTransport):
    """What httpx sends its requests through. No proxy is ever used: it would connect in our place, and unchecked."""

    def __init__(self, backend: CheckedBackend, most_idle: int) -> None:
        """Beyond `most_idle` idle connections the oldest one is closed."""
        self._backend = backend
        self._most_idle = most_idle
        self._tls = httpx.create_ssl_context()
        self._idle: OrderedDict[httpcore.AsyncHTTPConnection, str] = OrderedDict()
        """With their origins, the one idle for longest first."""
        self._idle_at: dict[str, list[httpcore.AsyncHTTPConnection]] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request; the errors of httpcore pass through as they are."""
        url = request.url
        target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        connection = await self._take(str(target.origin)) or self._new(target.origin)
        try:
            answer = await connection.handle_async_request(
                httpcore.Request(request.method, target, headers=request.headers.raw, extensions=request.extensions)
            )
        except BaseException:
            await connection.aclose()
            raise
        stream = _AnswerStream(answer.stream, connection, str(target.origin), self)
        return httpx.Response(answer.status, headers=answer.headers, stream=stream, extensions=answer.extensions)

    async def _take(self, origin: str) -> httpcore.AsyncHTTPConnection | None:
        while idle := self._idle_at.get(origin):
            connection = idle[-1]
            self._forget(connection)
            if connection.is_available() and not connection.has_expired():
                return connection
            await connection.aclose()
        return None

    def _new(self, origin: httpcore.Origin) -> httpcore.AsyncHTTPConnection:
        return httpcore.AsyncHTTPConnection(
            origin, ssl_context=self._tls, keepalive_expiry=_KEPT_SECONDS, network_backend=self._backend
        )

    def _forget(self, connection: httpcore.AsyncHTTPConnection) -> None:
        origin = self._idle.pop(connection)
        self._idle_at[origin].remove(connection)
        if not self._idle_at[origin]:
            del self._idle_at[origin]

    async def give_back(self, connection: httpcore.AsyncHTTPConnection, origin: str) -> None:
        """Keep a connection whose answer was read to its end; close any other."""
        if not connection.is_idle():
            await connection.aclose()
            return
        self._idle[connection] = origin
        self._idle_at.setdefault(origin, []).append(connection)
        if len(self._idle) > self._most_idle:
            oldest = next(iter(self._idle))
            self._forget(oldest)
            await oldest.aclose()

    async def aclose(self) -> None:
        for connection in list(self._idle):
            self._forget(connection)
            await connection.aclose()


class _AnswerStream(httpx.AsyncByteStream):
    def __init__(self, stream: Any, connection: httpcore.AsyncHTTPConnection, origin: str, transport: CheckedTransport) -> None:
        self._stream = stream
        self._connection = connection
        self._origin = origin
        self._transport = transport
        self._closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._stream:
            yield part

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            await self._stream.aclose()
            await self._transport.give_back(self._connection, self._origin)
