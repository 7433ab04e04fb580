"""What a runner is told at its start: the JSON file named by `--config`."""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .limits import ADDRESS_SPACE_ALLOWANCE

MODES = ("interpreter", "fork", "server")
LANGUAGES = ("python", "javascript")

LIMITS = ("memoryBytes", "cpuSeconds", "timeoutMs", "maxProcesses", "maxOutputBytes", "maxOpenFiles")
"""What one request may use; 0 cpuSeconds means no limit of its own."""


@dataclass(frozen=True, slots=True)
class Isolation:
    """How far the runner shuts itself in; see `confine`."""

    container: bool
    """Whether a container engine has shut it in already."""
    uid: int | None
    gid: int | None
    tmp_bytes: int
    network: bool
    """Whether it keeps the host's network."""
    hidden: tuple[str, ...]
    """Folders no handler may see, whatever their permissions say: the platform's home."""
    mounts: tuple[tuple[str, bool], ...]
    """What of the host the operator lets this pool see: its path here, and whether it may be changed."""


@dataclass(frozen=True, slots=True)
class Program:
    """What holds only for one program that runs in place of handlers; see `program_run`."""

    variables: dict[str, str]
    """Its environment, besides what every sandbox has."""
    keeps_files: bool
    """Whether it works in `dir`, which stays, instead of a folder that is gone with it."""
    address_space: int
    """Bytes that it may reserve beyond memoryBytes."""


@dataclass(frozen=True, slots=True)
class Config:
    """One instance of one pool of one deployment."""

    app: str
    deployment: str
    pool: str
    instance: str
    mode: str
    language: str
    node: str
    """Path of Node.js where the language is JavaScript; else empty."""
    concurrency: int
    trees: str
    dir: str
    environment: tuple[str, ...]
    """Folders of packages that handlers may import beyond the standard library."""
    libraries: tuple[str, ...]
    """Folders where the runner itself finds `orjson`; handlers' import path does not have them."""
    templating: tuple[str, ...]
    """Folders of the packages that templates are rendered with, Jinja2 and what it needs."""
    limits: dict[str, int]
    isolation: Isolation
    program: Program

    @property
    def identity(self) -> dict[str, str]:
        """What every log line carries."""
        return {"app": self.app, "deployment": self.deployment, "pool": self.pool, "instance": self.instance}


def load(path: str) -> Config:
    """Read the file. Raises ValueError naming the field that is missing or wrong."""
    document: dict[str, Any] = json.loads(Path(path).read_text())
    try:
        if document["mode"] not in MODES:
            raise ValueError(f"{path}: mode is {document['mode']!r}, not one of {', '.join(MODES)}")
        language = document["language"]
        if language not in LANGUAGES:
            raise ValueError(f"{path}: language is {language!r}, not one of {', '.join(LANGUAGES)}")
        node = shutil.which(document["node"]) if language == "javascript" else ""
        if node is None:
            raise ValueError(f"{path}: there is no program {document['node']!r} here, which runs JavaScript")
        limits = {name: int(document["limits"][name]) for name in LIMITS}
        isolation = document["isolation"]
        return Config(
            app=document["app"],
            deployment=document["deployment"],
            pool=document["pool"],
            instance=document["instance"],
            mode=document["mode"],
            language=language,
            node=os.path.realpath(node) if node else "",
            concurrency=int(document["concurrency"]),
            trees=os.path.realpath(document["trees"]),
            dir=document["dir"],
            environment=tuple(document["environment"]),
            libraries=tuple(document["libraries"]),
            templating=tuple(document["templating"]),
            limits=limits,
            isolation=Isolation(
                container=isolation.get("confinedBy") == "container",
                uid=isolation.get("uid"),
                gid=isolation.get("gid"),
                network=bool(isolation.get("network")),
                tmp_bytes=int(isolation["tmpBytes"]),
                hidden=tuple(isolation["hidden"]),
                mounts=tuple(
                    (mount["path"], bool(mount["writable"])) for mount in isolation.get("mounts", ())
                ),
            ),
            program=_program(document.get("program", {})),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: missing or of the wrong type: {error}") from None


def _program(document: dict[str, Any]) -> Program:
    return Program(
        variables=dict(document.get("variables", {})),
        keeps_files=bool(document.get("keepsFiles")),
        address_space=int(document.get("addressSpaceBytes", ADDRESS_SPACE_ALLOWANCE)),
    )
