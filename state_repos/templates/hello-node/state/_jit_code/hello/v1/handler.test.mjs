/** Tests of the greeting. Run them with `node --test`. */

import assert from "node:assert/strict";
import test from "node:test";

import { handle } from "./handler.mjs";

test("greets the world", () => {
  assert.deepEqual(handle({ httpDetails: {} }, {}), { message: "Hello, world!" });
});

test("greets the name in the path", () => {
  const request = { httpDetails: { pathParameters: { name: "Ada" } } };
  const context = { configuration: { greeting: "Good morning" } };
  assert.deepEqual(handle(request, context), { message: "Good morning, Ada!" });
});
