"""A process that starts handlers' processes: by fork, warm with a revision's code, or as fresh interpreters.

It does what its control socket says, one packet after the other, and knows no HTTP and no JSON but its
own report. Packets in: `S` with three descriptors (channel, stdout, stderr) starts a process and answers
its pid; `R<pid>` reaps it and answers its wait status. A process is reaped only when told, so that its
pid cannot be given to another while the runner may still signal it.
"""

import gc
import json
import os
import resource
import socket
import sys
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from . import confine, once
from .children import FIRST_INHERITED
from .failure import Failure
from .invoking import describe, innermost
from .limits import apply_memory
from .loading import Loader

PACKET_BYTES = 64
BOOT = str(Path(__file__).with_name("boot.py"))


def problems_of(loader: Loader, tree: str, components: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Import every handler of a revision; what is wrong with each, as `POST /prepare` answers it."""
    found = []
    for component in components:
        script = component["script"]
        try:
            loader.handler(tree, script, component["function"])
        except Failure as failed:
            found.append(problem(component, None, failed.message))
        except BaseException as error:
            traceback.print_exc()
            place = innermost(error)
            found.append(problem(component, place[1] if place else None, describe(error)))
    return found


def problem(component: dict[str, Any], line: int | None, message: str) -> dict[str, Any]:
    """One component that cannot be imported, as `POST /prepare` answers it."""
    return {
        "componentId": component["componentId"],
        "script": component["script"],
        "line": line,
        "message": message,
    }


def run(settings: dict[str, Any], tree: str, components: Sequence[dict[str, Any]], fresh: bool) -> NoReturn:
    """Import the handlers of `tree`, report, then start processes until the control socket closes.

    With `fresh` the processes are new interpreters, which import what they need themselves.
    """
    confine.scope_handlers(settings["writable"])
    apply_memory(settings["limits"]["memoryBytes"])
    control = socket.socket(fileno=FIRST_INHERITED)
    loader = Loader(settings["trees"], settings["environment"])
    pid = os.getpid()
    problems = problems_of(loader, tree, components)
    if os.getpid() != pid:
        os._exit(0)  # Importing the application forked this process, and the copy came back here.
    control.sendall(json.dumps(problems).encode())
    gc.collect()
    gc.freeze()  # A child's garbage collection must not write to, and so copy, what it shares with us.
    while True:
        packet, received, _, _ = socket.recv_fds(control, PACKET_BYTES, 3)
        if not packet:
            os._exit(0)
        if packet[:1] == b"R":
            status = os.waitpid(int(packet[1:]), 0)[1]
            control.send(str(status).encode())
            continue
        try:
            child = _spawn(received) if fresh else _fork(received, loader)
            control.send(str(child).encode())
        except (OSError, RuntimeError) as error:  # RuntimeError: no thread could be started.
            control.send(f"!{error}".encode())
        for fd in received:
            os.close(fd)


def _spawn(received: Sequence[int]) -> int:
    """Start a fresh interpreter, from a thread of its own: a Landlock domain belongs to a thread.

    So the interpreter inherits a domain in which neither we nor the requests beside it can be signalled,
    without the cost of loading in it what would be needed to enter one.
    """
    channel, out, err = received
    actions = [
        (os.POSIX_SPAWN_DUP2, out, 1),
        (os.POSIX_SPAWN_DUP2, err, 2),
        (os.POSIX_SPAWN_DUP2, channel, once.CHANNEL),
    ]
    arguments = [sys.executable, "-I", "-S", BOOT]
    started: list[int | OSError] = []

    def start() -> None:
        try:
            confine.scope()
            started.append(
                os.posix_spawn(sys.executable, arguments, os.environ, file_actions=actions, setsid=True)
            )
        except OSError as error:
            started.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    if isinstance(started[0], OSError):
        raise started[0]
    return started[0]


def _fork(received: Sequence[int], loader: Loader) -> int:
    child = os.fork()
    if child:
        return child
    try:
        os.setsid()
        channel, out, err = received
        os.dup2(out, 1)
        os.dup2(err, 2)
        os.dup2(channel, once.CHANNEL)
        os.closerange(once.CHANNEL + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
        confine.scope()
        once.serve(loader)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)
