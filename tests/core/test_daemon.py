"""What daemons share: tasks end, also those whose library swallows a cancellation."""

import asyncio

from uhlp_core import daemon


async def test_a_swallowed_cancellation_is_repeated(monkeypatch) -> None:
    monkeypatch.setattr(daemon, "CANCEL_AGAIN_SECONDS", 0.01)
    told = 0

    async def stubborn() -> None:
        nonlocal told
        while told < 3:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                told += 1

    async def obedient() -> None:
        await asyncio.Event().wait()

    tasks = [asyncio.create_task(work()) for work in (stubborn, obedient)]
    await asyncio.sleep(0)
    await daemon.cancel(tasks)
    assert told == 3
    assert [task.done() for task in tasks] == [True, True]
