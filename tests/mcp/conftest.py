"""A running MCP daemon over a real Redis, with instances of two apps."""

import asyncio
import contextlib
import logging
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from support.leaks import traces, traces_in_log, traces_in_redis
from support.mcp_office import OPERATOR, Office
from support.private_redis import PrivateRedis
from support.waiting import eventually
from uhlp_core import store
from uhlp_core.settings import Settings
from uhlp_core.sockets import listen_tcp
from uhlp_core.store import UNAVAILABLE
from uhlp_mcp.server import serve


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loop that the daemons run on."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="mcp-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def office_settings() -> dict[str, Any]:
    """More settings of the daemon; a test module may have its own."""
    return {}


@pytest.fixture
async def office(
    folder: Path,
    office_settings: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> AsyncIterator[Office]:
    """Nothing that is secret may stand anywhere when it ends."""
    caplog.set_level(logging.DEBUG)
    server = PrivateRedis(folder)
    server.start()
    settings = Settings(
        home_dir=folder / "home",
        redis=f"unix://{server.path}",
        operator_token=OPERATOR,
        secrets_key_file=folder / "secrets.key",
        **{"private_addresses": True, **office_settings},
    )
    settings.home.create()
    listener = listen_tcp("127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/mcp"
    office = Office(settings, store.connect(settings), server, url)
    stop = asyncio.Event()
    await eventually(server.path.exists, "Redis listens")
    daemon = asyncio.create_task(serve(settings, stop, listener))
    try:
        await office.publish("alpha", configuration={"greeting": "hello"})
        await office.publish("beta", configuration={"greeting": "other"})
        await office.add("alpha", "a0")
        await office.add("beta", "b0")
        yield office
    finally:
        stop.set()
        await daemon
        secrets = office.secrets()
        leaked = traces([folder], secrets)
        leaked += traces_in_log(caplog.get_records("setup") + caplog.get_records("call"), secrets)
        with contextlib.suppress(*UNAVAILABLE):  # Some tests take it away.
            leaked += await traces_in_redis(office.redis, secrets)
        await office.redis.aclose()
        server.kill()
        assert leaked == [], "secrets were written down"
