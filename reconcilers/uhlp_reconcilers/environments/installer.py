"""What installing one set of packages takes: the order, who carries it out, and how it may fail."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from uhlp_core.errors import UhlpError
from uhlp_state.dependencies import Dependencies
from uhlp_state.model.pools import Language

MEMORY_BYTES = 1 << 30
CORES = 1.0
MAX_PROCESSES = 256
MAX_OPEN_FILES = 1024
"""What one installation may use at once: a resolver, unpacking, and a build of a small package."""

MAX_SECONDS = 600.0
"""What one installation may take."""

FOLDERS = {Language.PYTHON: "packages", Language.JAVASCRIPT: "node_modules"}
"""By language, the folder that packages are installed into; code finds them there."""


SCRATCH = "scratch"
"""The folder in the box for what is needed on the way only."""

DETAILS = "details"
"""A file there with what pip does not print: among it that the index answered with an error."""


class InstallRefused(UhlpError):
    """These packages cannot be installed as they are asked for; the text is the installer's own."""

    code = "DEPENDENCIES_NOT_INSTALLED"


class InstallFailed(UhlpError):
    """Something outside failed, such as the network; the text is the installer's own. Worth another try."""

    code = "DEPENDENCIES_UNAVAILABLE"


@dataclass(frozen=True, slots=True)
class Order:
    """One set of packages, for instances of one image."""

    dependencies: Dependencies
    image: str

    @property
    def language(self) -> Language:
        return self.dependencies.language


@dataclass(frozen=True, slots=True)
class Work:
    """The folder of one installation."""

    root: Path
    """The daemon's own; holds the other two."""

    @property
    def box(self) -> Path:
        """All that the installing process may write to. Trust nothing in it while that process runs."""
        return self.root / "box"

    @property
    def log(self) -> Path:
        """What it prints."""
        return self.root / "log"


class Running(Protocol):
    """An installation under way. Its methods block, and raise BackendError."""

    def exit_code(self) -> int | None:
        """How it ended; None while it runs."""
        ...

    def end(self) -> None:
        """Kill all of it that still runs, and leave no trace."""
        ...


class Installer(Protocol):
    """Starts installations. Its methods block, and raise BackendError."""

    uid: int
    """The user that installs, to whom the box belongs."""

    def target(self, language: Language, image: str) -> str:
        """A name for all that packages must fit: those installed for another are of no use here."""
        ...

    def begin(self, order: Order, work: Work) -> Running:
        """Start to install into the work folder's box, printing to its log."""
        ...
