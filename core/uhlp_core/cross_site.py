"""Tells requests that a page made a person's browser send to us: DNS rebinding, and pages of other sites.

For the doors of the platform itself, which are no web pages. Knows no HTTP library.
"""

import ipaddress
from collections.abc import Collection


def is_own_host(host: str, names: Collection[str]) -> bool:
    """Whether a Host header names us: one of `names` (in lower case), or an address.

    An address is safe: a page that lures a browser here by DNS rebinding needs a name.
    """
    name = _name(host)
    if name in names:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_foreign_page(host: str, origin: str | None, site: str | None) -> bool:
    """Whether the headers Host, Origin and Sec-Fetch-Site say that a page of another site sends this."""
    own = (f"http://{host}", f"https://{host}")
    return (origin is not None and origin not in own) or site not in (None, "none", "same-origin")


def _name(host: str) -> str:
    """The name in a Host header, in lower case, without port, brackets and final dot."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower().removesuffix(".")
