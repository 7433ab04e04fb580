"""Installs packages in a container of its own, which alone of all has a network.

It is made from the image that the packages are for and hardened as instances are. It sees the list of
packages, the folder to install into, and pip or npm; never an app's trees, secrets or sockets.
"""

import hashlib
import os
import secrets
import threading
from collections.abc import Callable
from pathlib import PurePosixPath

from uhlp_core.settings import Settings
from uhlp_reconcilers.backends.docker_container import SEALED_OUTPUT, mount
from uhlp_reconcilers.backends.docker_engine import Details, Engine
from uhlp_reconcilers.backends.protocol import BackendError
from uhlp_reconcilers.backends.users import INSTALLER_UID
from uhlp_reconcilers.images import recipe
from uhlp_state.model.pools import OWN_IMAGES, Language

from .commands import RECIPE, Command, Places, command, tool
from .installer import CORES, MAX_OPEN_FILES, MAX_PROCESSES, MAX_SECONDS, MEMORY_BYTES, Order, Running, Work

BOX = PurePosixPath("/uhlp/box")
TOOLS = PurePosixPath("/uhlp/tools")
LOG = PurePosixPath("/uhlp/log")
"""Where the container sees what it is given."""

MAX_FILE_BYTES = 1 << 30
"""Of one file that is written: larger than any package."""

TMP_BYTES = 16 << 20
"""Of /tmp, for what insists on it: installers work in the box."""

OWN_END_SECONDS = MAX_SECONDS + 30
"""After these the container ends by itself, in case that nobody is left to end it."""

INSTALLER_LABEL = "uhlp.installer"
"""Marks the containers of one home that install packages."""

_PROGRAMS = {Language.PYTHON: "python3", Language.JAVASCRIPT: "node"}
_TOOLS = {Language.PYTHON: "pip", Language.JAVASCRIPT: "npm"}


class InContainer:
    """The installer of the docker backend."""

    def __init__(self, settings: Settings, engine: Engine, image: Callable[[str], str]) -> None:
        """`image` finds what a pool's image is called on this machine, and raises BackendError."""
        self._settings = settings
        self._image = image
        self._engine = engine
        self._mark = hashlib.sha256(os.fsencode(settings.home.root.resolve())).hexdigest()[:12]
        self._targets: dict[str, str] = {}
        self._tidying = threading.Lock()
        self._has_tidied = False
        self.uid = INSTALLER_UID if os.geteuid() == 0 else os.geteuid()

    def target(self, language: Language, image: str) -> str:
        """The image; for one of ours its base, which has the interpreter. Raises BackendError."""
        # Asked once: what is installed and serves must go on while the engine is away.
        if image not in self._targets:
            details = self._details(self._image(image))
            base = details["Config"]["Labels"][recipe.BASE_LABEL]
            fitted = base if image in OWN_IMAGES else details["Id"]
            digest = hashlib.sha256(fitted.encode()).hexdigest()[:12]
            self._targets[image] = f"docker-{digest}-{RECIPE}"
        return self._targets[image]

    def begin(self, order: Order, work: Work) -> Running:
        """Start to install. Raises BackendError."""
        self._tidy()
        name = _TOOLS[order.language]
        places = Places(_PROGRAMS[order.language], TOOLS / name, BOX)
        what = command(self._settings, order.language, places, may_run_code=True)
        mounts = [
            mount(work.box, BOX, read_only=False),
            mount(work.log, LOG, read_only=False),
            mount(tool(order.language), TOOLS / name, read_only=True),
        ]
        created = self._engine.create(
            f"uhlp-{self._mark}-installer-{secrets.token_hex(5)}",
            self._description(self._image(order.image), what, mounts),
        )
        running = _Container(self._engine, created)
        try:
            self._engine.start(created)
        except BackendError:
            running.end()
            raise
        return running

    def _tidy(self) -> None:
        """At first remove what an earlier daemon has left that was killed in the middle: it is nobody's."""
        with self._tidying:
            if not self._has_tidied:
                for abandoned in self._engine.containers({INSTALLER_LABEL: self._mark}):
                    self._engine.remove(abandoned)
                self._has_tidied = True

    def _details(self, image: str) -> Details:
        details = self._engine.image(image)
        if details is None:
            raise BackendError(f"the image {image} was removed just now; run `uhlp images build`")
        return details

    def _description(self, image: str, what: Command, mounts: list[Details]) -> Details:
        return {
            "Image": image,
            "Entrypoint": ["/bin/sh", "-c", f'exec "$0" "$@" >>{LOG} 2>&1'],
            "Cmd": ["timeout", "--signal=KILL", f"{OWN_END_SECONDS:.0f}", *what.arguments],
            "User": f"{self.uid}:{self.uid}",
            "Env": ["LANG=C.UTF-8", *(f"{name}={value}" for name, value in what.variables.items())],
            "WorkingDir": str(BOX),
            "Hostname": "installer",
            "Labels": {INSTALLER_LABEL: self._mark},
            "HostConfig": {
                "NetworkMode": "bridge",
                "ReadonlyRootfs": True,
                "Tmpfs": {"/tmp": f"rw,noexec,nosuid,nodev,size={TMP_BYTES},mode=1777"},  # noqa: S108
                "CapDrop": ["ALL"],
                "SecurityOpt": ["no-new-privileges"],
                "IpcMode": "private",
                "Init": True,
                "Memory": MEMORY_BYTES,
                "MemorySwap": MEMORY_BYTES,  # The same means: no swap.
                "NanoCpus": round(CORES * 1_000_000_000),
                "PidsLimit": MAX_PROCESSES,
                "Ulimits": [
                    {"Name": "nofile", "Soft": MAX_OPEN_FILES, "Hard": MAX_OPEN_FILES},
                    {"Name": "fsize", "Soft": MAX_FILE_BYTES, "Hard": MAX_FILE_BYTES},
                    {"Name": "core", "Soft": 0, "Hard": 0},
                ],
                "RestartPolicy": {"Name": "no"},
                "LogConfig": SEALED_OUTPUT,
                "Mounts": mounts,
            },
        }


class _Container:
    """A container of ours."""

    def __init__(self, engine: Engine, container: str) -> None:
        self._engine = engine
        self._container = container

    def exit_code(self) -> int | None:
        details = self._engine.inspect(self._container)
        if details is None:
            raise BackendError("the container that installs packages was removed by hand")
        state = details["State"]
        return int(state["ExitCode"]) if state["Status"] in ("exited", "dead") else None

    def end(self) -> None:
        self._engine.remove(self._container)
