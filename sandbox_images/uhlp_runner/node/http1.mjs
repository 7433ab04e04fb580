/**
 * As much of HTTP/1.1 as a lane speaks: `POST /execute` with a Content-Length, one response, keep-alive.
 *
 * Works on bytes only. The limits are those of the Python side (`http1.py`).
 */

/** Bytes of request line and headers; the peer is the platform's gateway, which sends a few hundred. */
const HEAD_LIMIT = 16_384;

/** Bytes of a request body, above what the gateway lets in (with base64 and JSON escapes around it). */
const BODY_LIMIT = 64 << 20;

const REASONS = {
  200: "OK",
  400: "Bad Request",
  404: "Not Found",
  411: "Length Required",
  413: "Content Too Large",
  431: "Request Header Fields Too Large",
  500: "Internal Server Error",
  503: "Service Unavailable",
};

/** What came is not a request that a lane takes. `status` is the HTTP status that says so. */
export class BadRequest extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/**
 * The first request in `data`, `{body, requestId, close, rest}`; null if it is not complete yet.
 *
 * Throws BadRequest. A second Content-Length, a sign or a space within one is refused: two readers could then
 * see two bodies.
 */
export function take(data) {
  const end = data.indexOf("\r\n\r\n");
  if (end < 0) {
    if (data.length > HEAD_LIMIT) throw new BadRequest(431, `the head is longer than ${HEAD_LIMIT} bytes`);
    return null;
  }
  const head = data.latin1Slice(0, end + 2);
  if (!head.startsWith("POST /execute HTTP/1.1\r\n")) {
    throw new BadRequest(404, "a lane takes POST /execute only");
  }
  const total = end + 4 + contentLength(head);
  if (data.length < total) return null;
  return {
    body: data.utf8Slice(end + 4, total),
    requestId: /\r\nx-request-id:[ \t]*([^\r]*?)[ \t]*\r\n/i.exec(head)?.[1] ?? null,
    close: /\r\nconnection: close\r\n/i.test(head),
    rest: data.subarray(total),
  };
}

function contentLength(head) {
  const found = [...head.matchAll(/\r\ncontent-length:[ \t]*([^\r]*?)[ \t]*(?=\r\n)/gi)];
  if (found.length === 0 || /\r\ntransfer-encoding:/i.test(head)) {
    throw new BadRequest(411, "send a Content-Length, and no Transfer-Encoding");
  }
  if (found.length > 1 || !/^[0-9]+$/.test(found[0][1])) {
    throw new BadRequest(400, "Content-Length is not one number");
  }
  const length = Number(found[0][1]);
  if (length > BODY_LIMIT) throw new BadRequest(413, `the body is larger than ${BODY_LIMIT} bytes`);
  return length;
}

/** A whole response. An id that does not print is not echoed. */
export function response(status, body, requestId, close) {
  const id = requestId !== null && /^[ -~]*$/.test(requestId) ? `\r\nX-Request-ID: ${requestId}` : "";
  const end = close ? "\r\nConnection: close\r\n\r\n" : "\r\n\r\n";
  const start = `HTTP/1.1 ${status} ${REASONS[status]}\r\nContent-Type: application/json\r\n`;
  return `${start}Content-Length: ${Buffer.byteLength(body)}${id}${end}${body}`;
}

/** The body of a response that is no result (specification 2.4). */
export function errorBody(status, details) {
  return JSON.stringify({ error: REASONS[status], details });
}
