"""A pool whose definition changes again and again under load: how many requests fail (none may)."""

from benchmarks.measuring import Row, running_platform
from e2e.load import Load
from e2e.platform_under_test import answering, app_files

CHANGES = 5
CLIENTS = 4
POOL = "      minInstances: 2\n      maxInstances: 3\n"


def rows() -> list[Row]:
    with running_platform() as platform:
        clone = platform.create(
            "changing", app_files("changing", answering("here"), mode="server", pool=POOL)
        )
        with Load(platform, "changing", {"here"}, clients=CLIENTS) as load:
            for number in range(1, CHANGES + 1):
                pool = f"{POOL}      timeoutSeconds: {number}\n"
                clone.deploy(app_files("changing", answering("here"), mode="server", pool=pool))
    failed = len(load.wrong)
    return [
        Row(
            f"requests that fail while a pool is replaced {CHANGES} times (reference: all requests)",
            str(failed),
            str(load.asked),
            failed / load.asked,
            "0",
            failed == 0,
        )
    ]
