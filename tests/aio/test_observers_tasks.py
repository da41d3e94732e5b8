"""Observers on asyncio that start tasks, and wait for them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from consul_locker import aio, signals
from consul_locker.aio import observers as aio_delivery
from consul_locker.embedded import Agent

from ..behaviour.tools import WAIT

#: In place of `PATIENCE`, in seconds: a call that waits for the observer that waits for it does not end in time.
FOR_EVER = 10 * WAIT


def heard(observe: Callable[[aio.Locker], Coroutine[Any, Any, aio.Lease]]) -> aio.Lease | BaseException:
    """What comes of a call in an observer, which hears that a lock was granted, and has observers itself."""
    came: asyncio.Future[Any]

    async def granted(sender: aio.Locker, *, id: str, **facts: object) -> None:
        if id == "first":
            try:
                came.set_result(await observe(sender))
            except RuntimeError as error:
                came.set_result(error)

    async def main() -> Any:
        nonlocal came
        came = asyncio.get_running_loop().create_future()
        with Agent() as agent:
            async with aio.LockerFactory(agent.address) as factory:
                locker = factory.create("n")
                with signals.lock_acquired.connected_to(granted, sender=locker):
                    await locker.lock("first", timeout=WAIT)
                    return await asyncio.wait_for(came, WAIT)

    return asyncio.run(main())  # type: ignore[no-any-return]


@pytest.mark.parametrize("how", ["a task", "gather"])
def test_an_observer_that_waits_for_a_task_does_not_wait_for_itself(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    monkeypatch.setattr(aio_delivery, "PATIENCE", FOR_EVER)

    async def observe(sender: aio.Locker) -> aio.Lease:
        if how == "a task":
            return await asyncio.create_task(sender.lock("second"))
        return (await asyncio.gather(sender.lock("second")))[0]

    lease = heard(observe)
    assert isinstance(lease, aio.Lease)
    assert lease.id == "second"


def test_wait_for_in_an_observer_does_not_wait_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before Python 3.12 it starts a task; from then on it runs in the observer's own, where no call waits."""
    monkeypatch.setattr(aio_delivery, "PATIENCE", FOR_EVER)

    async def observe(sender: aio.Locker) -> aio.Lease:
        return await asyncio.wait_for(sender.lock("second"), WAIT)

    assert isinstance(heard(observe), aio.Lease if sys.version_info < (3, 12) else RuntimeError)


def test_a_task_that_outlives_its_observer_waits_for_signals_again() -> None:
    """What was started in an observer is as any other task once that has returned."""
    order: list[str] = []

    async def main() -> None:
        tasks: list[asyncio.Task[None]] = []
        over = asyncio.Event()

        async def later(locker: aio.Locker) -> None:
            await over.wait()
            await locker.lock("second")
            order.append("answered")

        async def granted(sender: aio.Locker, *, id: str, **facts: object) -> None:
            if id == "first":
                tasks.append(asyncio.create_task(later(sender)))
            else:
                for _ in range(50):
                    await asyncio.sleep(0)
                order.append("heard")

        async with aio.LockerFactory.embedded() as factory:
            locker = factory.create("n")
            with signals.lock_acquired.connected_to(granted, sender=locker):
                await locker.lock("first", timeout=WAIT)
                over.set()
                await tasks[0]

    asyncio.run(main())
    assert order == ["heard", "answered"]
