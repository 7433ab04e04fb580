"""Listening sockets that outlive the process that serves them.

The supervisor (or systemd) binds a port once and hands it down by the `LISTEN_FDS` protocol with names. A
daemon that is killed and started again finds its socket with every waiting connection still in the queue.
"""

import os
import socket
from collections.abc import Mapping
from pathlib import Path

FIRST_FD = 3
BACKLOG = 1024


def inherited(name: str, environment: Mapping[str, str] = os.environ) -> socket.socket | None:
    """The socket that was handed down under `name`, or None."""
    names = environment.get("LISTEN_FDNAMES", "").split(":")
    if environment.get("LISTEN_PID") not in (None, "", str(os.getpid())) or name not in names:
        return None
    found = socket.socket(fileno=os.dup(FIRST_FD + names.index(name)))
    found.setblocking(False)
    return found


class CannotListen(OSError):
    """The address is taken, not this machine's, or not this user's to bind; the text names it."""


def listen_tcp(host: str, port: int) -> socket.socket:
    """Bind and listen; raises CannotListen."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise CannotListen(f"cannot listen on {host}:{port}: {os.strerror(error.errno or 0)}") from None
    listener.listen(BACKLOG)
    listener.setblocking(False)
    return listener


def listen_unix(path: Path) -> socket.socket:
    """Listen on a Unix socket that only this user may connect to; its folder must be this user's alone.

    Raises OSError: the path exists, or is longer than the 107 bytes that a socket's holds.
    """
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener
