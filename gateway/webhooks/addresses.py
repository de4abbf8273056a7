"""Where webhooks may lead: public addresses only, unless a setting says otherwise.

Who may make a webhook chooses where this server sends a request, so the address that is connected to is looked at,
not the name: a name may lead elsewhere by the time it is called.
"""

import asyncio
import socket
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Any
from urllib.parse import urlsplit

import httpcore

from tracking.errors import InvalidParameter, TemporarilyUnavailable

# Looking up a name can't be broken off, so it has threads of its own, which may hang.
_LOOKUP_THREADS = 4
_LOOKUP_TIMEOUT_S = 3.0
_NAT64 = IPv6Network("64:ff9b::/96")


class UrlNotAllowed(InvalidParameter):
    def __init__(self, why: str) -> None:
        super().__init__(f"Invalid webhook URL: {why}.")


class ReceiverUnreachable(TemporarilyUnavailable):
    """Nobody answered; the cause is chained."""

    def __init__(self, why: str) -> None:
        super().__init__(f"The webhook's receiver can't be reached: {why}.")


class GuardedNetwork(httpcore.AsyncNetworkBackend):
    """Looks a name up, looks at what came, and connects to that very address; TLS still asks for the name."""

    def __init__(self, *, allow_private: bool) -> None:
        self._allow_private = allow_private
        self._network = httpcore.AnyIOBackend()
        self._lookups = ThreadPoolExecutor(_LOOKUP_THREADS, thread_name_prefix="webhook-lookup")

    def close(self) -> None:
        self._lookups.shutdown(wait=False, cancel_futures=True)

    async def check_url(self, url: str) -> None:
        """Raise `UrlNotAllowed` unless *url* may be called, as far as can be told now."""
        host, port = self.read_url(url)
        try:
            await self._look_up(host, port)
        except ReceiverUnreachable as error:
            raise UrlNotAllowed(f"the host {host!r} can't be found") from error

    def read_url(self, url: str) -> tuple[str, int]:
        """Host and port of *url*.

        Raises:
            UrlNotAllowed: if it isn't one that webhooks may have, wherever it leads.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise UrlNotAllowed("it can't be read") from error
        if parts.scheme != "https" and not (parts.scheme == "http" and self._allow_private):
            raise UrlNotAllowed("it must begin with https://")
        if not host or not url.isascii() or any(sign <= " " for sign in url):
            raise UrlNotAllowed("it must name a host, in ASCII and without blanks")
        if parts.username is not None or parts.password is not None:
            raise UrlNotAllowed("it must not hold credentials")
        return host, port or (443 if parts.scheme == "https" else 80)

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  (httpcore's own signature)
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        address = await self._look_up(host, port)
        return await self._network.connect_tcp(address, port, timeout, local_address, socket_options)

    async def sleep(self, seconds: float) -> None:
        await self._network.sleep(seconds)

    async def _look_up(self, host: str, port: int) -> str:
        """An address of *host*, once all of them have been found to be such as may be called."""
        lookup = asyncio.get_running_loop().run_in_executor(
            self._lookups, socket.getaddrinfo, host, port, 0, socket.SOCK_STREAM
        )
        try:
            async with asyncio.timeout(_LOOKUP_TIMEOUT_S):
                found = await lookup
        except (TimeoutError, OSError, UnicodeError) as error:
            raise ReceiverUnreachable("its name can't be found") from error
        addresses = [str(place[4][0]) for place in found]
        if not self._allow_private and not all(map(is_public, addresses)):
            raise UrlNotAllowed(
                "it leads to an address that isn't public (TITLEBOUT_WEBHOOK_ALLOW_PRIVATE=true allows such)"
            )
        return addresses[0]


def is_public(address: str) -> bool:
    """Whether *address* is one that anybody on the internet has the same way to."""
    # What follows a percent sign is the network card that a link-local address is reached by.
    return _is_public(ip_address(address.partition("%")[0]))


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    # An IPv4 address may come dressed as one of IPv6, and is as private as before.
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in _NAT64:
            inner = IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return _is_public(inner)
    return address.is_global and not address.is_multicast
