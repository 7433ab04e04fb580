"""Which modules a handler in JavaScript can import, and how."""

import shutil

import pytest

from runner.sandbox import MODES, Sandbox
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

PACKAGES = {
    "modern/package.json": '{"type": "module", "exports": {".": "./main.js", "./cents": "./cents.cjs"}}',
    "modern/main.js": """
import fs from "node:fs";
import { unit } from "@units/old";
export const price = (count) => `${count} ${unit}`;
export function spoil() {
  try {
    fs.appendFileSync(new URL(import.meta.url), "");
  } catch ({ code }) {
    return code;
  }
}
""",
    "modern/cents.cjs": "exports.cents = (count) => `${count * 100} ${require('@units/old').cent}`;",
    "modern/hidden.js": "",
    "@units/old/package.json": '{"main": "lib"}',
    "@units/old/lib/index.js": "exports.unit = 'EUR';\nexports.cent = 'ct';\nexports.counted = 0;",
}
"""An ES module with an export map, which imports a CommonJS package."""

CUSTOMER = """
import units, { unit } from "@units/old";
import { price, spoil } from "modern";
import { cents } from "modern/cents";
import { asked } from "./customer.cjs";

export const ask = async (input) => {
  units.counted += 1;
  const { price: later } = await import("modern");
  return [price(3), cents(3), unit, asked(3), later === price, units.counted];
};
export const spoils = () => spoil();
"""

OLD_CUSTOMER = """
const { cents } = require("modern/cents");
const units = require("@units/old");
exports.asked = (count) => `${cents(count)} of ${units.unit}`;
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
        ('import "left-pad";', "no such package is installed; name it in state/package.json and its lock"),
        ('import "/etc/passwd";', "only relative paths, node:…, 'uhlp-sdk' and packages can be imported"),
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


@pytest.mark.parametrize("mode", MODES)
async def test_packages_are_imported_and_required_by_name(
    home: Home, backend: ProcessBackend, mode: str
) -> None:
    packages = home.environments / "0" / "node" / "node_modules"
    for name, text in PACKAGES.items():
        file = packages / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    sandbox = Sandbox(home, backend, "shop", mode, "javascript")
    for tree in ("t1", "t2"):
        sandbox.tree(tree, {"customer.mjs": CUSTOMER, "customer.cjs": OLD_CUSTOMER})
    await sandbox.start(concurrency=1, env_paths=(packages,))
    for tree, served in (("t1", 1), ("t2", 2)):
        assert await sandbox.prepare(tree, "customer.mjs", "ask", "spoils") == (200, {"ready": True})
        _, answer = await sandbox.execute("ask", tree, "customer.mjs")
        counted = served if mode == "server" else 1  # One process has a package once, for all revisions.
        assert answer["data"] == ["3 EUR", "300 ct", "EUR", "300 ct of EUR", True, counted], answer
    _, answer = await sandbox.execute("spoils", script="customer.mjs")
    assert answer["data"] in ("EACCES", "EROFS")
    for code, told in {
        'import "modern/hidden.js";': "'./hidden.js' is not defined by \"exports\"",
        'import "@units/old/../../../../trees/x.js";': "no such package is installed",
    }.items():
        sandbox.tree("t3", {"main.js": f"{code}\nexport const run = () => 1;\n"})
        status, answer = await sandbox.prepare("t3", "main.js", "run")
        assert (status, answer["details"][0]["line"]) == (422, 1)
        assert told in answer["details"][0]["message"]


async def test_a_script_that_failed_is_imported_again(sandbox: Sandbox) -> None:
    sandbox.tree("t3", {"main.js": 'import "./late.js";\nexport const run = () => "now";\n'})
    assert (await sandbox.execute("run", tree="t3"))[1]["error"] == "HANDLER_EXCEPTION"
    sandbox.tree("t3", {"late.js": ""})
    assert (await sandbox.execute("run", tree="t3"))[1]["data"] == "now"
