/**
 * Turn a handler's result into JSON, strictly: what JSON would drop or change in silence is refused, with the
 * path to it. What has a `toJSON` (a Date) is what that returns, and a property that is undefined is absent,
 * both as in the language's own JSON.
 */

import { Failure, RESULT_NOT_SERIALISABLE } from "./failure.mjs";

/** How deep a result may nest; the same for every language. */
const DEPTH_LIMIT = 200;

const LONE_SURROGATE = /\p{Surrogate}/u;

/** The JSON text of `value`; undefined is null. Throws Failure(RESULT_NOT_SERIALISABLE). */
export function dumps(value) {
  if (value === undefined) return "null";
  check(value, DEPTH_LIMIT, "result");
  return JSON.stringify(value);
}

function check(value, depth, path) {
  switch (typeof value) {
    case "boolean":
      return;
    case "string":
      if (LONE_SURROGATE.test(value)) throw refused(path, "text that is not Unicode (a lone surrogate)");
      return;
    case "number":
      if (!Number.isFinite(value)) throw refused(path, `${value} is not a JSON number`);
      return;
    case "object":
      if (value !== null) checkObject(value, depth, path);
      return;
    default:
      throw refused(path, `${typeof value} is not JSON; return objects, arrays, text, numbers, booleans or null`);
  }
}

function checkObject(value, depth, path) {
  if (depth === 0) throw refused(path.slice(0, 200), `nested deeper than ${DEPTH_LIMIT}, or it contains itself`);
  if (typeof value.toJSON === "function") {
    check(value.toJSON(), depth - 1, path);
  } else if (Array.isArray(value)) {
    for (let index = 0; index < value.length; index++) check(value[index], depth - 1, `${path}[${index}]`);
  } else {
    const prototype = Object.getPrototypeOf(value);
    if (prototype !== null && Object.getPrototypeOf(prototype) !== null) {
      throw refused(path, `${prototype.constructor?.name ?? "object"} is not JSON; return a plain object`);
    }
    for (const [key, item] of Object.entries(value)) {
      if (LONE_SURROGATE.test(key)) throw refused(path, "a key that is not Unicode (a lone surrogate)");
      if (item !== undefined) check(item, depth - 1, `${path}.${key}`);
    }
  }
}

function refused(path, why) {
  return new Failure(RESULT_NOT_SERIALISABLE, `${path}: ${why}`);
}
