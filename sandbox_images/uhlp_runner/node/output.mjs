/**
 * `process.stdout` and `process.stderr` as blocking writers.
 *
 * Node's own would make the pipes non-blocking, for subprocesses too, and lose what they had queued when the
 * process ends. The main process reads the other ends and puts every line into the app's log.
 */

import fs from "node:fs";
import { Writable } from "node:stream";

/** Give the process its streams; `onWrite` is called whenever something is printed. */
export function install(onWrite = () => {}) {
  for (const [name, descriptor] of [["stdout", 1], ["stderr", 2]]) {
    const stream = new Writable({
      decodeStrings: true,
      write(chunk, encoding, done) {
        onWrite();
        writeAll(descriptor, chunk);
        done();
      },
    });
    Object.defineProperty(process, name, { configurable: true, enumerable: true, value: stream });
  }
}

/** Write all of a buffer to a blocking descriptor. */
export function writeAll(descriptor, buffer) {
  for (let done = 0; done < buffer.length; ) done += fs.writeSync(descriptor, buffer, done);
}
