"""The lanes of a pool: which of them takes the next request, and who waits when all are taken.

A lane (docs/architecture.md) is one socket of an instance and how many requests it takes at once. A pool
outlives the tables that name it, so that requests under way finish on their lane whatever a new table says.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

import orjson

from uhlp_core.unix_http import Connection, connect
from uhlp_gateway.load import Meter
from uhlp_state.documents import Lane as LaneDoc
from uhlp_state.documents import PoolLoad

SET_ASIDE_SECONDS = 0.2
"""A lane that cannot be reached, or says that it is full, is passed over for this long."""

SWEEP_SECONDS = 0.25
"""How exactly the backstop for handler timeouts is kept (the runner enforces the timeout itself)."""


class PoolBusy(Exception):
    """No lane came free in time, or the queue is full."""


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """What a PoolDefinition says about waiting."""

    max_queue: int
    queue_timeout: float
    """Seconds."""
    timeout: float
    """Seconds that a handler may run."""
    elastic: bool = False
    """Whether the number of its instances follows the load, so that somebody wants to know of it."""


class Instance:
    """A running sandbox, for the sum of what its lanes have under way."""

    __slots__ = ("capacity", "in_flight", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.capacity = 0
        self.in_flight = 0


class Lane:
    """One socket of an instance and the connections that this process keeps to it."""

    __slots__ = (
        "aside_until",
        "busy",
        "capacity",
        "context",
        "directory",
        "gone",
        "idle",
        "in_flight",
        "instance",
        "socket",
    )

    def __init__(self, instance: Instance, socket: str, capacity: int) -> None:
        self.instance = instance
        self.socket = socket
        self.capacity = capacity
        self.directory = str(PurePosixPath(socket).parent)
        self.context = b'"mcp_endpoint":' + orjson.dumps(f"unix:{self.directory}/mcp.sock") + b","
        """What the lane adds to a context (specification 2.4), as JSON members."""
        self.in_flight = 0
        self.idle: list[Connection] = []
        self.busy: set[Connection] = set()
        self.aside_until = 0.0
        self.gone = False

    async def open(self) -> Connection:
        """An idle connection, or a new one; raises OSError if the lane cannot be reached."""
        while self.idle:
            connection = self.idle.pop()
            if connection.usable:
                self.busy.add(connection)
                return connection
        connection = await connect(self.socket)
        self.busy.add(connection)
        return connection

    def give_back(self, connection: Connection) -> None:
        """Keep a connection for the next request, unless it or the lane is finished."""
        self.busy.discard(connection)
        if self.gone or not connection.usable:
            connection.close()
        else:
            self.idle.append(connection)

    def retire(self) -> None:
        """The lane vanished from the table: requests under way finish, nothing new comes."""
        self.gone = True
        while self.idle:
            self.idle.pop().close()


class Pool:
    """Hands out lanes, the least busy first, and keeps a bounded first-come-first-served queue."""

    def __init__(self, name: str, limits: PoolLimits, on_queue: Callable[[], None]) -> None:
        """`on_queue` is called when a request is the first to wait, or cannot even do that.

        Never for a pool that is not elastic: nobody could do anything about it.
        """
        self.name = name
        self.limits = limits
        self.meter = Meter()
        self.in_flight = 0
        self.loop = asyncio.get_running_loop()
        """Kept, for asking for it costs a system call."""
        self._lanes: dict[tuple[str, str], Lane] = {}
        self._retired: set[Lane] = set()
        self._order: tuple[Lane, ...] = ()
        self._on_queue = on_queue
        self._queue: deque[tuple[asyncio.Future[Lane], float]] = deque()
        self._queue_timer: asyncio.TimerHandle | None = None
        self._sweeper: asyncio.TimerHandle | None = None

    @property
    def depth(self) -> int:
        """Requests that wait for a lane."""
        return len(self._queue)

    @property
    def awake(self) -> bool:
        """Whether there is any lane at all."""
        return bool(self._order)

    @property
    def busy(self) -> bool:
        """Whether there was a request since the last `measure`."""
        return bool(self.meter.used or self.in_flight or self._queue)

    def measure(self) -> PoolLoad:
        """What the pool had to do since the last call."""
        meter, self.meter = self.meter, Meter()
        return meter.total(self.in_flight, len(self._queue))

    def update(self, limits: PoolLimits, wanted: Iterable[tuple[str, LaneDoc]]) -> None:
        """Take over the lanes of a new table: (instance, lane) each."""
        self.limits = limits
        before = self._lanes
        instances: dict[str, Instance] = {lane.instance.name: lane.instance for lane in before.values()}
        after: dict[tuple[str, str], Lane] = {}
        for name, item in wanted:
            key = (name, item.socket)
            lane = before.get(key)
            if lane is None:
                instance = instances.setdefault(name, Instance(name))
                lane = Lane(instance, item.socket, item.capacity)
            lane.capacity = item.capacity
            after[key] = lane
        for key, lane in before.items():
            if key not in after:
                lane.retire()
                if lane.in_flight:
                    self._retired.add(lane)
        for lane in after.values():
            lane.instance.capacity = 0
        for lane in after.values():
            lane.instance.capacity += lane.capacity
        self._lanes, self._order = after, tuple(after.values())
        self._serve_queue()

    def take(self) -> Lane | None:
        """The least busy lane with room, counted as taken; None if there is none or others wait already."""
        return None if self._queue else self._least_busy()

    async def wait(self, patience: float | None = None) -> Lane:
        """Queue for a lane, at most `patience` seconds (by default the pool's queue timeout).

        Raises PoolBusy.
        """
        if len(self._queue) >= self.limits.max_queue:
            self.meter.rejected += 1
            self._tell_of_queue()
            raise PoolBusy
        loop = self.loop
        began = loop.time()
        waiter: asyncio.Future[Lane] = loop.create_future()
        deadline = began + (self.limits.queue_timeout if patience is None else patience)
        entry = (waiter, deadline)
        if not self._queue:
            self._tell_of_queue()
        self._queue.append(entry)
        if self._queue_timer is None:
            self._queue_timer = loop.call_at(deadline, self._expire_queue)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self.release(waiter.result())
            elif entry in self._queue:
                self._queue.remove(entry)
            raise
        finally:
            self.meter.waited(loop.time() - began)

    def release(self, lane: Lane) -> None:
        """A request on this lane is over: the next in the queue gets it."""
        lane.in_flight -= 1
        lane.instance.in_flight -= 1
        self.in_flight -= 1
        if lane.gone and not lane.in_flight:
            self._retired.discard(lane)
        if self._queue:
            self._serve_queue()

    def set_aside(self, lane: Lane) -> None:
        """Pass over a lane for a moment; whoever waits is served when the moment is over."""
        loop = asyncio.get_running_loop()
        lane.aside_until = loop.time() + SET_ASIDE_SECONDS
        loop.call_later(SET_ASIDE_SECONDS, self._serve_queue)

    def watch(self) -> None:
        """See to it that deadlines of requests under way are looked at while there are any."""
        if self._sweeper is None:
            self._sweeper = self.loop.call_later(SWEEP_SECONDS, self._sweep)

    def retire(self) -> None:
        """The pool is gone from the table: its lanes finish what is under way."""
        self.update(self.limits, ())

    def close(self) -> None:
        """Drop every connection; requests under way end with ConnectionLost."""
        self.retire()
        for lane in self._retired:
            for connection in tuple(lane.busy):
                connection.close()
        for timer in (self._queue_timer, self._sweeper):
            if timer is not None:
                timer.cancel()

    def _tell_of_queue(self) -> None:
        if self.limits.elastic:
            self._on_queue()

    def _least_busy(self) -> Lane | None:
        best: Lane | None = None
        lightest = math.inf
        now = 0.0
        for lane in self._order:
            if lane.in_flight >= lane.capacity:
                continue
            if lane.aside_until:
                now = now or self.loop.time()
                if lane.aside_until > now:
                    continue
                lane.aside_until = 0.0
            load = lane.in_flight / lane.capacity + lane.instance.in_flight / lane.instance.capacity
            if load < lightest:
                best, lightest = lane, load
                if not load:
                    break
        if best is not None:
            best.in_flight += 1
            best.instance.in_flight += 1
            self.in_flight += 1
        return best

    def _serve_queue(self) -> None:
        queue = self._queue
        while queue:
            if queue[0][0].done():
                queue.popleft()
                continue
            lane = self._least_busy()
            if lane is None:
                return
            queue.popleft()[0].set_result(lane)

    def _expire_queue(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        live = [entry for entry in self._queue if not entry[0].done()]
        for waiter, deadline in live:
            if deadline <= now:
                self.meter.rejected += 1
                waiter.set_exception(PoolBusy())
        self._queue = deque(entry for entry in live if entry[1] > now)
        soonest = min((deadline for _, deadline in self._queue), default=None)
        self._queue_timer = None if soonest is None else loop.call_at(soonest, self._expire_queue)

    def _sweep(self) -> None:
        self._sweeper = None
        self.meter.sample(self.in_flight)
        now = asyncio.get_running_loop().time()
        for lane in (*self._order, *self._retired):
            for connection in tuple(lane.busy):
                connection.expire(now)
        if self.in_flight:
            self.watch()


class PoolSet:
    """The pools of one deployment by name. They live on from table to table."""

    def __init__(self, on_queue: Callable[[], None]) -> None:
        """`on_queue` is called when a request begins to wait for a lane of any of them."""
        self._on_queue = on_queue
        self.by_name: dict[str, Pool] = {}

    def update(
        self, limits: Mapping[str, PoolLimits], lanes: Mapping[str, Iterable[tuple[str, LaneDoc]]]
    ) -> None:
        """Take over the pools and lanes of a new table."""
        for name, its_limits in limits.items():
            pool = self.by_name.get(name)
            if pool is None:
                pool = self.by_name[name] = Pool(name, its_limits, self._on_queue)
            pool.update(its_limits, lanes.get(name, ()))
        for name in self.by_name.keys() - limits.keys():
            self.by_name.pop(name).retire()

    def retire(self) -> None:
        """The deployment is gone: requests under way finish, nothing new comes."""
        for pool in self.by_name.values():
            pool.retire()

    def close(self) -> None:
        """Drop every connection."""
        for pool in self.by_name.values():
            pool.close()
