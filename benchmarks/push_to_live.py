"""From `git push` to serving: against the push of the same commit to a repo with a trivial hook.

Also with a thousand apps on the platform instead of one.
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.measuring import Row, at_most, interleaved, running_platform
from e2e.platform_under_test import Clone, Platform, answering, app_files
from support.waiting import wait_until
from uhlp_state.commits import move_branch, stage_commit
from uhlp_state.git_repo import create_repo

ROUNDS = 20
MANY = 1000
HANDLER = "state/_jit_code/root/v1/handler.py"
ASLEEP = "      minInstances: 0\n"


def rows() -> list[Row]:
    with running_platform() as platform:
        clone = platform.create("app", app_files("app", answering("0")))
        reference = _reference_remote(platform)
        counter = iter(range(1, 10_000))

        def push_live() -> None:
            clone.commit({HANDLER: answering(str(next(counter)))})
            live.append(_timed_push(clone, "origin"))

        live: list[float] = []
        plain: list[float] = []

        def push_plain() -> None:
            plain.append(_timed_push(clone, str(reference)))

        interleaved(ROUNDS, push_live, push_plain)
        alone, trivial = _median(live), _median(plain)
        _add_sleeping_apps(platform)
        live.clear()
        interleaved(ROUNDS, push_live)
        crowded = _median(live)
    return [
        at_most("push → live, code-only change (reference: push with a trivial hook)", alone, trivial, 3.0),
        Row("push → live, absolute", f"{alone:.1f} ms", "100.00 ms", alone / 100, "≤ 1 ×", alone <= 100),
        at_most(f"push → live with {MANY} apps (reference: with one)", crowded, alone, 1.2),
    ]


def _timed_push(clone: Clone, remote: str) -> float:
    """Milliseconds of the push alone; it returns when the commit is live."""
    started = time.perf_counter()
    pushed = clone.push(remote, "HEAD:main")
    spent = (time.perf_counter() - started) * 1000
    assert pushed.code == 0, pushed.err
    return spent


def _median(values: list[float]) -> float:
    return statistics.median(values)


def _reference_remote(platform: Platform) -> Path:
    remote = platform.work / "reference.git"
    subprocess.run(["git", "init", "--quiet", "--bare", str(remote)], check=True)
    hook = remote / "hooks" / "post-receive"
    python = Path(sys.base_prefix) / "bin" / "python3"
    hook.write_text(f"#!{python} -SEI\nimport sys\nsys.stdin.read()\n")
    hook.chmod(0o755)
    return remote


def _add_sleeping_apps(platform: Platform) -> None:
    """Apps that are served but run nothing until asked, made in process: they are the backdrop only."""
    for number in range(MANY - 1):
        name = f"app-{number}"
        files = app_files(name, answering(name), pool=ASLEEP)
        create_repo(platform.repo(name), platform.home / "hooks", 1 << 20)
        first = stage_commit(
            platform.repo(name), None, {path: text.encode() for path, text in files.items()}, "First"
        )
        first.write(platform.repo(name))
        assert move_branch(platform.repo(name), "main", None, first.commit)
    last = f"app-{MANY - 2}"
    wait_until(lambda: platform.request("GET", "/", app=last).status == 200, "the last app serves", 300)
