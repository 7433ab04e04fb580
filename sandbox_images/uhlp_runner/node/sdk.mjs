/**
 * What a handler may use of the platform: its errors, its tools, its state and its log.
 *
 *     import { AppError, callTool, invoke, log, state } from "uhlp-sdk";
 *
 * A sandbox has no network: `callTool` speaks with the platform's MCP server over the Unix socket that the
 * request's context names, and with nobody else.
 */

import { mcp, note } from "./session.mjs";

/** Longer than any request may take: the request's own timeout is what ends a call. */
const MCP_TIMEOUT_MS = 600_000;

/** For the server's door, which opens a moment after the instance, and again when the server was restarted. */
const MCP_START_MS = 3000;

/** What connecting fails with meanwhile. */
const NOT_OPEN = new Set(["ENOENT", "ECONNREFUSED", "EACCES", "EAGAIN"]);

/** Bytes of a tool's result. */
const RESPONSE_LIMIT = 64 << 20;

let agent;
let number = 0;

/** The application's own "no": the caller gets `code`, `message` and `details`, with HTTP `status`. */
export class AppError extends Error {
  constructor(code, message, details = null, status = 400) {
    super(message);
    this.name = "AppError";
    this.code = code;
    this.details = details;
    this.status = status;
  }
}

/** A tool call that failed. `code` is the platform's, e.g. `NOT_FOUND`, or `MCP_UNREACHABLE`. */
export class ToolError extends Error {
  constructor(code, message) {
    super(message);
    this.name = "ToolError";
    this.code = code;
  }
}

/** Call an MCP tool: its structured content, or its text where it has none. Rejects with ToolError. */
export async function callTool(name, args = {}) {
  const began = performance.now();
  try {
    return await exchange(name, args);
  } finally {
    note(name, performance.now() - began);
  }
}

/**
 * Run another component of this app with `input`, and resolve with its result.
 *
 * A result that is an HTTP response has `statusCode`, `headers` and `body`. Rejects with ToolError and the code of
 * what failed: the component's own, or the platform's, e.g. `COMPONENT_NOT_FOUND`.
 */
export async function invoke(component, input = null, timeoutMs) {
  return (await callTool("core.component.invoke", { componentId: component, input, timeoutMs })).data;
}

/** The app's runtime state, by key; every value is JSON. All methods reject with ToolError. */
export const state = Object.freeze({
  /** The value of `key`, or `fallback` where there is none. */
  async get(key, fallback = null) {
    const answer = await callTool("core.state.getRuntimeValue", { key });
    return answer.found ? answer.value : fallback;
  },
  /** Store a value, for `ttlSeconds` where given. */
  async set(key, value, { ttlSeconds } = {}) {
    await callTool("core.state.setRuntimeValue", { key, value, ttlSeconds });
  },
  /** Remove a key; false where there was none. */
  async delete(key) {
    return Boolean((await callTool("core.state.deleteRuntimeValue", { key })).success);
  },
  /** Add to a number, atomically, and return the sum. A key that is not there counts as 0. */
  async increment(key, amount = 1, { ttlSeconds } = {}) {
    return (await callTool("core.state.incrementRuntimeValue", { key, amount, ttlSeconds })).value;
  },
});

/** Writes lines into the app's log, with their level and the request's id. */
export const log = Object.freeze({
  debug: (message) => write("debug", message),
  info: (message) => write("info", message),
  warning: (message) => write("warning", message),
  error: (message) => write("error", message),
});

function write(level, message) {
  // The mark tells the runner that a level and one JSON string follow: a message may have many lines.
  process.stdout.write(`\x1e${level} ${JSON.stringify(String(message))}\n`);
}

async function exchange(name, args) {
  number += 1;
  const message = { jsonrpc: "2.0", id: number, method: "tools/call", params: { name, arguments: args } };
  const { status, body } = await post(JSON.stringify(message));
  let answer;
  try {
    answer = JSON.parse(body);
  } catch {
    throw new ToolError("MCP_BAD_ANSWER", `${name}: HTTP ${status} without JSON`);
  }
  if (answer.error !== undefined) {
    const { data, code, message: text } = Object(answer.error);
    throw new ToolError(String(data?.code ?? code ?? `HTTP_${status}`), `${name}: ${text ?? answer.error}`);
  }
  const { content = [], structuredContent, isError, _meta } = answer.result;
  const text = content.map((part) => part.text ?? "").join("");
  if (isError) {
    const code = String(_meta?.["uhlp/error"]?.code ?? "TOOL_FAILED");
    throw new ToolError(code, `${name}: ${text.startsWith(`${code}: `) ? text.slice(code.length + 2) : text}`);
  }
  return structuredContent ?? text;
}

async function post(message) {
  const session = mcp(); // Now: what a handler leaves unawaited may run on into the next request.
  // Loaded at the first call: most requests make none.
  const http = await import("node:http");
  agent ??= new http.Agent({ keepAlive: true, maxSockets: 8 });
  // Two whole turns of the loop: so the agent knows of every connection that was closed while it was idle.
  await new Promise(setImmediate);
  await new Promise(setImmediate);
  const until = performance.now() + (session.endpoint ? MCP_START_MS : 0);
  for (;;) {
    try {
      return await send(http, session, message);
    } catch (error) {
      // Anything else may have reached the server, and been done.
      if (!NOT_OPEN.has(error.code) || performance.now() >= until) {
        if (error instanceof ToolError) throw error;
        throw new ToolError("MCP_UNREACHABLE", `${session.endpoint || "no mcp_endpoint"}: ${error.message}`);
      }
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** One try. Rejects with ToolError, or with what the connection failed with. */
function send(http, { endpoint, token, requestId }, message) {
  const options = {
    agent,
    socketPath: endpoint.replace(/^unix:(\/\/)?/, ""),
    method: "POST",
    path: "/mcp",
    timeout: MCP_TIMEOUT_MS,
    headers: {
      "Content-Type": "application/json",
      Accept: "application/json, text/event-stream",
      "Content-Length": Buffer.byteLength(message),
      ...(requestId ? { "X-Request-ID": requestId } : {}),
      ...(token ? { Authorization: `Bearer ${token}` } : {}),
    },
  };
  return new Promise((resolve, reject) => {
    const request = http.request(options, (response) => collect(response, resolve, reject));
    request.on("error", reject);
    request.on("timeout", () => request.destroy(new Error("it did not answer")));
    request.end(message);
  });
}

function collect(response, resolve, reject) {
  const parts = [];
  let size = 0;
  response.on("data", (part) => {
    parts.push(part);
    size += part.length;
    if (size > RESPONSE_LIMIT) {
      reject(new ToolError("MCP_BAD_ANSWER", `an answer of more than ${RESPONSE_LIMIT} bytes`));
      response.destroy();
    }
  });
  response.on("end", () => resolve({ status: response.statusCode, body: Buffer.concat(parts).toString() }));
  response.on("error", reject);
}
