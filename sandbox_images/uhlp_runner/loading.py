"""Find and import the handlers of a revision, and keep revisions and scripts apart.

Every script sees its own folder, the tree's `state/_jit_code`, the SDK, the configured environment and
the standard library. Two scripts may both have a sibling `utils.py`: what was imported from a tree belongs
to the script that imported it, is in `sys.modules` only while that script is the current one, and is never
written back to the tree as bytecode.

Part of the interpreter mode's boot path, hence `posix`: importing `os` takes a fifth of its time.
"""

import posix
import sys

from .failure import HANDLER_NOT_FOUND, Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import CodeType, ModuleType
    from typing import Any

    Handler = Callable[[Any, Any], Any]

SDK_FOLDER = __file__.rpartition("/")[0] + "/sdk"

_TREE_CHARACTERS = frozenset("0123456789abcdefghijklmnopqrstuvwxyz-_")


class Script:
    """One imported script of one tree: its functions, its import path and the modules it imported."""

    __slots__ = ("module", "modules", "path")

    def __init__(self, path: "list[str]", module: "ModuleType") -> None:
        self.path = path
        self.module = module
        self.modules: dict[str, ModuleType] = {}


class Loader:
    """Imports scripts of the trees below `trees` (an absolute path) and makes one of them current at a time.

    Invariant: outside `_switch`, what `sys.modules` holds from below `trees` was imported by `_current`.
    """

    def __init__(self, trees: str, environment: "Sequence[str]") -> None:
        self._prefix = trees + "/"
        # As everywhere in Python, a package never stands in for a module of the standard library.
        self._tail = [*(entry for entry in sys.path if entry), *environment]
        self._scripts: dict[tuple[str, str], Script] = {}
        self._handlers: dict[tuple[str, str, str], tuple[Script, Handler]] = {}
        self._current: Script | None = None
        self._known = len(sys.modules)
        sys.dont_write_bytecode = True
        # A function may import the SDK at any time, and it must be the same SDK whichever script does.
        sys.path[:] = [SDK_FOLDER, *self._tail]

    def handler(self, tree: str, script: str, function: str) -> "Handler":
        """The function `function` of `script` in `tree`, imported if need be, and made current.

        Raises Failure(HANDLER_NOT_FOUND) where there is no such script or function, and whatever the
        script raises while it is imported.
        """
        known = self._handlers.get((tree, script, function))
        if known is not None:
            if known[0] is not self._current:
                self._switch(known[0])
            return known[1]
        loaded = self._scripts.get((tree, script)) or self._load(tree, script)
        if loaded is not self._current:
            self._switch(loaded)
        found = getattr(loaded.module, function, None)
        if function.startswith("__") or not callable(found):
            raise Failure(
                HANDLER_NOT_FOUND, f"{script}: no function {function!r}; check taskDetails.function"
            )
        self._handlers[tree, script, function] = loaded, found
        return found  # type: ignore[no-any-return]

    def forget(self, tree: str) -> None:
        """Drop what was imported from `tree`."""
        for key in [key for key in self._scripts if key[0] == tree]:
            if self._scripts.pop(key) is self._current:
                self._switch(None)
        for name in [name for name in self._handlers if name[0] == tree]:
            del self._handlers[name]
        below = f"{self._prefix}{tree}/"
        for folder in [folder for folder in sys.path_importer_cache if folder.startswith(below)]:
            del sys.path_importer_cache[folder]

    def _load(self, tree: str, script: str) -> Script:
        file, code = self._compiled(tree, script)
        folders = dict.fromkeys((file.rpartition("/")[0], f"{self._prefix}{tree}/state/_jit_code"))
        module = type(sys)(script.removesuffix(".py").replace("/", "."))
        module.__file__ = file
        loaded = Script([*folders, SDK_FOLDER, *self._tail], module)
        self._switch(loaded)
        sys.modules[module.__name__] = module
        try:
            exec(code, module.__dict__)  # noqa: S102 - running the application's code is what a runner is for
        except BaseException:
            self._switch(None)
            raise
        self._scripts[tree, script] = loaded
        return loaded

    def _compiled(self, tree: str, script: str) -> "tuple[str, CodeType]":
        if not tree or not _TREE_CHARACTERS.issuperset(tree):
            raise Failure(HANDLER_NOT_FOUND, f"{tree!r:.80} is not the id of a tree")
        file = f"{self._prefix}{tree}/state/{script}"
        if "\0" in script or not {"", ".", ".."}.isdisjoint(script.split("/")):
            raise Failure(HANDLER_NOT_FOUND, f"{script!r:.200} leads out of the revision's state folder")
        try:
            # An exported tree holds no symbolic link; one that appears all the same is not followed.
            with open(posix.open(file, posix.O_RDONLY | posix.O_NOFOLLOW), "rb") as source:  # noqa: PTH123
                return file, compile(source.read(), file, "exec", dont_inherit=True)
        except OSError as error:
            why = f"{script}: {error.strerror} in tree {tree:.12}; check taskDetails.script"
            raise Failure(HANDLER_NOT_FOUND, why) from None

    def _switch(self, script: Script | None) -> None:
        """Take the current script's modules out of `sys.modules` and put those of `script` in."""
        current = self._current
        modules = sys.modules
        # A script that imports nothing while it runs is the rule, and the scan the dearest part.
        if len(modules) != self._known:
            ours = {name: module for name, module in modules.items() if self._is_from_tree(module)}
            if current is not None:
                current.modules = ours
            for name in ours:
                del modules[name]
        elif current is not None:
            for name in current.modules:
                modules.pop(name, None)
        if script is None:
            sys.path[:] = [SDK_FOLDER, *self._tail]
        else:
            modules.update(script.modules)
            sys.path[:] = script.path
        self._current = script
        self._known = len(modules)

    def _is_from_tree(self, module: object) -> bool:
        file = getattr(module, "__file__", None)
        if isinstance(file, str):
            return file.startswith(self._prefix)
        folders = getattr(module, "__path__", None)  # A folder without __init__.py: a namespace package.
        return folders is not None and any(str(folder).startswith(self._prefix) for folder in folders)
