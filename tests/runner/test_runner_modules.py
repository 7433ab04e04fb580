"""Which modules a handler in JavaScript can import, and how."""

import shutil

import pytest

from runner.sandbox import Sandbox
from uhlp_core.home import Home
from uhlp_reconcilers.backends.process import ProcessBackend

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="there is no Node.js on this machine")

COMMON = """
const path = require("node:path");
const { AppError } = require("uhlp-sdk");
const { unit } = require("./unit.cjs");

exports.price = (input) => {
  if (input.count === 0) throw new AppError("NOTHING", "nothing to sell");
  return `${input.count * 2} ${unit} in ${path.basename(__filename)}`;
};
exports.later = async () => (await import("./modern.mjs")).price({ count: 4 });
"""

MODERN = """
import common, { price as named } from "./common.cjs";
export const price = (input) => [common.price(input), named(input)];
"""


@pytest.fixture
async def sandbox(home: Home, backend: ProcessBackend) -> Sandbox:
    sandbox = Sandbox(home, backend, "shop", "server", "javascript")
    files = {"common.cjs": COMMON, "unit.cjs": 'module.exports = { unit: "EUR" };\n', "modern.mjs": MODERN}
    sandbox.tree("t1", files)
    await sandbox.start(concurrency=1)
    return sandbox


async def test_common_js_and_modules_import_each_other(sandbox: Sandbox) -> None:
    assert await sandbox.prepare("t1", "common.cjs", "price", "later") == (200, {"ready": True})
    price = "6 EUR in common.cjs"
    _, answer = await sandbox.execute("price", script="common.cjs", data={"count": 3})
    assert answer["data"] == price
    _, answer = await sandbox.execute("price", script="common.cjs", data={"count": 0})
    assert (answer["resultType"], answer["data"]["code"]) == ("error", "NOTHING")
    _, answer = await sandbox.execute("price", script="modern.mjs", data={"count": 3})
    assert answer["data"] == [price, price]
    _, answer = await sandbox.execute("later", script="common.cjs")
    assert answer["data"] == ["8 EUR in common.cjs"] * 2


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ('import "left-pad";', "only relative paths, node:… and 'uhlp-sdk' can be imported"),
        ('import "../../t1/state/modern.mjs";', "it leads out of the revision's state folder"),
        ('import "./modern";', "its name must end in .js, .mjs, .cjs"),
        ('import { missing } from "uhlp-sdk";', "does not provide an export named 'missing'"),
    ],
)
async def test_what_cannot_be_imported(sandbox: Sandbox, code: str, told: str) -> None:
    sandbox.tree("t2", {"main.js": f"{code}\nexport const run = () => 1;\n"})
    status, answer = await sandbox.prepare("t2", "main.js", "run")
    assert status == 422
    assert told in answer["details"][0]["message"]


async def test_a_script_that_failed_is_imported_again(sandbox: Sandbox) -> None:
    sandbox.tree("t3", {"main.js": 'import "./late.js";\nexport const run = () => "now";\n'})
    assert (await sandbox.execute("run", tree="t3"))[1]["error"] == "HANDLER_EXCEPTION"
    sandbox.tree("t3", {"late.js": ""})
    assert (await sandbox.execute("run", tree="t3"))[1]["data"] == "now"
