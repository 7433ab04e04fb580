"""A container's output goes straight into the app's log, whatever becomes of the daemons."""

from collections.abc import Awaitable, Callable

from runner.sandbox import Sandbox
from support.waiting import eventually
from uhlp_core.home import Home
from uhlp_reconcilers.backends.docker import DockerBackend

Start = Callable[..., Awaitable[Sandbox]]

CODE = """
import sys

def prints(input, context):
    for number in range(input["first"], input["first"] + input["count"]):
        print(f"line {number}")

def fails(input, context):
    raise ValueError("on purpose")
"""


def printed(sandbox: Sandbox) -> list[str]:
    return [line["message"] for line in sandbox.lines(stream="stdout")]


async def test_nothing_is_lost(start: Start) -> None:
    sandbox = await start(CODE)
    await sandbox.execute("prints", data={"first": 0, "count": 5000})
    await eventually(lambda: len(printed(sandbox)) == 5000, "all lines are in the log")
    assert printed(sandbox) == [f"line {number}" for number in range(5000)]
    [line] = sandbox.lines(message="line 17")
    assert (line["app"], line["component"], line["instance"]) == (
        "shop",
        "prints",
        sandbox.instance.instance,
    )


async def test_rotation_goes_on_in_the_same_file(start: Start) -> None:
    sandbox = await start(CODE)
    await sandbox.execute("prints", data={"first": 0, "count": 3})
    await eventually(lambda: len(printed(sandbox)) == 3, "the lines are in the log")
    with sandbox.log.open("r+b") as file:
        file.truncate(0)
    await sandbox.execute("prints", data={"first": 3, "count": 2})
    await eventually(lambda: printed(sandbox) == ["line 3", "line 4"], "only what came later is in the log")


async def test_it_needs_no_daemon(
    start: Start, backend: DockerBackend, home: Home, make_backend: Callable[[Home], DockerBackend]
) -> None:
    sandbox = await start(CODE)
    backend.close()
    await sandbox.execute("prints", data={"first": 0, "count": 1})
    await eventually(lambda: printed(sandbox) == ["line 0"], "the line is in the log")
    later = make_backend(home)
    [found] = await later.list()
    assert later.logs(found) == sandbox.log


async def test_why_a_handler_failed_is_there(start: Start) -> None:
    sandbox = await start(CODE)
    status, _ = await sandbox.execute("fails")
    assert status == 500
    await eventually(lambda: sandbox.lines(message="ValueError: on purpose"), "the traceback is in the log")
