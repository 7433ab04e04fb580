/**
 * Run one handler on one request, and turn whatever it does into the answer of specification 2.4.
 *
 * The same in every mode. It knows nothing of sockets and processes: whoever calls it sends the answer, and the
 * runner's main process ends this one if a handler does not stop by itself.
 */

import {
  Failure,
  HANDLER_EXCEPTION,
  PROCESS_LIMIT_EXCEEDED,
  RESULT_FORMAT_MISMATCH,
  failureBody,
  outOfMemory,
  timedOut,
  tooMuchOutput,
} from "./failure.mjs";
import { AppError } from "./sdk.mjs";
import { begin, calls } from "./session.mjs";
import { dumps } from "./strict.mjs";

/** Characters of an error's text that go into the answer; the log has the whole stack. */
const MESSAGE_LIMIT = 500;

const PLACE = /^ {4}at (?:.*\()?((?:file:\/\/)?\/.*\/state\/[^)\n]*):(\d+):\d+\)?$/m;

/** Runs handlers one at a time. */
export class Invoker {
  #loader;
  #settings;
  #fail = () => {};

  constructor(loader, settings) {
    this.#loader = loader;
    this.#settings = settings;
  }

  /** Fail the request that runs with an error that nobody caught; false if none runs. */
  interrupt(error) {
    return this.#fail(error) ?? false;
  }

