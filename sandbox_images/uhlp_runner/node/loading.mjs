/**
 * Find and import the handlers of a revision, and keep revisions apart.
 *
 * Every tree has modules of its own, which are gone for good when the tree is forgotten: hence
 * `vm.SourceTextModule`, since what `import()` loads stays for the life of the process. A module sees the
 * files of its own tree's `state/` by relative path, Node's built-in modules, `uhlp-sdk`, and npm packages.
 */

import fs from "node:fs";
import { builtinModules, createRequire } from "node:module";
import path from "node:path";
import { pathToFileURL } from "node:url";
import vm from "node:vm";

import { Failure, HANDLER_NOT_FOUND } from "./failure.mjs";
import { Packages } from "./packages.mjs";
import * as sdk from "./sdk.mjs";

const SDK = "uhlp-sdk";
const TREE = /^[0-9a-z_-]+$/;
const COMMON_JS = ".cjs";
const MODULES = [".js", ".mjs", COMMON_JS];

/** Built-in modules with which a handler can print past `process.stdout`: itself, or by what it starts. */
const PRINTING = new Set(["fs", "fs/promises", "child_process", "cluster", "worker_threads", "module"]);

const builtins = new Set(builtinModules);
const require = createRequire(import.meta.url);

/** A module that another names and that is not there. */
export class ImportError extends Error {
  constructor(message, file, line) {
    super(message);
    this.name = "ImportError";
    this.place = line ? { file, line } : null;
  }
}

/** Imports scripts of the trees below `trees`, an absolute path; `environment` are the folders of packages. */
export class Loader {
  #trees;
  #packages;
  #known = new Map();
  #handlers = new Map();
  /** Whether something was imported that can print past `process.stdout`. */
  printsFreely = false;

  constructor(trees, environment) {
    this.#trees = trees;
    this.#packages = new Packages(environment);
  }

  /** A handler that was found before; else undefined. */
  known(tree, script, name) {
    return this.#handlers.get(tree)?.get(`${script}\0${name}`);
  }

  /**
   * The function `name` that `script` of `tree` exports, imported if need be.
   *
   * Throws Failure(HANDLER_NOT_FOUND) where there is no such script or function, and whatever the script
   * throws while it is imported.
   */
  async handler(tree, script, name) {
    const known = this.known(tree, script, name);
    if (known !== undefined) return known;
    const file = this.#file(tree, script);
    const module = this.#source(tree, file, () => missing(script, tree));
    const { namespace } = await this.#evaluated(tree, module);
    const found = namespace[name] ?? namespace.default?.[name];
    if (typeof found !== "function") {
      throw new Failure(HANDLER_NOT_FOUND, `${script}: exports no function '${name}'; check taskDetails.function`);
    }
    this.#handlersOf(tree).set(`${script}\0${name}`, found);
    return found;
  }

  /** Drop what was imported from `tree`. */
  forget(tree) {
    this.#known.delete(tree);
    this.#handlers.delete(tree);
  }

  #handlersOf(tree) {
    if (!this.#handlers.has(tree)) this.#handlers.set(tree, new Map());
    return this.#handlers.get(tree);
  }

  #modulesOf(tree) {
    if (!this.#known.has(tree)) this.#known.set(tree, new Map());
    return this.#known.get(tree);
  }

