"""What all measurements share: a row of the table, medians of interleaved rounds, a platform to measure."""

import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from e2e.platform_under_test import Platform


@dataclass(frozen=True)
class Row:
    """One line of the table: a figure, its reference in the same run, and their ratio."""

    what: str
    value: str
    reference: str
    ratio: float
    target: str
    met: bool


def milliseconds(work: Callable[[], object]) -> float:
    """How long one call takes."""
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1000


def interleaved(rounds: int, *works: Callable[[], object]) -> list[float]:
    """Median milliseconds of each work; they take turns, so that a drifting machine hits all alike."""
    times: list[list[float]] = [[] for _ in works]
    for work in works:
        work()
    for _ in range(rounds):
        for place, work in enumerate(works):
            times[place].append(milliseconds(work))
    return [statistics.median(each) for each in times]


def quietest(batches: Sequence[Sequence[float]], reference: int) -> Sequence[float]:
    """Of medians taken together, several times: those of the time at which the reference was quickest.

    For goals in milliseconds: whoever else uses the machine can double all of them for seconds, which no
    ratio shows. The reference alone decides, so nothing is chosen by its own result.
    """
    return min(batches, key=lambda batch: batch[reference])


def at_most(what: str, value: float, reference: float, limit: float, unit: str = "ms", note: str = "") -> Row:
    """A row whose ratio may not exceed `limit`."""
    ratio = value / reference
    return Row(
        what,
        f"{value:.2f} {unit}",
        f"{reference:.2f} {unit}",
        ratio,
        f"≤ {limit:g} ×{note}",
        ratio <= limit,
    )


def added(what: str, value: float, reference: float, limit: float) -> Row:
    """A row whose value may exceed its reference by `limit` milliseconds."""
    more = value - reference
    return Row(
        what,
        f"{value:.2f} ms",
        f"{reference:.2f} ms",
        more / limit,
        f"≤ {limit:g} ms added, as 1 ×",
        more <= limit,
    )


@contextmanager
def running_platform(**settings: str) -> Iterator[Platform]:
    """A platform of its own, up and running."""
    platform = Platform(settings=settings)
    try:
        platform.start()
        yield platform
    finally:
        platform.close()