  /** Run the handler that `request` names: `{status, body}` of the answer. Throws nothing. */
  async answer(request) {
    const { context, requestId } = request;
    context.requestId = requestId;
    begin(context);
    const began = performance.now();
    try {
      const { kind, data } = shape(await this.#call(request, began), context.expectedResultFormat);
      const encoded = dumps(data);
      if (Buffer.byteLength(encoded) > this.#settings.maxOutputBytes) {
        throw tooMuchOutput(this.#settings.maxOutputBytes);
      }
      const metrics = JSON.stringify({ execution_time_ms: performance.now() - began, mcp_calls: calls() });
      const body = `{"requestId":"${requestId}","resultType":"${kind}","data":${encoded},"metrics":${metrics}}`;
      return { status: 200, body };
    } catch (error) {
      const failed = error instanceof Failure ? error : explain(error);
      return { status: 500, body: failureBody(requestId, failed, performance.now() - began, calls()) };
    }
  }

  /** What the handler returned, or its AppError's body in a Refusal. Throws Failure only. */
  async #call({ requestData, context }, began) {
    const timeoutMs = context.timeoutMs || this.#settings.timeoutMs;
    const isLate = () => performance.now() - began >= timeoutMs;
    const { script, function: name } = context.taskDetails;
    const uncaught = new Promise((_, reject) => {
      this.#fail = (error) => {
        reject(error);
        return true;
      };
    });
    try {
      const known = this.#loader.known(context.tree, script, name);
      const handler = known ?? (await this.#loader.handler(context.tree, script, name));
      // Called by another component, not by a request: the handler gets what that one gave.
      const isInternal = requestData.source === "internal";
      let result = handler(isInternal ? requestData.internalDetails.input : requestData, context);
      if (typeof result?.then === "function") result = await Promise.race([result, uncaught]);
      if (isLate()) throw timedOut(timeoutMs);
      return result;
    } catch (error) {
      if (error instanceof Failure) throw error;
      if (error instanceof AppError && !isLate()) return new Refusal(error);
      report(error);
      throw isLate() ? timedOut(timeoutMs) : explain(error);
    } finally {
      this.#fail = () => {};
    }
  }
}

/** An application's own error (`AppError` of uhlp-sdk) on its way into an answer. */
class Refusal {
  constructor({ code, message, details, status }) {
    this.data = { code, message, details, statusCode: status };
  }
}

/**
 * `resultType` and `data` for what a handler returned.
 *
 * `expected` is the component's expectedResultFormat: `generic`, `httpResponse`, or nothing to go by the shape.
 * Throws Failure(RESULT_FORMAT_MISMATCH) for a response that is none.
 */
export function shape(result, expected) {
  if (result instanceof Refusal) return { kind: "error", data: result.data };
  const isResponse = isObject(result) && "statusCode" in result;
  if (expected === "generic" || (!isResponse && expected !== "httpResponse")) {
    return { kind: "generic", data: result };
  }
  if (!isResponse) {
    throw mismatch("expectedResultFormat is httpResponse, and the result is not an object with a statusCode");
  }
  return { kind: "httpResponse", data: response(result) };
}

function response(result) {
  const status = result.statusCode;
  if (!Number.isInteger(status) || status < 100 || status > 599) {
    throw mismatch(`statusCode ${String(status).slice(0, 60)} is not an integer from 100 to 599`);
  }
  let headers = result.headers ?? {};
  if (!isObject(headers) || !Object.values(headers).every(isHeader)) {
    throw mismatch("headers must be an object of text or arrays of text");
  }
  let body = result.body ?? "";
  let encoding = result.bodyEncoding ?? "utf8";
  if ("json" in result) {
    body = dumps(result.json);
    if (!Object.keys(headers).some((name) => name.toLowerCase() === "content-type")) {
      headers = { ...headers, "Content-Type": "application/json" };
    }
  } else if (body instanceof Uint8Array) {
    body = Buffer.from(body).toString("base64");
    encoding = "base64";
  } else if (typeof body !== "string") {
    throw mismatch(`body is ${typeof body}, not text or a Uint8Array; for JSON return it as 'json'`);
  }
  if (encoding !== "utf8" && encoding !== "base64") {
    throw mismatch(`bodyEncoding ${String(encoding).slice(0, 60)} is neither utf8 nor base64`);
  }
  return { statusCode: status, headers, body, bodyEncoding: encoding };
}

function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isHeader(value) {
  return typeof value === "string" || (Array.isArray(value) && value.every((item) => typeof item === "string"));
}

function mismatch(why) {
  return new Failure(RESULT_FORMAT_MISMATCH, why);
}

/** What a handler's error is called in the contract. */
function explain(error) {
  if (isForMemory(error)) return outOfMemory();
  if (error?.code === "EAGAIN" || error?.code === "ERR_WORKER_INIT_FAILED") {
    const why = "the handler hit its pool's maxProcesses; raise it or start fewer processes and threads";
    return new Failure(PROCESS_LIMIT_EXCEEDED, why);
  }
  return new Failure(HANDLER_EXCEPTION, describe(error));
}

function isForMemory(error) {
  if (error?.code === "ERR_MEMORY_ALLOCATION_FAILED" || error?.code === "ERR_WORKER_OUT_OF_MEMORY") return true;
  return error instanceof RangeError && error.message === "Array buffer allocation failed";
}

/** An error in one line: type, text, and the line of the application that threw it. */
export function describe(error) {
  const place = placeOf(error);
  const where = place ? ` (${place.file.slice(place.file.lastIndexOf("/") + 1)}:${place.line})` : "";
  try {
    const text = error instanceof Error ? `${error.name}: ${error.message}` : `thrown: ${String(error)}`;
    return text.slice(0, MESSAGE_LIMIT) + where;
  } catch {
    return `an error whose text cannot be shown${where}`;
  }
}

/** File and line of the innermost frame that is the application's own code; null if there is none. */
export function placeOf(error) {
  if (error?.place) return error.place;
  const found = typeof error?.stack === "string" ? PLACE.exec(error.stack) : null;
  return found ? { file: found[1], line: Number(found[2]) } : null;
}

/** Write the stack to the handler's standard error, from where it reaches the app's log. */
export function report(error) {
  try {
    process.stderr.write(`${error instanceof Error ? error.stack : `thrown: ${String(error)}`}\n`);
  } catch {
    // The handler closed or replaced it: its request still gets an answer, only the log is poorer.
  }
}
