"""The renderer: a persistent process in which templates run, and nothing else of the platform.

It has no connection but its channel to the runner's main process, which kills it when a template takes too
long, and starts another. A frame is a length (4 bytes, little-endian) and JSON.
"""

import gc
import importlib.machinery
import importlib.util
import json
import os
import socket
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from types import ModuleType
from typing import Any, NoReturn

from . import confine, failure
from .children import FIRST_INHERITED
from .failure import Failure
from .limits import apply_memory

HEADER_BYTES = 4


class _Packages(MetaPathFinder):
    """Finds packages by their own folders: the folders around them hold much that nobody here may see."""

    def __init__(self, folders: Sequence[str]) -> None:
        self._folders = {folder.rpartition("/")[2]: folder for folder in folders}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        folder = self._folders.get(fullname)
        if folder is None:
            return None
        return importlib.util.spec_from_file_location(
            fullname, f"{folder}/__init__.py", submodule_search_locations=[folder]
        )


def frame(document: Any) -> bytes:
    """A document as it is sent."""
    body = json.dumps(document).encode()
    return len(body).to_bytes(HEADER_BYTES, "little") + body


def _failed(why: Failure) -> dict[str, Any]:
    return {"failure": [why.code, why.message]}


def run(memory_bytes: int, packages: Sequence[str]) -> NoReturn:
    """Be the renderer, in a process that `children.start` made, until the channel closes.

    Answers `{"do": "check", "prompts": […]}` with `{"found": [[line, message] or null, …]}`, and
    `{"do": "render", "prompt": …, "variables": …}` with `{"system", "messages"}` or
    `{"failure": [code, message]}`.
    """
    confine.scope()
    apply_memory(memory_bytes)
    channel = socket.socket(fileno=FIRST_INHERITED)
    sys.meta_path.append(_Packages(packages))
    from .templates import Templates

    templates = Templates()
    gc.collect()
    gc.freeze()
    incoming = channel.makefile("rb")
    while header := incoming.read(HEADER_BYTES):
        order = json.loads(incoming.read(int.from_bytes(header, "little")))
        if order["do"] == "check":
            answer: dict[str, Any] = {"found": [templates.check(prompt) for prompt in order["prompts"]]}
        else:
            try:
                answer = templates.render(order["prompt"], order["variables"])
            except Failure as failed:
                answer = _failed(failed)
            except MemoryError:
                answer = _failed(failure.out_of_memory())
        channel.sendall(frame(answer))
    os._exit(0)
