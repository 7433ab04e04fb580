"""Where an app may make the platform connect to: attacks on the address of a provider."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path

import httpx2
import pytest

from support.certificates import certificate
from support.fake_llm import FakeLlm
from uhlp_mcp import outbound
from uhlp_mcp.egress import Egress, IpAddress
from uhlp_mcp.llm.wire import Wire
from uhlp_mcp.outbound import AddressRefused


class Names(Egress):
    """Names that lead where a hostile name server says."""

    def __init__(self, known: dict[str, str], *, private: bool) -> None:
        super().__init__(private_addresses=private)
        self._told = known

    async def resolve(self, app: str, host: str, port: int) -> list[IpAddress]:
        if host in self._told:
            return [ip_address(self._told[host])]
        return await super().resolve(app, host, port)


async def ask(url: str, *, private: bool, **known: str) -> int:
    wire = Wire(Names(known, private=private))
    try:
        async with wire.client("alpha", {"authorization": "Bearer k"}) as client:
            return (await client.post(url, content=b"{}")).status_code
    finally:
        await wire.close()


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "10.0.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "[::1]",
        "[fe80::1]",
        "[fd00::1]",
        "[::ffff:127.0.0.1]",
        "[2002:7f00:1::]",
        "[64:ff9b::7f00:1]",
        "[64:ff9b:1::1]",
        "[::127.0.0.1]",
        "[fec0::1]",
        "127.1",
        "2130706433",
    ],
)
@pytest.mark.parametrize("scheme", ["https", "http"])
async def test_no_private_address_unless_the_operator_says_so(host: str, scheme: str) -> None:
    with pytest.raises(AddressRefused, match=r"not on the public Internet.*private_addresses"):
        await ask(f"{scheme}://{host}:9/v1", private=False)


async def test_a_name_that_leads_to_a_private_address_is_refused() -> None:
    known = {"innocent.example": "169.254.169.254"}
    with pytest.raises(AddressRefused, match=r"innocent\.example leads to 169\.254\.169\.254"):
        await ask("https://innocent.example/", private=False, **known)


@pytest.mark.parametrize("private", [False, True])
async def test_nothing_goes_to_the_public_internet_in_the_clear(private: bool) -> None:
    known = {"api.example": "93.184.216.34"}
    with pytest.raises(AddressRefused, match="must be https"):
        await ask("http://api.example/", private=private, **known)


async def test_the_connection_goes_to_the_address_that_was_checked(fake: FakeLlm) -> None:
    known = {"model.internal": "127.0.0.1"}
    # The name does not exist: only by the address that was looked at can this arrive.
    port = httpx2.URL(fake.url).port
    url = f"http://model.internal:{port}/v1/chat/completions"
    assert await ask(url, private=True, **known) == 200
    assert fake.seen[0].headers["host"] == f"model.internal:{port}"


async def test_a_name_that_leads_nowhere_is_unreachable() -> None:
    with pytest.raises(httpx2.ConnectError, match=r"nowhere\.invalid cannot be resolved"):
        await ask("https://nowhere.invalid/", private=False)


@asynccontextmanager
async def https(files: Path) -> AsyncIterator[int]:
    """The port of a server that has a certificate, and answers everything with 204."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files / "certificate.pem", files / "key.pem")

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context) as server:
        yield server.sockets[0].getsockname()[1]


async def test_a_provider_must_have_a_certificate_for_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate(tmp_path, "model.internal")
    known = {"model.internal": "127.0.0.1", "other.internal": "127.0.0.1"}
    async with https(tmp_path) as port:
        with pytest.raises(httpx2.ConnectError, match="self-signed certificate"):
            await ask(f"https://model.internal:{port}/", private=True, **known)
        trusting = ssl.create_default_context(cafile=str(tmp_path / "certificate.pem"))
        monkeypatch.setattr(outbound, "tls", lambda: trusting)
        assert await ask(f"https://model.internal:{port}/", private=True, **known) == 204
        with pytest.raises(httpx2.ConnectError, match="Hostname mismatch"):
            await ask(f"https://other.internal:{port}/", private=True, **known)
