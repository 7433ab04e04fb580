"""JavaScript in containers: every mode serves, the pool's limits hold, and a hostile handler gets nowhere."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from runner.sandbox import MODES, Sandbox
from uhlp_core.home import Home
from uhlp_reconcilers.backends.docker_engine import Details

Start = Callable[..., Awaitable[Sandbox]]
Inspect = Callable[[Sandbox], Details]

pytestmark = pytest.mark.usefixtures("node_image")

CODE = """
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import net from "node:net";
import os from "node:os";

export const healthy = async () => ({ statusCode: 200, json: "well" });

export function hoards() {
  const held = [];
  for (;;) held.push(new Array(100_000).fill(1.5));
}

export function fills(input) {
  const held = new Uint8Array(input.bytes).fill(1);
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 3000);
  return held.length;
}

const attempt = (action) => {
  try {
    action();
  } catch (error) {
    return error.code;
  }
  return "done";
};

export async function attacks({ folder }) {
  const reach = (to) =>
    new Promise((resolve) => {
      const socket = net.connect(to, () => resolve("done"));
      socket.on("error", (error) => resolve(error.code));
    });
  return {
    interfaces: Object.values(os.networkInterfaces()).flat().filter((one) => !one.internal).length,
    internet: await reach({ host: "192.0.2.1", port: 80 }),
    engine: await reach({ path: "/var/run/docker.sock" }),
    root: attempt(() => fs.writeFileSync("/x", "")),
    runner: attempt(() => fs.writeFileSync("/opt/uhlp/uhlp_runner/node/worker.mjs", "")),
    tree: attempt(() => fs.writeFileSync(new URL("main.js", import.meta.url), "")),
    disk: attempt(() => fs.writeFileSync(`${folder}/new`, "")),
    log: attempt(() => fs.appendFileSync("/uhlp/app.log", "forged")),
    user: attempt(() => process.setuid(0)),
    parent: attempt(() => process.kill(process.ppid, "SIGKILL")),
    program: attempt(() => {
      fs.writeFileSync("/tmp/x", "#!/bin/sh\\n", { mode: 0o755 });
      execFileSync("/tmp/x");
    }),
  };
}
"""

REFUSED = {"EACCES", "EPERM", "EROFS", "ENETUNREACH", "ENOENT"}


CUSTOMER = """
import fs from "node:fs";
import { VERSION, file } from "tiny";

export function ask() {
  try {
    fs.appendFileSync(file, "");
  } catch ({ code }) {
    return { VERSION, code };
  }
}
"""


@pytest.mark.parametrize("mode", MODES)
async def test_packages_are_imported_and_cannot_be_changed(start: Start, home: Home, mode: str) -> None:
    packages = home.environments / "0" / "node" / "node_modules"
    (packages / "tiny").mkdir(parents=True)
    (packages / "tiny" / "index.js").write_text("exports.VERSION = '1';\nexports.file = __filename;\n")
    sandbox = await start(CUSTOMER, mode=mode, language="javascript", env_paths=(packages,))
    assert await sandbox.prepare("t1", "main.js", "ask") == (200, {"ready": True})
    _, answer = await sandbox.execute("ask")
    assert answer["data"]["VERSION"] == "1"
    assert answer["data"]["code"] in REFUSED


@pytest.mark.parametrize("mode", MODES)
async def test_every_mode_serves(start: Start, mode: str) -> None:
    sandbox = await start(CODE, mode=mode, language="javascript")
    assert await sandbox.prepare("t1", "main.js", "healthy") == (200, {"ready": True})
    for _ in range(3):
        status, answer = await sandbox.execute("healthy")
        assert (status, answer["data"]["body"]) == (200, '"well"')


async def test_memory_is_bounded_by_the_handlers_own_limit(start: Start, container_of: Inspect) -> None:
    sandbox = await start(CODE, language="javascript", memory_limit="64M")
    assert container_of(sandbox)["HostConfig"]["Memory"] == (64 + 256) << 20
    status, answer = await sandbox.execute("hoards", timeoutMs=20_000)
    assert (status, answer["error"]) == (500, "OUT_OF_MEMORY"), answer
    assert (await sandbox.execute("healthy"))[0] == 200


async def test_requests_that_fill_the_container_together_are_told(start: Start) -> None:
    sandbox = await start(CODE, language="javascript", memory_limit="256M", concurrency=4)
    data = {"bytes": 240 << 20}
    answers = await asyncio.gather(*(sandbox.execute("fills", data=data, timeoutMs=20_000) for _ in range(4)))
    failed = [answer["error"] for status, answer in answers if status != 200]
    assert failed
    assert set(failed) == {"OUT_OF_MEMORY"}
    assert (await sandbox.execute("healthy"))[0] == 200


async def test_no_way_out(start: Start) -> None:
    sandbox = await start(CODE, language="javascript", mode="server")
    status, answer = await sandbox.execute("attacks", data={"folder": str(sandbox.instance.dir)})
    assert status == 200, answer
    found = answer["data"]
    assert found.pop("interfaces") == 0
    assert {name: code for name, code in found.items() if code not in REFUSED} == {}
