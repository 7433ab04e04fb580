"""How pip and npm are told to install: their arguments and their environment. Runs nothing.

Both come from this machine and are lent to wherever packages are installed, so that no image needs them.
Where they fetch from is the operator's settings and nothing else: no configuration file is read.
"""

import importlib.util
import os
import shutil
from dataclasses import dataclass
from pathlib import Path, PurePath
from urllib.parse import urlsplit

from uhlp_core.settings import Settings
from uhlp_reconcilers.backends.protocol import BackendError
from uhlp_state.model.pools import Language

from .installer import DETAILS, FOLDERS, SCRATCH

RECIPE = 1
"""Goes up whenever packages would come out otherwise, and are to be installed anew."""

CA_FILE = "ca.pem"
"""The operator's certificate authorities, in the box."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where things are for the installing process."""

    program: str
    """The interpreter: `python3` or `node`."""
    tool: PurePath
    """The folder of pip or npm; see `tool`."""
    box: PurePath


@dataclass(frozen=True, slots=True)
class Command:
    """A program with its arguments, and its environment beyond the usual."""

    arguments: tuple[str, ...]
    variables: dict[str, str]


def tool(language: Language) -> Path:
    """The folder of the installer on this machine. Raises BackendError."""
    if language == Language.PYTHON:
        spec = importlib.util.find_spec("pip")
        if spec is None or spec.origin is None:
            raise BackendError("pip is not installed beside uhlp; install it: `python -m ensurepip`")
        return Path(spec.origin).parent
    npm = shutil.which("npm")
    if npm is None:
        raise BackendError("npm is not on this machine; install Node.js with npm, or put it in PATH")
    return Path(npm).resolve().parent.parent


def command(settings: Settings, language: Language, places: Places, *, may_run_code: bool) -> Command:
    """Install what the files in the box ask for; with `may_run_code` also what must be built for it."""
    make = _pip if language == Language.PYTHON else _npm
    made = make(settings, places, may_run_code)
    usual = {"HOME": f"{places.box}/{SCRATCH}", "TMPDIR": f"{places.box}/{SCRATCH}"}
    return Command(made.arguments, usual | _proxy(settings) | made.variables)


def _pip(settings: Settings, places: Places, may_run_code: bool) -> Command:
    arguments = [places.program, "-I", str(places.tool), "install", "--no-input", "--no-color"]
    arguments += ["--disable-pip-version-check", "--progress-bar=off", "--no-cache-dir"]
    arguments += ["--no-warn-script-location", "--root-user-action=ignore"]
    arguments += [f"--log={places.box}/{SCRATCH}/{DETAILS}"]
    arguments += [f"--requirement={places.box}/requirements.txt"]
    arguments += [f"--target={places.box}/{FOLDERS[Language.PYTHON]}"]
    if not may_run_code:
        arguments.append("--only-binary=:all:")
    variables = {"PIP_CONFIG_FILE": os.devnull, "PIP_RETRIES": "2"}  # There are retries beyond pip's own.
    if settings.package_index:
        variables["PIP_INDEX_URL"] = settings.package_index
        index = urlsplit(settings.package_index)
        if index.scheme == "http" and index.hostname:
            # The operator chose it; pip would not take a package from there without being told so twice.
            variables["PIP_TRUSTED_HOST"] = f"{index.hostname}:{index.port or 80}"
    if settings.package_ca:
        variables["PIP_CERT"] = f"{places.box}/{CA_FILE}"
    return Command(tuple(arguments), variables)


def _npm(settings: Settings, places: Places, may_run_code: bool) -> Command:
    arguments = [places.program, f"{places.tool}/bin/npm-cli.js", "ci", f"--prefix={places.box}"]
    arguments += ["--omit=dev", "--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=http"]
    arguments += [
        f"--cache={places.box}/{SCRATCH}/npm",
        # Two files that are not there: it refuses to read one name for both.
        f"--userconfig={places.box}/{SCRATCH}/user",
        f"--globalconfig={places.box}/{SCRATCH}/global",
    ]
    if not may_run_code:
        arguments.append("--ignore-scripts")
    variables = {"npm_config_fetch_retries": "1", "npm_config_fetch_retry_mintimeout": "1000"}
    if settings.npm_registry:
        variables["npm_config_registry"] = settings.npm_registry
    if settings.package_ca:
        variables["NODE_EXTRA_CA_CERTS"] = f"{places.box}/{CA_FILE}"
    return Command(tuple(arguments), variables)


def _proxy(settings: Settings) -> dict[str, str]:
    if not settings.package_proxy:
        return {}
    return {"http_proxy": settings.package_proxy, "https_proxy": settings.package_proxy}
