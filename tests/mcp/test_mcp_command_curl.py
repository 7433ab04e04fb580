"""`core.linux.executeCommand`: what `curl` gets, and that it goes to the checked address and nowhere else."""

import asyncio
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from support.certificates import certificate
from support.mcp_office import Office
from uhlp_mcp.commands import web
from uhlp_mcp.commands.arguments import ArgumentRefused
from uhlp_mcp.egress import Egress, EgressRefused

CURL = "/usr/bin/curl"
needs_curl = pytest.mark.skipif(not Path(CURL).exists(), reason=f"{CURL} is not installed")


async def curl(*arguments: str, host: str = "localhost", private: bool = True) -> list[str]:
    return await web.checked("alpha", arguments, [host], 5, 1000, Egress(private_addresses=private))


async def test_curl_gets_the_options_that_are_listed_and_those_that_bound_it() -> None:
    flags = ["-s", "--silent", "-S", "--show-error", "-f", "--fail", "-i", "--include", "-I", "--head"]
    url = "https://localhost:8443/a?b=c"
    found = await curl(
        *flags, "-X", "PUT", "--request", "DELETE", "-H", "Accept: text/plain", "--header", "X: y",
        "-d", "@/etc/passwd", "--data", "a", "--data-raw", "@b", "--data-binary", "@-", url,
    )  # fmt: skip
    checked = found[found.index("--resolve") + 1]
    assert checked in ("localhost:8443:127.0.0.1", "localhost:8443:[::1]")
    assert found == [
        "--disable", "--globoff", "--proto", "=https", "--noproxy", "*", "--max-redirs", "0",
        "--no-sessionid", "--tlsv1.2", "--max-time", "5", "--max-filesize", "1000", "--resolve", checked,
        *flags, "--request", "PUT", "--request", "DELETE", "--header", "Accept: text/plain",
        "--header", "X: y", "--data-raw", "@/etc/passwd", "--data-raw", "a", "--data-raw", "@b",
        "--data-binary", "@-", "--url", url,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "arguments",
    [
        ["http://localhost/"],
        ["file:///etc/passwd"],
        ["HTTPS://localhost/"],
        ["https://evil.example/"],
        ["https://localhost.evil.example/"],
        ["https://user:pw@localhost/"],
        ["https://evil.example\\@localhost/"],
        ["https://localhost/", "https://localhost/"],
        ["-o", "/tmp/x", "https://localhost/"],
        ["-O", "https://localhost/x"],
        ["-K", "x", "https://localhost/"],
        ["--config", "x", "https://localhost/"],
        ["-T", "/etc/passwd", "https://localhost/"],
        ["-F", "a=@/etc/passwd", "https://localhost/"],
        ["--data-binary", "@/etc/passwd", "https://localhost/"],
        ["-H", "@/etc/passwd", "https://localhost/"],
        ["-H", "a: b\r\nc: d", "https://localhost/"],
        ["-H", "Host: evil.example", "https://localhost/"],
        ["-H", "hOST:", "https://localhost/"],
        ["-H", "Host;evil.example:443", "https://localhost/"],
        ["-H", "Host;", "https://localhost/"],
        ["-H", "X;y: z", "https://localhost/"],
        ["-H", "Host : evil.example", "https://localhost/"],
        ["-H", " Host: evil.example", "https://localhost/"],
        ["-H", "X Host: evil.example", "https://localhost/"],
        ["-H", "Host\t: evil.example", "https://localhost/"],
        ["-H", ":authority: evil.example", "https://localhost/"],
        ["-H", "X: y\nHost: evil.example", "https://localhost/"],
        ["-H", "X: y\n", "https://localhost/"],
        ["-H", "@-", "https://localhost/"],
        ["-H", "@/etc/passwd: x", "https://localhost/"],
        ["-H", "Größe: x", "https://localhost/"],
        ["-H", "", "https://localhost/"],
        ["-x", "http://evil.example", "https://localhost/"],
        ["-L", "https://localhost/"],
        ["-k", "https://localhost/"],
        ["-so/tmp/x", "https://localhost/"],
        ["--resolve", "localhost:443:1.2.3.4", "https://localhost/"],
        ["--unix-socket", "/run/x", "https://localhost/"],
        ["https://{localhost,evil.example}/"],
        ["-X", "GET /\r\nX: y", "https://localhost/"],
        ["-X", "get", "https://localhost/"],
        ["-X", "TRACE", "https://localhost/"],
        ["https://localhost/", "-X"],
        ["-s"],
        [],
    ],
)  # fmt: skip
async def test_curl_can_go_nowhere_else_and_touch_no_file(arguments: list[str]) -> None:
    with pytest.raises(ArgumentRefused, match=r"^curl: "):
        await curl(*arguments)


