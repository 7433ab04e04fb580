"""Notice within milliseconds that somebody has changed a running container: the engine's events, in a thread.

That a container *ends* needs no engine to notice (its process does); this is for what happens to one that
goes on running. An event only means "look at that container"; after every gap all are looked at.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable

from docker.types import CancellableStream

from .docker_engine import Engine
from .protocol import BackendError

log = logging.getLogger(__name__)

RECONNECT_SECONDS = 1.0
"""Between attempts to follow the events of an engine that is away."""

CLOSE_SECONDS = 2.0
"""For the thread to end."""

_EVENTS = {"type": ["container", "network"], "event": ["pause", "update", "connect"]}


class Watch:
    """Calls `look(container)` for each container that may have changed, and `look(None)` for all of them."""

    def __init__(self, engine: Engine, look: Callable[[str | None], None]) -> None:
        self._engine = engine
        self._look = look
        self._stop = threading.Event()
        self._stream: CancellableStream | None = None
        self._thread = threading.Thread(target=self._run, name="docker-events", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread; one that hangs in an engine that does not answer dies with the process."""
        self._stop.set()
        deadline = time.monotonic() + CLOSE_SECONDS
        # More than once: the thread may just be opening a stream.
        while self._thread.is_alive() and time.monotonic() < deadline:
            if stream := self._stream:
                with contextlib.suppress(OSError):
                    stream.close()
            self._thread.join(0.05)

    def _run(self) -> None:
        following = True
        while not self._stop.is_set():
            try:
                self._follow()
            except BackendError as error:
                level = logging.WARNING if following else logging.DEBUG
                log.log(level, "cannot follow the engine's events, trying again: %s", str(error))
                following = False
            else:
                following = True
            self._stop.wait(RECONNECT_SECONDS)

    def _follow(self) -> None:
        """Look at everything, then at what events name, until the stream ends. Raises BackendError."""
        self._stream = self._engine.events(_EVENTS)
        try:
            # In this order: what changes during the look is in the stream.
            self._look(None)
            for event in self._stream:
                actor = event["Actor"]
                of_network = event["Type"] == "network"
                self._look(actor["Attributes"].get("container", "") if of_network else actor["ID"])
        finally:
            stream, self._stream = self._stream, None
            with contextlib.suppress(OSError):
                stream.close()
