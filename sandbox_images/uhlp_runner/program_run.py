"""Runs one program in place of handlers: shut in like an instance, bounded, and with nothing left behind.

The program comes as an open descriptor, so that nobody can exchange it after it was checked. It has nothing
but its arguments, its standard streams, a folder, and the environment that it was given. All that it starts
ends with it, or with this process: they live in a process space whose first process is a child of this one.
"""

import os
import resource
import select
import signal
import sys
from typing import NoReturn

from . import confine
from .config import Config
from .limits import apply_request, lower

REFUSED = 125
"""Exit code where this host cannot shut it in: then nothing has run."""

NOT_STARTED = 126
"""Exit code where the kernel does not start the program."""


def run(config: Config, program: int, arguments: list[str]) -> NoReturn:
    """Run it and end with its exit code, or 128 and the number of the signal that ended it.

    Ends by SIGALRM itself where the program runs for longer than timeoutMs, unless that is 0.
    """
    parent = os.getppid()
    protection = confine.shut_in(config, own_processes=True)
    # Only now: a change of the user takes it back.
    confine.die_with(parent)
    if not {confine.OWN_MOUNTS, confine.OWN_USERS} & set(protection.in_force):
        sys.stderr.write(f"this host cannot confine a program: {'; '.join(protection.missing)}\n")
        sys.exit(REFUSED)
    # RLIMIT_FSIZE bounds one file; the private /tmp, a file system of its own, bounds all of them.
    lower(resource.RLIMIT_FSIZE, config.isolation.tmp_bytes)
    lower(resource.RLIMIT_CORE, 0)
    # One of its own: in /tmp itself lie the mount points of what is shown below a hidden folder.
    work = f"{os.environ['TMPDIR']}/work"
    os.mkdir(work)  # noqa: PTH102
    home = config.dir if config.program.keeps_files else work
    os.chdir(home)
    os.environ.update({"HOME": home, "TMPDIR": work, **config.program.variables})
    ended, held = os.pipe()
    first = os.fork()
    if first == 0:
        os.close(held)
        # The parent is in another process space, so it has no number here.
        confine.die_with(0)
        # Where the parent has ended before that, its end of the pipe is closed.
        if select.select([ended], [], [], 0)[0]:
            os._exit(1)
        _first_process(config, program, arguments)
    # The signal ends this process, and so all of them. No program's end looks like that: see _end_as.
    signal.setitimer(signal.ITIMER_REAL, config.limits["timeoutMs"] / 1000)
    _end_as(os.waitpid(first, 0)[1])


def _first_process(config: Config, program: int, arguments: list[str]) -> NoReturn:
    """Start the program, take in what loses its parent, and end as the program does."""
    started = os.fork()
    if started == 0:
        _become(config, program, arguments)
    while True:
        pid, status = os.wait()
        if pid == started:
            _end_as(status)


def _become(config: Config, program: int, arguments: list[str]) -> NoReturn:
    try:
        apply_request(
            {**config.limits, "processes": config.limits["maxProcesses"]}, config.program.address_space
        )
        os.closerange(3, program)
        os.closerange(program + 1, config.limits["maxOpenFiles"])
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # As every program expects it; Python ignores it.
        os.execve(program, arguments, os.environ)  # noqa: S606 - a shell is what must not be between
    except (OSError, ValueError) as error:
        os.write(2, f"{arguments[0]} cannot be started: {error}\n".encode())
        os._exit(NOT_STARTED)


def _end_as(status: int) -> NoReturn:
    code = os.waitstatus_to_exitcode(status)
    os._exit(code if code >= 0 else 128 - code)
