"""Which network addresses may be connected to, checked on the very address that the connection then takes.

A record's address is written by a stranger and a redirect by another: either can name this machine, a router or the service
that tells a cloud's machines their secrets. To check the name beforehand isn't enough, because a name server may answer
differently the second time (DNS rebinding). So the name is resolved once, here, at the bottom of the HTTP client; what passes is
connected to as a plain number, while the Host header and the TLS certificate still speak of the name.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Iterable
from concurrent.futures import Executor
from typing import Any

import httpcore

from taxakey.dataset.fetch.outcomes import NotFetched

_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def is_public(address: str) -> bool:
    """Whether an address belongs to the public internet, and to one machine. An IPv4 address within IPv6 is looked at itself.

    >>> [is_public(address) for address in ("8.8.8.8", "10.1.2.3", "127.0.0.1", "169.254.169.254", "::ffff:127.0.0.1")]
    [True, False, False, False, False]
    """
    number = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(number, ipaddress.IPv6Address):
        within = number.ipv4_mapped or number.sixtofour or (number.teredo and number.teredo[1])
        if number in _NAT64:
            within = ipaddress.IPv4Address(int(number) & 0xFFFFFFFF)
        if within:
            return is_public(str(within))
        if number.is_site_local:
            return False
    return number.is_global and not (number.is_multicast or number.is_reserved or number.is_unspecified)


class CheckedBackend(httpcore.AnyIOBackend):
    """Opens connections to addresses that are allowed; raises NotFetched for others."""

    def __init__(self, resolvers: Executor, *, private: bool, public: bool) -> None:
        self._resolvers = resolvers
        self._private = private
        self._public = public

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Resolve, check, and try the allowed addresses in the resolver's order."""
        failure: Exception | None = None
        for address in self._allowed(host, await self._resolve(host, port, timeout)):
            try:
                return await super().connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        assert failure is not None
        raise failure

    async def _resolve(self, host: str, port: int, timeout: float | None) -> list[str]:
        """The addresses of a name, in threads of their own: a name server that is silent must not hold up the disk."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout):
                found = await loop.run_in_executor(self._resolvers, _lookup, host, port)
        except TimeoutError:
            raise NotFetched("host not found", f"{host}: the name server doesn't answer", "soon", trouble=True) from None
        except (socket.gaierror, UnicodeError) as error:
            raise NotFetched("host not found", f"{host}: {error}", "soon", trouble=True) from None
        return list(dict.fromkeys(str(entry[4][0]) for entry in found))

    def _allowed(self, host: str, addresses: list[str]) -> list[str]:
        allowed = [address for address in addresses if (self._public if is_public(address) else self._private)]
        if not allowed:
            missing = "a public address, which isn't asked without a contact" if self._private else "not a public address"
            raise NotFetched("address refused", f"{host} is at {', '.join(addresses[:3])}: {missing}", "never")
        return allowed


def _lookup(host: str, port: int) -> list[Any]:
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
