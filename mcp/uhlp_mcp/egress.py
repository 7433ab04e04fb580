"""Where this process may connect to on behalf of an app, which chooses the address and so is not trusted.

A name is resolved here, once, and the connection goes to the address that was checked: what a name leads to
a moment later does not matter.
"""

import asyncio
import socket
import time
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import urlsplit

from uhlp_core.errors import InvalidInput, UhlpError

RESOLVE_SECONDS = 30.0
"""How long a name's addresses are remembered."""

MAX_REMEMBERED_NAMES = 1000

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


class Egress:
    """Decides on addresses by name."""

    def __init__(self, *, private_addresses: bool) -> None:
        """`private_addresses`: whether loopback and private networks may be called."""
        self._private_addresses = private_addresses
        self._names: dict[tuple[str, int], tuple[float, list[IpAddress]]] = {}

    async def check(self, url: str) -> None:
        """Raises InvalidInput for what is no address of a web server, and what `addresses` raises."""
        try:
            parts = urlsplit(url)
            scheme, host, port = parts.scheme, parts.hostname, parts.port
        except ValueError:
            host = None
        if not host or scheme not in PORTS:
            raise InvalidInput("the address of a server begins with https:// and a host")
        await self.addresses(scheme, host, port or PORTS[scheme])

    async def addresses(self, scheme: str, host: str, port: int) -> list[IpAddress]:
        """The addresses to connect to, best first. Raises EgressRefused and NameNotResolved."""
        found = await self.resolve(host, port)
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

    async def resolve(self, host: str, port: int) -> list[IpAddress]:
        """Where a name leads, unchecked. Raises NameNotResolved."""
        try:
            return [_plain(ip_address(host))]
        except ValueError:
            pass
        known = self._names.get((host, port))
        if known is not None and known[0] > time.monotonic():
            return known[1]
        try:
            answers = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise NameNotResolved(f"the name {host} cannot be resolved: {error}") from None
        # A zone (`%eth0`) names an interface of this machine, never a public address.
        found = [_plain(ip_address(str(answer[4][0]).partition("%")[0])) for answer in answers]
        if len(self._names) >= MAX_REMEMBERED_NAMES:
            self._names.clear()
        self._names[host, port] = (time.monotonic() + RESOLVE_SECONDS, found)
        return found


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
