/** The request that runs, as far as the SDK and the metrics need it. A process runs one at a time. */

const counts = new Map();
let context = {};

/** A request begins. */
export function begin(next) {
  context = next;
  counts.clear();
}

/** Where its MCP calls go, with which token, and for which request: the fields of its context. */
export function mcp() {
  return { endpoint: context.mcp_endpoint ?? "", token: context.mcp_token, requestId: context.requestId };
}

/** Note an MCP call of `duration` milliseconds. */
export function note(tool, duration) {
  const call = counts.get(tool) ?? { tool, count: 0, total_duration_ms: 0 };
  call.count += 1;
  call.total_duration_ms += duration;
  counts.set(tool, call);
}

/** The MCP calls of the request, for its metrics (specification 2.4). */
export function calls() {
  return [...counts.values()];
}
