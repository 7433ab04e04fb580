"""Where this process may connect to on behalf of an app, which chooses the address and so is not trusted.

A name is resolved here, once, and the connection goes to the address that was checked: what a name leads to
a moment later does not matter. An app's names may be slow to resolve, which holds up that app alone.
"""

import asyncio
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import urlsplit

from uhlp_core.errors import InvalidInput, UhlpError
from uhlp_mcp.turns import TooManyWaiting, Turns

RESOLVE_SECONDS = 30.0
"""How long a name's addresses are remembered."""

FAILURE_SECONDS = 5.0
"""How long it is remembered that a name leads nowhere: who asks again and again asks no name server."""

LOOKUP_SECONDS = 5.0
"""That a call waits for a name: a name server that answers at all takes less, a lost packet included."""

MAX_REMEMBERED_NAMES = 1000

LOOKUPS_OF_APP = 4
"""Under way at the same time; further ones wait. Each holds its thread until the system gives up on the name,
whoever still waits for it."""

THREADS = 64
"""For lookups: those of many apps whose names are all slow, at 50 KB each."""

PORTS = {"http": 80, "https": 443}
"""Of addresses that name none, by scheme; no other scheme is called."""

IpAddress = IPv4Address | IPv6Address

_PUBLIC_IPV6 = ip_network("2000::/3")
"""All that IANA gives out for the Internet; outside of it, what an address means differs from net to net."""

_NAT64 = ip_network("64:ff9b::/96")
"""Stands for the IPv4 address in its last four bytes (RFC 6052): a gateway of the net translates."""


class EgressRefused(UhlpError):
    """The address must not be called; the text says why."""

    code = "ADDRESS_REFUSED"


class NameNotResolved(UhlpError):
    """The name leads nowhere at the moment."""

    code = "NAME_NOT_RESOLVED"


@dataclass(frozen=True, slots=True)
class _Known:
    """What a lookup has told."""

    until: float
    """When it is forgotten, on the monotonic clock."""
    addresses: list[IpAddress]
    failure: str
    """Why there are no addresses; empty if there are."""


class Egress:
    """Decides on addresses by name."""

    def __init__(self, *, private_addresses: bool) -> None:
        """`private_addresses`: whether loopback and private networks may be called."""
        self._private_addresses = private_addresses
        self._known: dict[tuple[str, int], _Known] = {}
        self._under_way: dict[tuple[str, str, int], asyncio.Task[_Known]] = {}
        """By app as well: no app waits for a lookup that is in the queue of another one."""
        self._turns = Turns()
        # Of their own: uvloop has two for all names, and other blocking work is not to wait for these.
        self._threads = ThreadPoolExecutor(THREADS, "names")

    async def check(self, app: str, url: str) -> None:
        """Raises InvalidInput for what is no address of a web server, and what `addresses` raises."""
        try:
            parts = urlsplit(url)
            scheme, host, port = parts.scheme, parts.hostname, parts.port
        except ValueError:
            host = None
        if not host or scheme not in PORTS:
            raise InvalidInput("the address of a server begins with https:// and a host")
        await self.addresses(app, scheme, host, port or PORTS[scheme])

    async def addresses(self, app: str, scheme: str, host: str, port: int) -> list[IpAddress]:
        """The addresses to connect to, best first. Raises EgressRefused and NameNotResolved."""
        found = await self.resolve(app, host, port)
        # All of them: which one a name leads to is the choice of whoever owns the name.
        for address in found:
            private = not _is_public(address)
            if private and not self._private_addresses:
                raise EgressRefused(
                    f"{host} leads to {address}, which is not on the public Internet; where that is meant, "
                    "the operator sets private_addresses"
                )
            if scheme == "http" and not private:
                raise EgressRefused(f"{host} is on the public Internet, so its address must be https://")
        return found

    async def resolve(self, app: str, host: str, port: int) -> list[IpAddress]:
        """Where a name leads, unchecked. Raises NameNotResolved."""
        try:
            return [_plain(ip_address(host))]
        except ValueError:
            pass
        known = self._known.get((host, port))
        if known is None or known.until <= time.monotonic():
            known = await self._looked_up(app, host, port)
        if known.failure:
            raise NameNotResolved(f"the name {host} cannot be resolved: {known.failure}")
        return known.addresses

    async def _looked_up(self, app: str, host: str, port: int) -> _Known:
        """The result of the app's lookup of a name, of which one is under way at a time."""
        key = app, host, port
        if key not in self._under_way:
            self._under_way[key] = asyncio.ensure_future(self._look_up(app, host, port))
        try:
            async with asyncio.timeout(LOOKUP_SECONDS):
                # Shielded: who does not wait any more takes nothing from the others.
                return await asyncio.shield(self._under_way[key])
        except TimeoutError:
            return _Known(0.0, [], f"no answer within {LOOKUP_SECONDS:g} s")

    async def _look_up(self, app: str, host: str, port: int) -> _Known:
        look_up = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        try:
            async with self._turns.one(app, LOOKUPS_OF_APP):
                answers = await asyncio.get_running_loop().run_in_executor(self._threads, look_up)
            # A zone (`%eth0`) names an interface of this machine, never a public address.
            found = [_plain(ip_address(str(answer[4][0]).partition("%")[0])) for answer in answers]
            known = _Known(time.monotonic() + RESOLVE_SECONDS, found, "")
        except (OSError, UnicodeError) as error:
            known = _Known(time.monotonic() + FAILURE_SECONDS, [], str(error))
        except TooManyWaiting as error:
            return _Known(0.0, [], str(error))  # which says nothing of the name
        finally:
            del self._under_way[app, host, port]
        self._known.pop((host, port), None)
        if len(self._known) >= MAX_REMEMBERED_NAMES:
            del self._known[next(iter(self._known))]  # the oldest
        self._known[host, port] = known
        return known


def _is_public(address: IpAddress) -> bool:
    if isinstance(address, IPv6Address):
        if address in _NAT64:
            address = IPv4Address(int(address) & 0xFFFFFFFF)
        elif address not in _PUBLIC_IPV6:
            return False
    return address.is_global and not address.is_multicast


def _plain(address: IpAddress) -> IpAddress:
    """The address that is really meant: an IPv4 address can be written as an IPv6 one."""
    return getattr(address, "ipv4_mapped", None) or getattr(address, "sixtofour", None) or address
