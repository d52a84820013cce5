"""Deadlines of tasks: who is past its time is cancelled, and can tell that from another cancellation."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from gateway.deadlines import Deadlines

Scene = Callable[[Deadlines], Coroutine[Any, Any, Any]]


def play(scene: Scene) -> Any:
    async def main() -> Any:
        deadlines = Deadlines()
        try:
            return await asyncio.wait_for(scene(deadlines), 20.0)
        finally:
            deadlines.close()

    return asyncio.run(main())


async def guarded(deadlines: Deadlines, seconds: float, work: Coroutine[Any, Any, Any]) -> str:
    """As the proxy does it: what became of `work` under a deadline."""
    task = asyncio.current_task()
    assert task is not None
    deadlines.set(task, seconds)
    try:
        await work
    except asyncio.CancelledError:
        if deadlines.expired(task):
            return "expired"
        raise
    finally:
        deadlines.clear(task)
    return "done"


def test_a_task_past_its_time_is_cancelled_and_goes_on() -> None:
    async def scene(deadlines: Deadlines) -> tuple[str, int]:
        task = asyncio.create_task(guarded(deadlines, 0.0, asyncio.Event().wait()))
        return await task, task.cancelling()

    assert play(scene) == ("expired", 0)


def test_a_task_in_time_is_left_alone() -> None:
    async def scene(deadlines: Deadlines) -> str:
        return await asyncio.create_task(guarded(deadlines, 3600.0, asyncio.sleep(0.25)))

    assert play(scene) == "done"


def test_a_new_deadline_takes_the_olds_place() -> None:
    async def later(deadlines: Deadlines, seconds: float, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.current_task()
        assert task is not None
        deadlines.set(task, seconds)
        await work

    async def scene(deadlines: Deadlines) -> list[str]:
        longer = guarded(deadlines, 0.0, later(deadlines, 3600.0, asyncio.sleep(0.25)))
        shorter = guarded(deadlines, 3600.0, later(deadlines, 0.0, asyncio.Event().wait()))
        return await asyncio.gather(asyncio.create_task(longer), asyncio.create_task(shorter))

    assert play(scene) == ["done", "expired"]


def test_another_cancellation_is_none_of_its_business() -> None:
    async def scene(deadlines: Deadlines) -> bool:
        task = asyncio.create_task(guarded(deadlines, 3600.0, asyncio.Event().wait()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return task.cancelled()

    assert play(scene) is True


def test_both_at_once_is_the_other_cancellation() -> None:
    async def scene(deadlines: Deadlines) -> None:
        task = asyncio.create_task(guarded(deadlines, 0.0, asyncio.Event().wait()))
        await asyncio.sleep(0)
        deadlines._timer.cancel()
        deadlines._sweep()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not deadlines._expired

    play(scene)


def test_nothing_is_kept_of_tasks_that_are_over() -> None:
    async def scene(deadlines: Deadlines) -> tuple[int, int]:
        tasks = [
            asyncio.create_task(guarded(deadlines, place % 2 * 3600.0, asyncio.sleep(0.15))) for place in range(20)
        ]
        await asyncio.gather(*tasks)
        late = asyncio.create_task(asyncio.sleep(0))
        await late
        deadlines.set(late, 0.0)
        deadlines._timer.cancel()
        deadlines._sweep()
        return len(deadlines._due), len(deadlines._expired)

    assert play(scene) == (0, 0)