  #file(tree, script) {
    if (!TREE.test(tree)) throw new Failure(HANDLER_NOT_FOUND, `'${tree.slice(0, 80)}' is not the id of a tree`);
    if (script.includes("\0") || script.split("/").some((part) => ["", ".", ".."].includes(part))) {
      const why = `'${script.slice(0, 200)}' leads out of the revision's state folder`;
      throw new Failure(HANDLER_NOT_FOUND, why);
    }
    return `${this.#root(tree)}${script}`;
  }

  #root(tree) {
    return `${this.#trees}/${tree}/state/`;
  }

  async #evaluated(tree, module) {
    try {
      if (module.status === "unlinked") {
        await module.link((specifier, referrer) => this.#resolve(tree, specifier, referrer.identifier));
      }
      await module.evaluate();
    } catch (error) {
      // What failed would fail for ever, also for whoever imports it next and for another reason.
      const modules = this.#modulesOf(tree);
      for (const [file, known] of modules) if (known.status !== "evaluated") modules.delete(file);
      throw error;
    }
    return module;
  }

  async #resolve(tree, specifier, from) {
    const name = specifier.replace(/^node:/, "");
    if (specifier === SDK) return this.#synthetic(tree, SDK, sdk);
    if (builtins.has(name)) {
      this.printsFreely ||= PRINTING.has(name);
      return this.#synthetic(tree, `node:${name}`, await import(`node:${name}`));
    }
    const absent = (why) => new ImportError(`cannot import '${specifier}': ${why}`, from, lineOf(from, specifier));
    if (Packages.isBare(specifier)) {
      this.printsFreely = true; // What a package imports is not looked at.
      return this.#synthetic(tree, specifier, await this.#packages.import(specifier, absent));
    }
    return this.#source(tree, this.#relative(tree, specifier, from, absent), absent);
  }

  #relative(tree, specifier, from, absent) {
    if (!/^\.\.?\//.test(specifier)) {
      throw absent(`only relative paths, node:…, '${SDK}' and packages can be imported`);
    }
    const file = path.resolve(path.dirname(from), specifier);
    if (!file.startsWith(this.#root(tree))) throw absent("it leads out of the revision's state folder");
    return file;
  }

  /** The module in a file, not yet linked if it is new; `absent` makes the error where there is none. */
  #source(tree, file, absent) {
    const modules = this.#modulesOf(tree);
    let module = modules.get(file);
    if (module !== undefined) return module;
    const extension = path.extname(file);
    if (!MODULES.includes(extension)) throw absent(`its name must end in ${MODULES.join(", ")}`);
    const source = read(file, absent);
    if (extension === COMMON_JS) {
      module = this.#synthetic(tree, file, namespaceOf(this.#commonJs(tree, file, source, new Map())));
    } else {
      module = new vm.SourceTextModule(source, {
        identifier: file,
        initializeImportMeta: (meta) => {
          meta.url = pathToFileURL(file).href;
        },
        importModuleDynamically: (specifier) => this.#dynamic(tree, specifier, file),
      });
    }
    modules.set(file, module);
    return module;
  }

  async #dynamic(tree, specifier, from) {
    return this.#evaluated(tree, await this.#resolve(tree, specifier, from));
  }

  #synthetic(tree, identifier, namespace) {
    const modules = this.#modulesOf(tree);
    let module = modules.get(identifier);
    if (module === undefined) {
      const names = Object.keys(namespace);
      module = new vm.SyntheticModule(
        names,
        () => {
          for (const name of names) module.setExport(name, namespace[name]);
        },
        { identifier },
      );
      modules.set(identifier, module);
    }
    return module;
  }

  /** Run a CommonJS file and return its `module.exports`; `cache` holds those of the files around it. */
  #commonJs(tree, file, source, cache) {
    const module = { exports: {}, filename: file };
    cache.set(file, module);
    const parameters = ["exports", "require", "module", "__filename", "__dirname"];
    const run = vm.compileFunction(source, parameters, {
      filename: file,
      importModuleDynamically: (specifier) => this.#dynamic(tree, specifier, file),
    });
    const requires = (specifier) => this.#require(tree, specifier, file, cache);
    run.call(module.exports, module.exports, requires, module, file, path.dirname(file));
    return module.exports;
  }

  #require(tree, specifier, from, cache) {
    const name = specifier.replace(/^node:/, "");
    if (specifier === SDK) return sdk;
    if (builtins.has(name)) {
      this.printsFreely ||= PRINTING.has(name);
      return require(`node:${name}`);
    }
    const absent = (why) => new ImportError(`cannot require '${specifier}': ${why}`, from, lineOf(from, specifier));
    if (Packages.isBare(specifier)) {
      this.printsFreely = true;
      return this.#packages.require(specifier, absent);
    }
    const file = this.#relative(tree, specifier, from, absent);
    if (cache.has(file)) return cache.get(file).exports;
    if (path.extname(file) !== COMMON_JS) throw absent(`only ${COMMON_JS} files can be required; import others`);
    return this.#commonJs(tree, file, read(file, absent), cache);
  }
}

function namespaceOf(exports) {
  const named = typeof exports === "object" || typeof exports === "function" ? exports : null;
  return { ...named, default: exports };
}

function read(file, absent) {
  let descriptor;
  try {
    // An exported tree holds no symbolic link; one that appears all the same is not followed.
    descriptor = fs.openSync(file, fs.constants.O_RDONLY | fs.constants.O_NOFOLLOW);
    return fs.readFileSync(descriptor, "utf8");
  } catch (error) {
    throw absent(error.code === "ENOENT" ? "there is no such file" : error.message);
  } finally {
    if (descriptor !== undefined) fs.closeSync(descriptor);
  }
}

function missing(script, tree) {
  const why = `${script}: it cannot be read in tree ${tree.slice(0, 12)}; check taskDetails.script`;
  return new Failure(HANDLER_NOT_FOUND, why);
}

/** The first line of `file` that names `specifier`; 0 if none does. */
function lineOf(file, specifier) {
  const lines = fs.readFileSync(file, "utf8").split("\n");
  return lines.findIndex((line) => line.includes(`"${specifier}"`) || line.includes(`'${specifier}'`)) + 1;
}
