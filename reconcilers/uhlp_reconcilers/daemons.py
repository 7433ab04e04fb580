"""The reconciler daemons as they run: each one's reconciler, its loop, and what wakes it.

`uhlp daemon NAME` runs one of them alone, `uhlp up` all of them; both call `main(name)`.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

from uhlp_core import keys, store, wake
from uhlp_core.daemon import Main, cancel
from uhlp_core.errors import UhlpError
from uhlp_core.settings import Settings
from uhlp_core.store import UNAVAILABLE, Store
from uhlp_reconcilers.backends.by_isolation import ByIsolation
from uhlp_reconcilers.backends.docker import DockerBackend
from uhlp_reconcilers.backends.docker_engine import Engine
from uhlp_reconcilers.backends.process import ProcessBackend
from uhlp_reconcilers.backends.protocol import BackendError
from uhlp_reconcilers.cleanup import Cleanup
from uhlp_reconcilers.environments.environments import Environments
from uhlp_reconcilers.environments.in_container import InContainer
from uhlp_reconcilers.environments.in_process import InProcess
from uhlp_reconcilers.environments.installer import Installer
from uhlp_reconcilers.loop import Loop
from uhlp_reconcilers.receive_door import ReceiveDoor
from uhlp_reconcilers.ref_watch import RefEvents, RefPoll
from uhlp_reconcilers.registry import Registry
from uhlp_reconcilers.rollouts import Rollouts
from uhlp_reconcilers.routes import Routes
from uhlp_reconcilers.sandboxes import Sandboxes
from uhlp_reconcilers.usage import Usage
from uhlp_state.model.pools import Isolation
from uhlp_state.parse_cache import ParseCache

log = logging.getLogger(__name__)

HEALTH_INTERVAL = 5.0
CLEANUP_INTERVAL = 60.0
STARTUP_RETRY = 0.5


def backend(settings: Settings) -> ByIsolation:
    """What runs the sandboxes of this home."""
    home = settings.home
    return ByIsolation(ProcessBackend(home), DockerBackend(home), Isolation(settings.isolation))


async def registry(settings: Settings, stop: asyncio.Event) -> None:
    """Git → registry documents; also the door for the Git hooks."""
    async with _connected(settings) as redis:
        cache = ParseCache()
        reconciler = Registry(settings.home, redis, cache)
        loop = Loop(reconciler, redis)
        reconciler.enqueue = loop.enqueue
        rollouts = Rollouts(redis)
        await _until_it_works(lambda: _start_registry(reconciler, loop, redis))

        async def changed() -> None:
            while True:
                app = await moved.get()
                try:
                    await reconciler.discover(app)
                except (*UNAVAILABLE, UhlpError, OSError) as error:
                    log.warning("cannot read the repo, keeping what is known: %s", error, extra={"app": app})

        async def follow_status() -> None:
            async for _, deployment in wake.listen(redis, "status"):
                rollouts.changed(deployment)
                if deployment is not None:
                    with contextlib.suppress(*UNAVAILABLE):
                        report = (await rollouts.reports(deployment)).get("routes")
                        if report and report.applied:
                            await reconciler.note_live(deployment, report.applied)

        moved: asyncio.Queue[str] = asyncio.Queue()
        work = [changed(), follow_status(), ReceiveDoor(settings, reconciler, rollouts, cache).serve(stop)]
        if settings.ref_watch:
            work.append(RefEvents(settings.home.repos, moved.put_nowait).run())
        if settings.ref_poll_seconds:
            poll = RefPoll(settings.home.repos, moved.put_nowait)
            work.append(poll.run(settings.ref_poll_seconds))
        await _run(stop, loop, work)


async def sandboxes(settings: Settings, stop: asyncio.Event) -> None:
    """Registry documents → running instances."""
    async with _connected(settings) as redis:
        sandbox_backend = backend(settings)
        engine = Engine()
        in_container = InContainer(settings, engine, sandbox_backend.container_image)
        installers: dict[Isolation, Installer] = {
            Isolation.PROCESS: InProcess(settings),
            Isolation.DOCKER: in_container,
            Isolation.GVISOR: in_container,
        }
        environments = Environments(settings, installers, sandbox_backend.resolved)
        reconciler = Sandboxes(
            settings.home, redis, sandbox_backend, environments, settings.preview_idle_seconds
        )
        loop = Loop(reconciler, redis)
        reconciler.enqueue = environments.enqueue = loop.enqueue
        await _until_it_works(lambda: _resume(loop, redis))
        await _until_it_works(reconciler.adopt)

        async def check_health() -> None:
            while True:
                await asyncio.sleep(HEALTH_INTERVAL)
                await reconciler.check_health()

        work = [
            _enqueue_woken(loop, redis, "registry", "routes", "acks", "demand"),
            check_health(),
            Usage(redis, sandbox_backend, reconciler.held).run(),
        ]
        await _run(stop, loop, work)
        await reconciler.close()
        await environments.close()
        engine.close()
        sandbox_backend.close()


async def routes(settings: Settings, stop: asyncio.Event) -> None:
    """Instances ready → routes published."""
    async with _connected(settings) as redis:
        loop = Loop(Routes(redis), redis)
        await _until_it_works(lambda: _resume(loop, redis))
        await _run(stop, loop, [_enqueue_woken(loop, redis, "registry", "instances", "acks")])


async def cleanup(settings: Settings, stop: asyncio.Event) -> None:
    """What Git does not name any more → removed; logs rotated, repos maintained."""
    async with _connected(settings) as redis:
        reconciler = Cleanup(settings.home, redis)

        async def sweep() -> None:
            while True:
                try:
                    await reconciler.sweep()
                except (*UNAVAILABLE, UhlpError, OSError) as error:
                    log.warning("nothing is removed this time: %s", error)
                await asyncio.sleep(CLEANUP_INTERVAL)

        await _run(stop, None, [sweep()])


MAINS: dict[str, Main] = {
    "registry": registry,
    "sandboxes": sandboxes,
    "routes": routes,
    "cleanup": cleanup,
}
"""Every reconciler daemon by its name on the command line."""


@contextlib.asynccontextmanager
async def _connected(settings: Settings) -> AsyncIterator[Store]:
    redis = store.connect(settings)
    try:
        yield redis
    finally:
        await redis.aclose()


async def _start_registry(reconciler: Registry, loop: Loop, redis: Store) -> None:
    await _resume(loop, redis)
    await reconciler.start()


async def _resume(loop: Loop, redis: Store) -> None:
    await loop.resume(sorted(raw.decode() for raw in await redis.smembers(keys.DEPLOYMENTS)))


async def _until_it_works(attempt: Callable[[], Awaitable[None]]) -> None:
    """A daemon may be up before Redis or the Docker engine is, or while the repos are out of reach."""
    while True:
        try:
            return await attempt()
        except (*UNAVAILABLE, OSError, BackendError) as error:
            log.warning("cannot start yet: %s", error)
            await asyncio.sleep(STARTUP_RETRY)


async def _enqueue_woken(loop: Loop, redis: Store, *kinds: str) -> None:
    """Enqueue what is nudged; everything after a gap in the nudges."""
    async for _, deployment in wake.listen(redis, *kinds):
        if deployment is not None:
            loop.enqueue(deployment)
            continue
        with contextlib.suppress(*UNAVAILABLE):
            for raw in await redis.smembers(keys.DEPLOYMENTS):
                loop.enqueue(raw.decode())
            for known in loop.known():
                loop.enqueue(known)


async def _run(stop: asyncio.Event, loop: Loop | None, work: list[Coroutine[Any, Any, None]]) -> None:
    """Run the daemon's parts until it is told to stop; a part that fails takes the daemon down.

    Its supervisor starts it again: nothing is lost, and half a daemon would be worse than none.
    """
    tasks = [asyncio.create_task(part) for part in work]
    stopping = asyncio.create_task(stop.wait())
    pending = {stopping, *tasks}
    try:
        while not stopping.done():
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopping}:
                task.result()
    finally:
        await cancel((stopping, *tasks))
        if loop is not None:
            await loop.close()
