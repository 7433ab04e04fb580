/**
 * Serve a single request in a process of its own.
 *
 * Started with the runner's settings as its argument and one Unix socket, its channel. Over it come two frames
 * (4 bytes of length, then JSON), each answered by a status (2 bytes), a length (4) and JSON: first the handlers
 * to import, answered by what is wrong with them, then the request. In between the process waits, with nothing
 * running.
 */

import { execFileSync } from "node:child_process";
import fs from "node:fs";

import { Failure } from "./failure.mjs";
import { Invoker, describe, placeOf, report } from "./invoking.mjs";
import { Loader } from "./loading.mjs";
import { install, writeAll } from "./output.mjs";

const CHANNEL = 3;

const settings = JSON.parse(process.argv[2]);
const loader = new Loader(settings.trees, settings.environment);
const invoker = new Invoker(loader, settings);

install();
process.on("uncaughtException", (error) => {
  if (!invoker.interrupt(error)) report(error);
});
// A handler may wait for what never comes: until its timeout, and not until nothing is left to wait for.
setInterval(() => {}, 2 ** 30);

const { tree, components } = receive();
send(200, JSON.stringify(await problemsOf(tree, components)));
const answer = await invoker.answer(receive());
send(answer.status, answer.body);
// Not exit(): what the handler left behind, and its exit listeners, are not waited for.
process.reallyExit(0);

/** Import every handler of a revision; what is wrong with each, as `POST /prepare` answers it. */
async function problemsOf(tree, components) {
  const problems = [];
  for (const { componentId, script, function: name } of components) {
    try {
      await loader.handler(tree, script, name);
    } catch (error) {
      const isKnown = error instanceof Failure;
      if (!isKnown) report(error);
      const line = placeOf(error)?.line ?? (error instanceof SyntaxError ? lineOfSyntaxError(tree, script) : null);
      problems.push({ componentId, script, line, message: isKnown ? error.message : describe(error) });
    }
  }
  return problems;
}

/** Where Node itself, reading the script as a program, finds the mistake: a module's error does not tell. */
function lineOfSyntaxError(tree, script) {
  const input = fs.readFileSync(`${settings.trees}/${tree}/state/${script}`);
  const kind = script.endsWith(".cjs") ? "commonjs" : "module";
  try {
    execFileSync(process.execPath, ["--check", `--input-type=${kind}`, "-"], { input, stdio: "pipe" });
  } catch (error) {
    const found = /^\[stdin\]:(\d+)/.exec(String(error.stderr));
    return found && Number(found[1]);
  }
  return null;
}

function receive() {
  return JSON.parse(readExactly(readExactly(4).readUInt32LE()));
}

function readExactly(size) {
  const buffer = Buffer.allocUnsafe(size);
  for (let done = 0; done < size; ) {
    const count = fs.readSync(CHANNEL, buffer, done, size - done);
    if (count === 0) process.reallyExit(0); // The runner is gone, and with it whoever wanted the answer.
    done += count;
  }
  return buffer;
}

function send(status, text) {
  const body = Buffer.from(text);
  const head = Buffer.alloc(6);
  head.writeUInt16LE(status, 0);
  head.writeUInt32LE(body.length, 2);
  writeAll(CHANNEL, Buffer.concat([head, body]));
}
