"""Keeps the sessions with servers: one for each server of a deployment and version of its credentials.

Started at the first call, ended when idle, when the definition or a secret changes, when what they keep is
removed, and when the daemon ends.
A server that fails is left alone for a while, longer each time.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from uhlp_core.disk_usage import disk_usage
from uhlp_core.errors import UhlpError
from uhlp_core.home import Home
from uhlp_core.ids import Deployment
from uhlp_mcp.community.connection import Connection, Connections
from uhlp_mcp.community.errors import ServerUnavailable
from uhlp_mcp.community.pins import Pins
from uhlp_mcp.community.session import Session
from uhlp_mcp.egress import Egress
from uhlp_mcp.intake import Intake
from uhlp_state.snapshot import AppSnapshot

IDLE_SECONDS = 300.0
"""A session ends after this long without a call."""

SWEEP_SECONDS = 5.0
"""Sessions are looked through this often: for idle ones, and for those whose files take too much."""

FRESH_SECONDS = 5.0
"""A connection is made anew after this long: so soon a changed secret or address is noticed."""

MAX_FILES = 100_000
"""Of one server, folders included: counting so many takes a fraction of a second."""

MAX_SESSIONS = 200
"""Of this daemon: each may be a process of tens of megabytes."""

MAX_OF_APP = 50
"""Of one app, its previews included: no app takes all of them."""

MAX_CALLS = 32
"""Calls of one session under way at the same time; more of them are refused."""

FIRST_PAUSE_SECONDS = 0.5
MAX_PAUSE_SECONDS = 60.0
"""After a failure nothing is tried for the first, twice that after the next, at most the second."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Slot:
    """One server of one deployment."""

    session: Session | None = None
    connection: Connection | None = None
    commit: str = ""
    checked: float = 0.0
    """When `connection` was made."""
    failures: int = 0
    """In a row."""
    retry_at: float = 0.0
    error: str = ""
    """The last failure; empty after a success."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def state(self) -> str:
        """`ready`, `failed` or `stopped`."""
        if self.session is not None and self.session.alive:
            return "ready"
        return "failed" if self.error else "stopped"

    def failed(self, why: str) -> None:
        """Note a failure: the next try is later than after the one before."""
        self.error = why
        pause = min(FIRST_PAUSE_SECONDS * 2 ** min(self.failures, 16), MAX_PAUSE_SECONDS)
        self.failures += 1
        self.retry_at = time.monotonic() + pause

    def succeeded(self) -> None:
        self.failures, self.error = 0, ""


class Sessions:
    """All sessions of the daemon."""

    def __init__(self, home: Home, connections: Connections, egress: Egress, pins: Pins) -> None:
        """`pins` are told which servers are gone."""
        self._home = home
        self._pins = pins
        self._connections = connections
        self._egress = egress
        self._intake = Intake()
        self._slots: dict[tuple[str, str], Slot] = {}
        self._ending: set[asyncio.Task[None]] = set()

    def slot(self, deployment: str, name: str) -> Slot:
        """What is known of a server."""
        return self._slots.setdefault((deployment, name), Slot())

    @contextlib.asynccontextmanager
    async def session(self, snapshot: AppSnapshot, deployment: str, name: str) -> AsyncIterator[Session]:
        """A session that takes calls. A failure inside, and one to start it, counts against the server.

        Raises ServerUnavailable, and what making its connection raises.
        """
        slot = self.slot(deployment, name)
        session = await self._ready(slot, snapshot, deployment, name)
        if session.active >= MAX_CALLS:
            raise ServerUnavailable(
                f"{session.connection.label} has {MAX_CALLS} calls under way; try again", FIRST_PAUSE_SECONDS
            )
        try:
            yield session
        except UhlpError as error:
            if not session.alive:
                slot.failed(str(error))
            raise
        if slot.session is session:  # Else it was ended meanwhile, and why is not over with this call.
            slot.succeeded()

    async def sweep(self) -> None:
        """End what is idle or has too many files, for ever."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            now = time.monotonic()
            for key, slot in list(self._slots.items()):
                session = slot.session
                if session is not None and (
                    self._lost_its_folder(session)
                    or (not session.active and now - session.used > IDLE_SECONDS)
                ):
                    self._end(slot)
                elif (
                    session is not None
                    and session.alive
                    and (why := await self._too_much(session.connection))
                ):
                    slot.failed(why)
                    _log.warning("%s", why, extra={"deployment": session.connection.deployment})
                    self._end(slot)
                if slot.session is None and not slot.lock.locked() and now > slot.retry_at + IDLE_SECONDS:
                    del self._slots[key]
                    self._pins.forget(*key)

    async def close(self) -> None:
        """End all sessions."""
        for slot in self._slots.values():
            self._end(slot)
        await asyncio.gather(*self._ending)

    async def _ready(self, slot: Slot, snapshot: AppSnapshot, deployment: str, name: str) -> Session:
        now = time.monotonic()
        session = slot.session
        if (
            session is not None
            and session.alive
            and slot.commit == snapshot.commit
            and now - slot.checked < FRESH_SECONDS
        ):
            return session
        async with slot.lock:
            connection = await self._connections.connection(snapshot, deployment, name)
            if slot.connection is not None and slot.connection.version() != connection.version():
                # A change may be what mends it.
                slot.retry_at = 0.0
            slot.connection, slot.commit, slot.checked = connection, snapshot.commit, time.monotonic()
            session = slot.session
            if session is not None:
                if (
                    session.alive
                    and session.version == connection.version()
                    and not self._lost_its_folder(session)
                ):
                    return session
                self._end(slot)
            pause = slot.retry_at - time.monotonic()
            if pause > 0:
                raise ServerUnavailable(
                    f"{slot.error}; it is tried again in {max(pause, 0.1):.1f} s", round(max(pause, 0.1), 1)
                )
            return await self._start(slot, connection)

    async def _start(self, slot: Slot, connection: Connection) -> Session:
        # Its own slot is one of them: a locked one is about to have a session.
        taken = [
            Deployment.parse(deployment).app
            for (deployment, _), one in self._slots.items()
            if one.session is not None or one.lock.locked()
        ]
        app = connection.app
        if taken.count(app) > MAX_OF_APP:
            raise ServerUnavailable(f"{app} has {MAX_OF_APP} MCP servers in use already; try again", 10.0)
        if len(taken) > MAX_SESSIONS:
            raise ServerUnavailable(f"{MAX_SESSIONS} MCP servers are in use already; try again", 10.0)
        session = Session(connection, self._folder(connection), self._home.root, self._egress, self._intake)
        try:
            if why := await self._too_much(connection):
                raise ServerUnavailable(why)
            await session.start()
        except UhlpError as error:
            slot.failed(str(error))
            _log.warning("%s", error, extra={"deployment": connection.deployment})
            raise ServerUnavailable(
                f"{error}; it is tried again in {slot.retry_at - time.monotonic():.1f} s",
                round(slot.retry_at - time.monotonic(), 1),
            ) from None
        slot.session = session
        return session

    def _folder(self, connection: Connection) -> Path:
        return self._home.mcp_servers / connection.deployment / connection.name

    def _lost_its_folder(self, session: Session) -> bool:
        """Whether somebody removed what the program keeps, with its app perhaps.

        It still holds it open, and would tell the next app of that name what was in it.
        """
        connection = session.connection
        return connection.program is not None and session.alive and not self._folder(connection).is_dir()

    async def _too_much(self, connection: Connection) -> str:
        """What is wrong with the number or size of a program's files; empty if nothing is."""
        if connection.program is None:
            return ""
        folder, limit = self._folder(connection), connection.program.disk_bytes
        usage = await asyncio.to_thread(disk_usage, folder, MAX_FILES)
        if usage.entries <= MAX_FILES and usage.size <= limit:
            return ""
        what = f"{usage.size >> 20} MiB" if usage.size > limit else "too many files, or too deep folders"
        return (
            f"{connection.label} has {what} of at most {limit >> 20} MiB and {MAX_FILES} files; delete some "
            f"in {folder.relative_to(self._home.root)} of the platform's home, or raise its `diskLimit` in "
            "`allowedMcpServers`"
        )

    def _end(self, slot: Slot) -> None:
        """End the slot's session once its calls are over."""
        session, slot.session = slot.session, None
        if session is not None:
            task = asyncio.create_task(session.close())
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)
