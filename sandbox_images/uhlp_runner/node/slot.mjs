/**
 * The few bytes by which a worker tells the main process which request runs, and until when: `slot.py`'s, here
 * written to the file behind that memory.
 */

import fs from "node:fs";

const LABEL_LIMIT = 480;
const HEAD_BYTES = 18;
const IDLE_BYTES = 16;

/** Written by one worker. */
export class Slot {
  #descriptor;
  #buffer = Buffer.alloc(HEAD_BYTES + LABEL_LIMIT);
  #served;

  constructor(descriptor) {
    this.#descriptor = descriptor;
    fs.readSync(descriptor, this.#buffer, 0, IDLE_BYTES, 0);
    this.#served = this.#buffer.readBigUInt64LE(8);
  }

  /** This request runs now, for `timeoutMs` at most. */
  begin({ requestId, context }, timeoutMs) {
    const label = `${requestId}\0${context.componentId ?? null}\0${context.revision ?? null}`;
    // The main process reads the same clock.
    this.#buffer.writeDoubleLE(Number(process.hrtime.bigint()) / 1e9 + timeoutMs / 1000, 0);
    this.#buffer.writeBigUInt64LE(this.#served, 8);
    const length = this.#buffer.write(label, HEAD_BYTES, LABEL_LIMIT);
    this.#buffer.writeUInt16LE(length, 16);
    fs.writeSync(this.#descriptor, this.#buffer, 0, HEAD_BYTES + length, 0);
  }

  /** No request runs. Its label stays, for the output still in the pipes. */
  end() {
    this.#served += 1n;
    this.#buffer.writeDoubleLE(0, 0);
    this.#buffer.writeBigUInt64LE(this.#served, 8);
    fs.writeSync(this.#descriptor, this.#buffer, 0, IDLE_BYTES, 0);
  }
}
