/** Parse and check the body of `POST /execute`, once, where it enters the worker (specification 2.4). */

const SOURCES = new Set(["http", "trigger", "callback", "queue", "cron", "internal"]);

/** Characters of a request id. It is echoed in a header, written in logs and kept in the slot. */
const REQUEST_ID_LIMIT = 128;

const REQUEST_ID = /^[ !#-[\]-~]+$/;
const JSON_TYPE = /^\s*(?:application\/json|[^;]*\+json)\s*(?:;|$)/i;

/** The body is not what specification 2.4 says: HTTP 400 with this text. */
export class Malformed extends Error {}

/** The request in `body`, with `requestData.httpDetails.json` filled in where the client sent JSON. */
export function parse(body, headerId) {
  let request;
  try {
    request = JSON.parse(body);
  } catch (error) {
    throw new Malformed(`the body is not JSON: ${error.message}`);
  }
  const { requestId, requestData: data, context } = Object(request);
  const { taskDetails: task, tree, timeoutMs } = Object(context);
  const isSound =
    SOURCES.has(data?.source) && [tree, task?.script, task?.function].every((text) => typeof text === "string");
  if (!isSound) {
    throw new Malformed("requestData needs a source; context needs tree, taskDetails.script and .function");
  }
  if (typeof requestId !== "string" || requestId.length > REQUEST_ID_LIMIT || !REQUEST_ID.test(requestId)) {
    const limit = `1 to ${REQUEST_ID_LIMIT} printable ASCII characters`;
    throw new Malformed(`requestId must have ${limit}, and no quotes or backslashes`);
  }
  if (headerId !== null && headerId !== requestId) throw new Malformed("X-Request-ID and requestId differ");
  if (timeoutMs != null && !(typeof timeoutMs === "number" && timeoutMs > 0)) {
    throw new Malformed("context.timeoutMs must be a number above 0, in milliseconds");
  }
  if (data.source === "internal" && Object(data.internalDetails).input === undefined) {
    throw new Malformed("requestData.internalDetails needs an input");
  }
  if (data.httpDetails != null) fillJson(data.httpDetails);
  return request;
}

/** Put the parsed body under `json` where its content type says JSON and it is. */
function fillJson(http) {
  if (typeof http !== "object" || Array.isArray(http)) {
    throw new Malformed("requestData.httpDetails must be an object");
  }
  if (!http.body || typeof http.body !== "string" || http.bodyEncoding === "base64") return;
  const name = Object.keys(Object(http.headers)).find((key) => key.toLowerCase() === "content-type");
  if (name === undefined || !JSON_TYPE.test(http.headers[name])) return;
  try {
    http.json = JSON.parse(http.body);
  } catch {
    // The handler sees the body as it came, and decides.
  }
}
