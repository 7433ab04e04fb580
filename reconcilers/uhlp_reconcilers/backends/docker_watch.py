"""Notice within milliseconds that somebody has changed a running container: the engine's events, in a thread.

That a container *ends* needs no engine to notice (its process does); this is for what happens to one that
goes on running. An event only means "look at that container"; after every gap all are looked at.
"""

import logging
import threading
from collections.abc import Callable

from docker.types import CancellableStream

from .docker_engine import Engine
from .protocol import BackendError

log = logging.getLogger(__name__)

RECONNECT_SECONDS = 1.0
"""Between attempts to follow the events of an engine that is away."""

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
        """End the thread."""
        self._stop.set()
        stream = self._stream
        if stream is not None:
            stream.close()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._follow()
            except BackendError as error:
                log.warning("cannot follow the engine's events, trying again: %s", error)
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
            if not self._stop.is_set():
                stream.close()
