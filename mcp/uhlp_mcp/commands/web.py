"""What `curl` may get: one https URL of a host that the app lists, and few options; the rest is set here."""

import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from uhlp_mcp.commands.arguments import ArgumentRefused
from uhlp_mcp.egress import Egress

MAX_URL = 8192

_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[^\x00-\x08\x0a-\x1f\x7f]*")
"""A token of RFC 9110 and a colon. To curl `Name;` is a header too, one without a value."""

_FLAGS = frozenset(
    {"-s", "--silent", "-S", "--show-error", "-f", "--fail", "-i", "--include", "-I", "--head"}
)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

_FORCED = (
    "--disable",  # First, or a .curlrc counts.
    "--globoff",
    "--proto", "=https",
    "--noproxy", "*",
    "--max-redirs", "0",
    "--no-sessionid",
    "--tlsv1.2",
)  # fmt: skip


async def checked(
    app: str,
    arguments: Sequence[str],
    hosts: Sequence[str],
    seconds: float,
    output_bytes: int,
    egress: Egress,
) -> list[str]:
    """The arguments to run curl with for an app. Raises ArgumentRefused, EgressRefused, NameNotResolved."""
    taken: list[str] = []
    rest = list(arguments)
    url: str | None = None
    while rest:
        argument = rest.pop(0)
        if argument in _FLAGS:
            taken.append(argument)
        elif argument in ("-X", "--request"):
            method = _value(argument, rest)
            if method not in _METHODS:
                raise ArgumentRefused(f"curl: the method is one of {', '.join(sorted(_METHODS))}")
            taken += ("--request", method)
        elif argument in ("-H", "--header"):
            taken += ("--header", _header(_value(argument, rest)))
        elif argument in ("-d", "--data", "--data-raw"):
            # Raw: an @ at its beginning is no file then.
            taken += ("--data-raw", _value(argument, rest))
        elif argument == "--data-binary":
            if _value(argument, rest) != "@-":
                raise ArgumentRefused("curl: --data-binary takes @- only, the standard input; or use --data")
            taken += ("--data-binary", "@-")
        elif argument.startswith("-") or url is not None:
            raise ArgumentRefused(f"curl: {argument[:60]!r} is not available; it takes options and one URL")
        else:
            url = argument
    if url is None:
        raise ArgumentRefused("curl: the URL is missing")
    host, port = _host(url, hosts)
    address = (await egress.addresses(app, "https", host, port))[0]
    shown = f"[{address}]" if address.version == 6 else str(address)
    limits = ("--max-time", f"{seconds:g}", "--max-filesize", str(output_bytes))
    return [*_FORCED, *limits, "--resolve", f"{host}:{port}:{shown}", *taken, "--url", url]


def _value(option: str, rest: list[str]) -> str:
    if not rest:
        raise ArgumentRefused(f"curl: {option} needs a value")
    return rest.pop(0)


def _header(text: str) -> str:
    header = _HEADER.fullmatch(text)
    if header is None:
        raise ArgumentRefused("curl: a header is one line, Name: value, without blanks in or around its name")
    if header[1].lower() == "host":
        raise ArgumentRefused("curl: the header Host follows from the URL")
    return text


def _host(url: str, hosts: Sequence[str]) -> tuple[str, int]:
    """Host and port of the URL, as curl will read them. Raises ArgumentRefused."""
    if (
        len(url) > MAX_URL
        or not url.isascii()
        or not url.isprintable()
        or any(c in url for c in ' \\"<>^`{|}')
    ):
        raise ArgumentRefused("curl: the URL has characters that must be percent-encoded, or is too long")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or 443
    except ValueError:
        raise ArgumentRefused("curl: the URL cannot be read") from None
    if parts.scheme != "https" or not url.startswith("https://") or not host:
        raise ArgumentRefused("curl: the URL must begin with https://")
    if "@" in parts.netloc:
        raise ArgumentRefused("curl: the URL must hold no user")
    if host not in hosts:
        listed = ", ".join(hosts) or "none"
        raise ArgumentRefused(f"curl: the host {host[:60]!r} is not one of this app's for curl: {listed}")
    return host, port
