"""A lease on asyncio: who hears that it is lost, and where it can be waited for."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from consul_locker import (
    LockLost,
)
from consul_locker.aio import LockerFactory
from consul_locker.embedded import Agent

from .tools import LIMIT, Run, since_311

# --------------------------------------------------------------------------------------------- calls


def test_a_hold_says_that_its_lock_was_lost(embedded: Agent, run: Run) -> None:
    async def main() -> None:
        async with LockerFactory(embedded.address) as factory, factory.create("losing") as locker:
            with pytest.raises(LockLost, match="session destroyed"):
                async with locker.hold("a") as lease:
                    assert await lease.wait_lost(0) is None
                    embedded.expire_session(lease.session_id)
                    assert await lease.wait_lost() == "session destroyed"
            with pytest.raises(KeyError, match="the body's own") as raised:
                async with locker.hold("a"):
                    locker.reboot()
                    raise KeyError("the body's own")
            (note,) = raised.value.__notes__
            assert "rebooted" in note
            with pytest.raises(KeyError, match="nothing lost"):
                async with locker.hold("a"):
                    raise KeyError("nothing lost")

    run(main)


def test_who_waits_no_longer_keeps_no_other_from_hearing_of_the_end(embedded: Agent, run: Run) -> None:
    async def main() -> None:
        async with LockerFactory(embedded.address) as factory, factory.create("losing") as locker:
            lease = await locker.lock("a")
            waits = asyncio.ensure_future(lease.wait_lost())
            await asyncio.sleep(0)
            assert await lease.wait_lost(0) is None
            assert lease.awaited
            await locker.release("a")
            assert await waits == "released"
            assert not lease.awaited

    run(main)


# --------------------------------------------------------------------------------------------- loops


@since_311
def test_work_is_cancelled_when_its_lock_is_lost(embedded: Agent, run: Run) -> None:
    """`wait_lost` beside the work in a task group, as docs/asyncio.rst shows it."""
    ends: list[str] = []

    async def main() -> None:
        async with LockerFactory(embedded.address) as factory, factory.create("guarded") as locker:

            async def work() -> None:
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    ends.append("cancelled")
                    raise

            async def watch(lease: Any) -> None:
                await lease.wait_lost()
                lease.check()

            with pytest.raises(Exception, match="unhandled errors in a TaskGroup") as failed:
                async with locker.hold("a") as lease, asyncio.TaskGroup() as group:
                    group.create_task(watch(lease))
                    group.create_task(work())
                    embedded.expire_session(lease.session_id)
            (lost,) = failed.value.exceptions
            assert isinstance(lost, LockLost)
            assert ends == ["cancelled"]

    run(main)


def test_a_lease_belongs_to_one_loop(embedded: Agent, run: Run) -> None:
    leases: list[Any] = []

    async def first() -> None:
        async with LockerFactory(embedded.address) as factory:
            locker = factory.create("one loop")
            leases.append(await locker.lock("a"))
            with ThreadPoolExecutor() as pool, pytest.raises(RuntimeError, match="event loop of its Locker"):
                pool.submit(lambda: run(leases[0].wait_lost)).result(LIMIT)

    async def later() -> None:
        assert await leases[0].wait_lost() == "stopped"

    run(first)
    run(later)  # it is over: there is nothing to wait for, on whatever loop
