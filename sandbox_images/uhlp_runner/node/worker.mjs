/**
 * Server mode: a persistent worker with a lane of its own, one request at a time.
 *
 * Started with the runner's settings as its argument; `worker.py` names its descriptors. A handler that does not
 * end in time, or whose client has gone, ends with this process: the main process kills it and starts another.
 */

import diagnostics from "node:diagnostics_channel";
import net from "node:net";

import { BadRequest, errorBody, response, take } from "./http1.mjs";
import { Invoker, describe, report } from "./invoking.mjs";
import { Loader } from "./loading.mjs";
import { install } from "./output.mjs";
import { parse } from "./request.mjs";
import { Slot } from "./slot.mjs";

const CONTROL = 3;
const LISTENER = 4;
const SLOT = 7;
const BACKLOG = 1024;

/** How long a draining worker says so to requests that were already on their way. */
const DRAIN_MS = 200;

/** What the main process is asked to do: log what is in the pipes, then say `go on`. */
const COLLECT = "?\n";

class Worker {
  #settings;
  #loader;
  #invoker;
  #slot = new Slot(SLOT);
  #control = new net.Socket({ fd: CONTROL });
  #server = net.createServer((socket) => this.#converse(socket));
  #turn = Promise.resolve();
  #goOn = () => {};
  /** Whether something may have been printed that is not logged yet. */
  hasPrinted = false;
  #started = new Set();
  #draining = false;

  constructor(settings) {
    this.#settings = settings;
    this.#loader = new Loader(settings.trees, settings.environment);
    this.#invoker = new Invoker(this.#loader, settings);
  }

  run() {
    let orders = "";
    this.#control.setEncoding("utf8");
    this.#control.on("data", (text) => {
      const lines = (orders + text).split("\n");
      orders = lines.pop();
      for (const line of lines) this.#obey(JSON.parse(line));
    });
    this.#control.on("close", () => process.reallyExit(0));
    process.on("uncaughtException", (error) => this.#fall(error));
    diagnostics.subscribe("child_process", ({ process: child }) => this.#started.add(() => child.kill("SIGKILL")));
    diagnostics.subscribe("worker_threads", ({ worker }) => this.#started.add(() => worker.terminate()));
    this.#server.listen({ fd: LISTENER, backlog: BACKLOG });
  }

  /** An error that nobody caught: whose it was cannot be told for sure, so a fresh worker takes over. */
  #fall(error) {
    if (this.#invoker.interrupt(error)) {
      this.#drain();
      return;
    }
    report(error);
    process.reallyExit(1);
  }

  #converse(socket) {
    let data = Buffer.alloc(0);
    socket.on("error", () => socket.destroy());
    socket.on("data", (part) => {
      data = data.length ? Buffer.concat([data, part]) : part;
      try {
        for (let request = take(data); request !== null; request = take(data)) {
          data = request.rest;
          const mine = request;
          this.#turn = this.#turn.then(() => this.#serve(socket, mine));
        }
      } catch (error) {
        if (!(error instanceof BadRequest)) throw error;
        data = Buffer.alloc(0);
        socket.end(response(error.status, errorBody(error.status, error.message), null, true));
      }
    });
  }

  async #serve(socket, { body, requestId, close }) {
    const { status, answer, id } = await this.#answer(body, requestId);
    const isLast = close || this.#draining;
    const message = response(status, answer, id, isLast);
    if (isLast) socket.end(message);
    else socket.write(message);
  }

  async #answer(body, headerId) {
    let request;
    try {
      request = parse(body, headerId);
    } catch (error) {
      return { status: 400, answer: errorBody(400, error.message), id: headerId };
    }
    const id = request.requestId;
    if (this.#draining) return { status: 503, answer: errorBody(503, "this instance is draining"), id };
    if (this.hasPrinted || this.#loader.printsFreely) await this.#collected();
    this.#slot.begin(request, request.context.timeoutMs || this.#settings.timeoutMs);
    const { status, body: answer } = await this.#invoker.answer(request);
    for (const end of this.#started) end();
    this.#started.clear();
    this.#slot.end();
    return { status, answer, id };
  }

  /** Let the main process log what the last request printed before another request begins. */
  #collected() {
    this.hasPrinted = false;
    return new Promise((resolve) => {
      this.#goOn = resolve;
      this.#control.write(COLLECT);
    });
  }

  /** Do what the main process says: load a revision, forget one, drain, or go on after a collection. */
  #obey(order) {
    if (order.do === "go on") this.#goOn();
    else if (order.do === "forget") this.#loader.forget(order.tree);
    else if (order.do === "drain") this.#drain();
    else this.#turn = this.#turn.then(() => this.#load(order));
  }

  async #load({ tree, components }) {
    let why = "";
    try {
      for (const { script, function: name } of components) await this.#loader.handler(tree, script, name);
    } catch (error) {
      report(error);
      why = describe(error).replace(/\s+/g, " ");
    }
    this.#control.write(`${tree} ${why}\n`);
  }

  /** Take no new connection; finish what runs, say so to what is on its way, and end. */
  #drain() {
    this.#draining = true;
    this.#server.close();
    this.#turn.then(() => setTimeout(() => process.reallyExit(0), DRAIN_MS));
  }
}

const worker = new Worker(JSON.parse(process.argv[2]));
install(() => {
  worker.hasPrinted = true;
});
worker.run();
