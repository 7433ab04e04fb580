"""`core.linux.executeCommand`: what `curl` gets, and that it goes to the checked address and nowhere else."""

import asyncio
import ssl
import subprocess
from pathlib import Path

import pytest

from support.certificates import certificate
from support.mcp_office import Office
from uhlp_mcp.commands import web
from uhlp_mcp.commands.arguments import ArgumentRefused
from uhlp_mcp.egress import Egress, EgressRefused

CURL = "/usr/bin/curl"
needs_curl = pytest.mark.skipif(not Path(CURL).exists(), reason=f"{CURL} is not installed")


async def curl(*arguments: str, private: bool = True) -> list[str]:
    return await web.checked("alpha", arguments, ["localhost"], 5, 1000, Egress(private_addresses=private))


async def test_curl_gets_one_url_and_the_address_that_was_checked() -> None:
    found = await curl("-s", "-H", "Accept: text/plain", "-d", "@/etc/passwd", "https://localhost:8443/a?b=c")
    assert found[0] == "--disable"
    assert found[found.index("--proto") + 1] == "=https"
    assert found[found.index("--resolve") + 1] in ("localhost:8443:127.0.0.1", "localhost:8443:[::1]")
    assert found[-6:] == ["--header", "Accept: text/plain", "--data-raw", "@/etc/passwd", "--url",
                          "https://localhost:8443/a?b=c"]  # fmt: skip


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


@needs_curl
async def test_no_header_exchanges_the_host_that_curl_sends(tmp_path: Path) -> None:
    certificate(tmp_path, "localhost")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(tmp_path / "certificate.pem", tmp_path / "key.pem")
    requests: list[list[str]] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append((await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n"))
        writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=tls)
    host = f"localhost:{server.sockets[0].getsockname()[1]}"
    passed = []
    async with server:
        for header in ("Host;evil.example:443", "Host :evil.example", "X: Host:y;z", "Accept:", "X: "):
            try:
                arguments = await curl("-s", "-H", header, f"https://{host}/")
            except ArgumentRefused:
                continue
            await run_curl(*arguments, "--cacert", str(tmp_path / "certificate.pem"))
            passed.append(header)
            assert [line for line in requests[-1] if line.lower().startswith("host")] == [f"Host: {host}"]
    assert passed == ["X: Host:y;z", "Accept:", "X: "]
    assert "X: Host:y;z" in requests[0]


async def run_curl(*arguments: str) -> None:
    process = await asyncio.create_subprocess_exec(CURL, *arguments, stdout=subprocess.DEVNULL)
    assert await process.wait() == 0


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
