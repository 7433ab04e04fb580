/**
 * The npm packages that the app asked for, found and loaded as Node does it everywhere.
 *
 * So export maps, CommonJS and packages that import others are Node's own business. Packages are the same for
 * every revision that an instance serves: each is loaded once and stays for the life of the process.
 */

import fs from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

/** A package's name, with or without a path in it: neither a path itself, nor a `#import`, nor an address. */
const BARE = /^(?:@[^/:]+\/)?[^./#:@][^:]*$/;

const NOT_INSTALLED = new Set(["ERR_MODULE_NOT_FOUND", "MODULE_NOT_FOUND"]);

const require = createRequire(import.meta.url);

/** Those in `folders`, each of them called `node_modules`. */
export class Packages {
  #places;

  constructor(folders) {
    this.#places = folders.map((folder) => {
      const real = fs.realpathSync(folder);
      // Only a name, of no file: Node looks for node_modules beside whoever asks.
      const neighbour = path.join(path.dirname(real), "handler.js");
      return { folder: real, url: pathToFileURL(neighbour).href, require: createRequire(neighbour) };
    });
  }

  /** Whether `specifier` can name a package at all. */
  static isBare(specifier) {
    return BARE.test(specifier);
  }

  /** What an ES module gets for `specifier`, its namespace; `absent` makes the error where there is none. */
  async import(specifier, absent) {
    const file = this.#find(absent, ({ url }) => fileURLToPath(import.meta.resolve(specifier, url)));
    return import(pathToFileURL(file).href);
  }

  /** What a CommonJS module gets for `specifier`; `absent` makes the error where there is none. */
  require(specifier, absent) {
    return require(this.#find(absent, (place) => place.require.resolve(specifier)));
  }

  #find(absent, resolve) {
    for (const place of this.#places) {
      let file;
      try {
        file = resolve(place);
      } catch (error) {
        if (NOT_INSTALLED.has(error.code)) continue;
        throw absent(error.message);
      }
      // Node looks in the folders above as well, and a path in a name may lead out.
      if (file.startsWith(`${place.folder}/`)) return file;
    }
    throw absent("no such package is installed; name it in state/package.json and its lock");
  }
}
