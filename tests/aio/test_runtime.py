"""What a stop leaves on the event loop: nothing of its Locker's."""

from __future__ import annotations

import asyncio
import warnings
from typing import Any

import pytest

from consul_locker import SessionEnded
from consul_locker.aio import LockerFactory

from ..behaviour.tools import WAIT, eventually


def rest() -> set[asyncio.Task[Any]]:
    """The tasks of the running loop, but for this one."""
    return asyncio.all_tasks() - {asyncio.current_task()}


@pytest.mark.parametrize("ttl", [15.0, None], ids=["ttl", "without a ttl"])
def test_no_task_is_pending_after_a_stop(agent: Any, ttl: float | None) -> None:
    async def main() -> None:
        factory = LockerFactory(agent.address)
        locker = factory.create("stops", ttl=ttl)
        await locker.lock("a", timeout=WAIT)
        await eventually(lambda: any("Watches" in repr(task) for task in rest()))  # its session is watched
        await locker.stop()
        assert not rest()
        await factory.close()

    asyncio.run(main())


def test_a_call_that_waits_leaves_no_task_either(agent: Any) -> None:
    async def main() -> None:
        factory = LockerFactory(agent.address)
        other, locker = factory.create("waits"), factory.create("waits")
        await other.lock("a", timeout=WAIT)
        waiting = asyncio.ensure_future(locker.lock("a", wait=None))
        await eventually(lambda: locker.stats()["denied"])
        await locker.stop()
        with pytest.raises(SessionEnded):
            await waiting
        await other.stop()
        assert not rest()
        await factory.close()

    asyncio.run(main())


def test_a_loop_that_is_closed_after_a_stop_has_nothing_to_say(agent: Any) -> None:
    """asyncio says of each task that it throws away: "Task was destroyed but it is pending"."""
    said: list[Any] = []
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda loop, context: said.append(context))

    async def main() -> LockerFactory:
        factory = LockerFactory(agent.address)
        async with factory.create("closes") as locker:
            await locker.lock("a", timeout=WAIT)
        return factory

    factory = loop.run_until_complete(main())
    pending = asyncio.all_tasks(loop)
    loop.run_until_complete(factory.close())
    loop.close()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        del factory
    assert not pending
    assert not said


def test_calls_of_one_round_of_the_loop_go_together(agent: Any) -> None:
    """Also those that an answer has woken; while nothing is in flight the first call goes at once."""

    async def main() -> None:
        async with LockerFactory(agent.address) as factory, factory.create("together") as locker:
            assert await locker.wait_for_state("ready", WAIT)
            begun = locker.stats()["transactions"]

            async def worker(number: int) -> None:
                for turn in range(3):
                    await locker.lock(f"{number}-{turn}")

            await asyncio.gather(*map(worker, range(16)))
            # One for the first call; then two in turn, each with some half of the callers. Alone they would need 48.
            assert locker.stats()["transactions"] - begun <= 16
            assert len(locker.held) == 48

    asyncio.run(main())
