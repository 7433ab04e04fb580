"""Clients that ask an app all the time, and remember everything that was not a right answer."""

import threading
from dataclasses import dataclass, field
from http.client import RemoteDisconnected

from e2e.platform_under_test import Platform


@dataclass
class Load:
    """Runs as long as it is entered."""

    platform: Platform
    app: str
    allowed: set[str]
    retries_lost_connections: bool = False
    """As browsers and HTTP libraries do with requests that may safely be sent twice (RFC 9110, 9.2.2)."""
    clients: int = 1
    pause: float = 0.0
    """Seconds between one answer and the client's next request."""
    asked: int = 0
    wrong: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> "Load":
        self._threads = [threading.Thread(target=self._run) for _ in range(self.clients)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def ask(self) -> None:
        """One request, and what is wrong with its answer."""
        answer = self.platform.request("GET", "/", app=self.app)
        if answer.status != 200 or answer.json["answer"] not in self.allowed:
            self.wrong.append(f"{answer.status} {answer.body!r}")

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.ask()
            except (ConnectionResetError, RemoteDisconnected) as error:
                if not self.retries_lost_connections:
                    self.wrong.append(repr(error))
            except (OSError, KeyError) as error:
                self.wrong.append(repr(error))
            self.asked += 1
            self._stop.wait(self.pause)
