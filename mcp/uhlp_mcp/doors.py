"""The listening sockets: one `mcp.sock` in the folder of each instance, open as long as the instance is.

The folder belongs to the sandbox, so nothing in it is trusted: it is entered without following a symbolic
link, and what lies where the socket goes is removed, never opened.
"""

import asyncio
import contextlib
import logging
import os
import socket
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from aiohttp import web

from uhlp_core.tokens import Unauthenticated
from uhlp_mcp.bearers import Bearers, credential
from uhlp_mcp.door_server import DoorServer
from uhlp_mcp.http import Endpoint, refusal, unauthenticated
from uhlp_mcp.tools import Caller

SOCKET = "mcp.sock"
PATH = "/mcp"
BACKLOG = 128
MAX_CONNECTIONS = 256
"""Of one instance: more than its handlers have calls under way, and a small part of this process's files."""

IDLE_SECONDS = 3600.0
"""A sandbox keeps its connections: one that is closed under it may cost it a call."""

CLOSE_SECONDS = 1.0
"""For calls under way when an instance is gone."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Door:
    caller: Caller
    inode: tuple[int, int]
    server: asyncio.Server
    connections: DoorServer


class Doors:
    """Keeps the open doors in line with the instances that exist."""

    def __init__(self, endpoint: Endpoint, bearers: Bearers) -> None:
        self._endpoint = endpoint
        self._bearers = bearers
        self._open: dict[Path, _Door] = {}

    async def update(self, wanted: Mapping[Path, Caller]) -> None:
        """Open and close doors so that exactly the wanted ones (by folder) are open."""
        for folder in [one for one in self._open if one not in wanted]:
            await self._close(folder)
        for folder, caller in wanted.items():
            door = self._open.get(folder)
            if door is not None and (door.caller != caller or door.inode != _inode(folder)):
                await self._close(folder)
                door = None
            if door is None:
                try:
                    self._open[folder] = await self._listen(folder, caller)
                except OSError as error:
                    _log.warning(
                        "cannot listen in %s: %s", folder, error, extra={"instance": caller.instance}
                    )

    async def close(self) -> None:
        for folder in list(self._open):
            await self._close(folder)

    async def _listen(self, folder: Path, caller: Caller) -> _Door:
        listener, inode = _bind(folder)
        connections = DoorServer(partial(self._handle, caller), MAX_CONNECTIONS, IDLE_SECONDS)
        server = await asyncio.get_running_loop().create_unix_server(
            connections, sock=listener, backlog=BACKLOG
        )
        return _Door(caller, inode, server, connections)

    async def _handle(self, sandbox: Caller, request: web.BaseRequest) -> web.StreamResponse:
        """Answer whoever is in the sandbox. A token says more about it, and must be this sandbox's own."""
        if request.raw_path.partition("?")[0] != PATH:
            return refusal(404, f"only {PATH} is served here")
        caller = sandbox
        if token := credential(request):
            try:
                caller = self._bearers.caller(token)
            except Unauthenticated as error:
                return unauthenticated(str(error))
            if (caller.deployment, caller.instance) != (sandbox.deployment, sandbox.instance):
                return unauthenticated("the token is another sandbox's")
        return await self._endpoint.handle(request, caller)

    async def _close(self, folder: Path) -> None:
        door = self._open.pop(folder)
        door.server.close()
        await door.connections.shutdown(CLOSE_SECONDS)


def _bind(folder: Path) -> tuple[socket.socket, tuple[int, int]]:
    """A listening socket in `folder` that only the folder's owner and group can connect to, and its inode."""
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(SOCKET, dir_fd=directory)
        listener = socket.socket(socket.AF_UNIX)
        try:
            # Closed from the bind on, and opened to the sandbox's group once it is the right one.
            os.fchmod(listener.fileno(), 0o600)
            listener.bind(f"/proc/self/fd/{directory}/{SOCKET}")
            owner = os.fstat(directory)
            if (owner.st_uid, owner.st_gid) != (os.geteuid(), os.getegid()):
                os.chown(SOCKET, owner.st_uid, owner.st_gid, dir_fd=directory, follow_symlinks=False)
            os.chmod(SOCKET, 0o660, dir_fd=directory)
            found = os.stat(SOCKET, dir_fd=directory, follow_symlinks=False)
            if not stat.S_ISSOCK(found.st_mode):
                raise OSError(f"{SOCKET} was replaced while it was made")
            listener.listen(BACKLOG)
            listener.setblocking(False)
        except OSError:
            listener.close()
            raise
        return listener, (found.st_dev, found.st_ino)
    finally:
        os.close(directory)


def _inode(folder: Path) -> tuple[int, int] | None:
    """The identity of what lies where the socket was made, or None."""
    try:
        found = (folder / SOCKET).lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