async def test_curl_cannot_reach_this_machine_unless_the_operator_says_so() -> None:
    with pytest.raises(EgressRefused, match="not on the public Internet"):
        await curl("https://localhost/", private=False)


class Site:
    """An https server of this machine, which sends everybody elsewhere."""

    def __init__(self, folder: Path) -> None:
        self.requests: list[list[str]] = []
        """Their lines, without the body."""
        self.port = 0
        self._folder = folder

    @asynccontextmanager
    async def open(self, host: str) -> AsyncIterator["Site"]:
        certificate(self._folder, host)
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(self._folder / "certificate.pem", self._folder / "key.pem")
        async with await asyncio.start_server(self._answer, "127.0.0.1", 0, ssl=tls) as server:
            self.port = server.sockets[0].getsockname()[1]
            yield self

    async def get(self, *arguments: str, **variables: str) -> int:
        """The exit code of curl."""
        trusting = ("--cacert", str(self._folder / "certificate.pem"))
        process = await asyncio.create_subprocess_exec(
            CURL, *arguments, *trusting, stdout=subprocess.DEVNULL, env=variables
        )
        return await process.wait()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.requests.append((await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n"))
        writer.write(
            b"HTTP/1.1 302 Found\r\nLocation: /else\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )
        writer.close()


@needs_curl
async def test_no_header_exchanges_the_host_that_curl_sends(tmp_path: Path) -> None:
    passed = []
    async with Site(tmp_path).open("localhost") as site:
        host = f"localhost:{site.port}"
        for header in ("Host;evil.example:443", "Host :evil.example", "X: Host:y;z", "Accept:", "X: "):
            try:
                arguments = await curl("-s", "-H", header, f"https://{host}/")
            except ArgumentRefused:
                continue
            assert await site.get(*arguments) == 0
            passed.append(header)
            sent = [line for line in site.requests[-1] if line.lower().startswith("host")]
            assert sent == [f"Host: {host}"]
    assert passed == ["X: Host:y;z", "Accept:", "X: "]
    assert "X: Host:y;z" in site.requests[0]


@needs_curl
async def test_curl_goes_to_the_checked_address_and_to_no_proxy_pattern_or_redirect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where its environment, its file of options or one more option would have it so."""
    (tmp_path / ".curlrc").write_text('header = "X-Of-File: 1"\nlocation\n')
    closed = "http://127.0.0.1:1"
    environment = {"HOME": str(tmp_path), "https_proxy": closed, "ALL_PROXY": closed}
    async with Site(tmp_path).open("site.invalid") as site:
        # A name that curl itself cannot look up.
        address = (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", site.port))
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_more: [address])
        arguments = await curl("-s", f"https://site.invalid:{site.port}/[1-2]", host="site.invalid")
        assert await site.get(*arguments, **environment) == 0
        assert await site.get(*arguments, "--location", **environment) == 47  # CURLE_TOO_MANY_REDIRECTS
    assert [request[0] for request in site.requests] == ["GET /[1-2] HTTP/1.1"] * 2
    assert not any(line.startswith("X-Of-File") for request in site.requests for line in request)


@needs_curl
async def test_curl_runs_with_the_network_and_nothing_else(office: Office) -> None:
    """The connection comes; that nobody speaks TLS at its end is what curl then says."""
    came = asyncio.Event()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.set()
        writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    await office.publish(
        "alpha",
        commands={"allowed": [{"path": CURL, "hosts": ["localhost"]}], "timeoutSeconds": 5},
    )
    done = await office.call(
        "a0", "core.linux.executeCommand", command=CURL, args=["-s", f"https://localhost:{port}/"]
    )
    assert done["exitCode"] == 35  # CURLE_SSL_CONNECT_ERROR
    assert came.is_set()
    server.close()
    await server.wait_closed()
