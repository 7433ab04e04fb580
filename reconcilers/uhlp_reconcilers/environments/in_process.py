"""Installs packages in a process of this machine, shut in as an instance is, but with the network.

No code of a package runs: only what needs no building is installed. What else this machine lacks to shut a
process in holds here as it holds for instances (`uhlp doctor` tells).
"""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

from uhlp_core.home import Home
from uhlp_core.settings import Settings
from uhlp_reconcilers.backends import node_program, procfs
from uhlp_reconcilers.backends.process import TMP_BYTES, runner_command, runner_libraries
from uhlp_reconcilers.backends.protocol import InstanceSpec
from uhlp_reconcilers.backends.runner_config import runner_config
from uhlp_reconcilers.backends.users import INSTALLER_UID
from uhlp_state.model.pools import Language, ResourceLimits

from .commands import RECIPE, Places, command, tool
from .installer import CORES, MAX_OPEN_FILES, MAX_PROCESSES, MAX_SECONDS, MEMORY_BYTES, Order, Running, Work


class InProcess:
    """The installer of the process backend."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.uid = INSTALLER_UID if os.geteuid() == 0 else os.geteuid()

    def target(self, language: Language, image: str) -> str:
        """The interpreter's version and machine. Raises BackendError."""
        version = (
            sys.implementation.cache_tag
            if language == Language.PYTHON
            else f"node-{node_program.version(node_program.path())[0]}"
        )
        return f"process-{version}-{platform.machine()}-{RECIPE}"

    def begin(self, order: Order, work: Work) -> Running:
        """Start to install. Raises BackendError, OSError."""
        lent = tool(order.language)
        program = (
            os.path.realpath(sys.executable)
            if order.language == Language.PYTHON
            else os.path.realpath(node_program.path())
        )
        what = command(self._settings, order.language, Places(program, lent, work.box), may_run_code=False)
        config = work.root / "runner.json"
        document = configuration(order, work, lent, self._settings.home, self.uid)
        document |= {"command": what.arguments, "variables": what.variables}
        config.touch(mode=0o600)
        config.write_text(json.dumps(document))
        with work.log.open("ab") as log:
            process = subprocess.Popen(
                runner_command(config, "--become"),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"PATH": os.defpath, "LANG": "C.UTF-8"},
                start_new_session=True,
            )
        return _Process(process)


class _Process:
    """A process of ours with all that it started."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def exit_code(self) -> int | None:
        return self._process.poll()

    def end(self) -> None:
        # It adopts what loses its parent, so it dies last.
        while self._process.poll() is None and len(processes := procfs.tree(self._process.pid)) > 1:
            for process in processes[1:]:
                procfs.kill(process)
        self._process.kill()
        self._process.wait()


def configuration(order: Order, work: Work, lent: Path, home: Home, uid: int) -> dict[str, object]:
    """What a runner is told that is to become an installer, but for the program itself."""
    spec = InstanceSpec(
        instance="installer",
        app="",
        deployment="",
        pool=order.language.value,
        spec_hash="",
        mode="fork",
        concurrency=1,
        timeout_seconds=MAX_SECONDS,
        limits=ResourceLimits(
            cpu_limit=str(CORES),
            memory_limit=str(MEMORY_BYTES),
            max_processes=MAX_PROCESSES,
            max_open_files=MAX_OPEN_FILES,
        ),
        trees=work.box,
        log=work.log,
        # The parent, since Python finds a package only in a folder that it may list.
        env_paths=(lent.parent,),
    )
    isolation = {
        "uid": uid if os.geteuid() == 0 else None,
        "gid": uid if os.geteuid() == 0 else None,
        "tmpBytes": TMP_BYTES,
        "hidden": [str(home.root)],
        "network": True,
    }
    libraries = runner_libraries()
    return runner_config(
        spec,
        trees=work.box,
        folder=work.box,
        libraries=libraries,
        node="",
        templating=(),
        isolation=isolation,
    )
