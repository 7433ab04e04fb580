"""What `uhlp app delete` does: the repo goes to the trash; with `--purge` goes all that is kept of the app.

A purge first has the app's sandboxes gone: what still ran would write into what is being removed, and the
next app of that name would read it.
"""

import asyncio
import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from uhlp_cli.live import require_redis, with_redis
from uhlp_core import keys
from uhlp_core.errors import UhlpError, Unavailable
from uhlp_core.home import Home

if TYPE_CHECKING:
    from uhlp_core.settings import Settings
    from uhlp_core.store import Store

GONE_SECONDS = 60.0
"""Sandboxes finish their requests first, which takes 30 s at most."""

SETTLE_SECONDS = 1.0
"""For what is written a moment later: gateways' last lines of log, and answers that nobody waits for."""

LOOK_SECONDS = 0.1


def move_to_trash(home: Home, app: str) -> Path:
    """Take an app's repo out of service; where it is then."""
    home.trash.mkdir(parents=True, exist_ok=True)
    target = home.trash / f"{app}-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}.git"
    home.repo(app).rename(target)
    return target


def kept_of(home: Home, app: str) -> list[Path]:
    """The folders that are kept of an app and its previews, its repos in the trash included."""
    one = re.compile(rf"{re.escape(app)}-\d{{8}}T\d{{6}}\.\d{{6}}Z\.git")
    folders = [home.trees / app, home.app_log(app).parent]
    for files in (home.data, home.mcp_servers):
        folders += [files / app, *sorted(files.glob(f"{app}@*"))]
    folders += [trashed for trashed in sorted(home.trash.glob(f"{app}-*.git")) if one.fullmatch(trashed.name)]
    return [folder for folder in folders if folder.is_dir()]


def purge(settings: "Settings", app: str) -> None:
    """Remove all that is kept of an app, its repo and its own secrets included, for good.

    Raises Unavailable while Redis cannot be reached (nothing has happened then) and where sandboxes of the
    app do not end (only its repo is in the trash then), InvalidInput where the secrets cannot be opened, and
    UhlpError that names a folder which cannot be removed.
    """
    from uhlp_core.removal import remove_folder
    from uhlp_core.secrets import local_secrets
    from uhlp_state.export import remove_tree

    home = settings.home
    # First what can fail, while nothing has happened yet.
    require_redis(settings)
    secrets = local_secrets(settings)
    secrets.list()
    if home.repo(app).exists():
        move_to_trash(home, app)
    with_redis(settings, lambda store: _forget(store, app))
    secrets.delete_all(app)
    # Renamed first: nobody takes what is left of a tree for the whole.
    remove_tree(home.trees / app)
    # What is in the trash goes last: until then the command can be given again.
    for folder in kept_of(home, app):
        try:
            remove_folder(folder)
        except OSError as error:
            raise UhlpError(
                f"{folder} could not be removed ({error.strerror}): see to it, then give "
                f"`uhlp app delete {app} --purge` again",
                code="NOT_REMOVED",
            ) from None


async def _forget(store: "Store", app: str) -> None:
    """Remove what Redis holds of an app, once nobody writes there any more."""
    await _until_gone(store, app)
    for pattern in keys.of_app(app):
        async for key in store.scan_iter(match=pattern, count=1000):
            await store.unlink(key)


async def _until_gone(store: "Store", app: str) -> None:
    """Wait until nothing of an app is served or runs any more; raises Unavailable if that takes too long."""
    if not await store.zcount(keys.GATEWAYS, time.time(), "+inf"):
        return  # The platform is down.
    described = (keys.registry, keys.routes, keys.instances)
    deployments = {app}
    for make in described:
        async for key in store.scan_iter(match=make(f"{app}@*"), count=1000):
            deployments.add(key.decode().rpartition(":")[2])
    left = [make(deployment) for deployment in deployments for make in described]
    until = time.monotonic() + GONE_SECONDS
    while await store.exists(*left):
        if time.monotonic() > until:
            raise Unavailable(
                f"{app} still has sandboxes after {GONE_SECONDS:g} s, so its files are kept; its repo is in "
                f"the trash. See `uhlp doctor`, then give `uhlp app delete {app} --purge` again",
                code="STILL_RUNNING",
            )
        await asyncio.sleep(LOOK_SECONDS)
    await asyncio.sleep(SETTLE_SECONDS)
