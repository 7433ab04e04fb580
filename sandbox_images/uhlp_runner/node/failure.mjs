/**
 * The ways in which a request can fail, and the bodies that say so (specification 2.4).
 *
 * The codes and texts are those of the Python side (`failure.py`): a caller cannot tell the languages apart.
 */

export const HANDLER_EXCEPTION = "HANDLER_EXCEPTION";
export const HANDLER_TIMEOUT = "HANDLER_TIMEOUT";
export const HANDLER_NOT_FOUND = "HANDLER_NOT_FOUND";
export const OUT_OF_MEMORY = "OUT_OF_MEMORY";
export const PROCESS_LIMIT_EXCEEDED = "PROCESS_LIMIT_EXCEEDED";
export const OUTPUT_LIMIT_EXCEEDED = "OUTPUT_LIMIT_EXCEEDED";
export const RESULT_NOT_SERIALISABLE = "RESULT_NOT_SERIALISABLE";
export const RESULT_FORMAT_MISMATCH = "RESULT_FORMAT_MISMATCH";

/** A request that failed for a reason the caller is told: HTTP 500 with this code and message. */
export class Failure extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

/** The handler used up the time its request gave it, in milliseconds. */
export function timedOut(timeoutMs) {
  const why = `the handler ran past its timeout of ${timeoutMs} ms; raise timeoutMs or do less per request`;
  return new Failure(HANDLER_TIMEOUT, why);
}

/** The handler asked for more memory than its pool allows. */
export function outOfMemory() {
  return new Failure(OUT_OF_MEMORY, "the handler hit its pool's memoryLimit; raise it or hold less at once");
}

/** The handler returned more than is kept. `limit` is in bytes. */
export function tooMuchOutput(limit) {
  return new Failure(OUTPUT_LIMIT_EXCEEDED, `the handler printed or returned more than ${limit} bytes`);
}

/** The body of a request that failed, HTTP 500: its typed error where a caller of either kind looks. */
export function failureBody(requestId, failed, milliseconds, calls) {
  return JSON.stringify({
    requestId,
    resultType: "error",
    data: { code: failed.code, message: failed.message, details: null },
    error: failed.code,
    details: failed.message,
    metrics: { execution_time_ms: milliseconds, mcp_calls: calls },
  });
}
