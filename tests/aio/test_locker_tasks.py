"""Calls on asyncio within what Python has for tasks: groups, time-outs, eager tasks, cancellation of all."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from consul_locker import (
    ConfigurationError,
    LockLost,
    LockTimeout,
    signals,
)
from consul_locker.aio import Locker, LockerFactory
from consul_locker.core.calls import ReadSessionInfo
from consul_locker.core.requests import Transact, Watch
from consul_locker.embedded import Agent

from .tools import Run, since_311


@since_311
def test_task_groups_and_timeouts(embedded: Agent, run: Run) -> None:
    async def main() -> None:
        async with LockerFactory(embedded.address) as factory:
            locker, other = factory.create("groups"), factory.create("groups")
            async with locker.hold("a"):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.02):
                        await other.lock("a", wait=None)
            assert (await other.lock("a")).valid
            assert await other.release("a")

            async def losing() -> None:
                async with locker.hold("a") as lease:
                    embedded.expire_session(lease.session_id)
                    await lease.wait_lost()
                    lease.check()

            with pytest.raises(Exception, match="unhandled errors in a TaskGroup") as group:
                async with asyncio.TaskGroup() as tasks:
                    waiting = tasks.create_task(locker.hold("b").__aenter__())
                    tasks.create_task(other.wait_for_state("stopped"))
                    tasks.create_task(losing())
            assert LockLost in map(type, group.value.exceptions)
            assert waiting.done()

    run(main)


async def _entered(manager: Any) -> None:
    async with manager:
        raise AssertionError("unreachable")


@since_311
def test_a_timeout_around_each_call(embedded: Agent, run: Run) -> None:
    """While the agent is silent; once it answers again nothing is left of the calls."""
    calls: dict[str, Callable[[Locker, Any], Awaitable[Any]]] = {
        "lock": lambda locker, lease: locker.lock("b"),
        "lock_many": lambda locker, lease: locker.lock_many(["c", "d"]),
        "hold": lambda locker, lease: _entered(locker.hold("e")),
        "hold_many": lambda locker, lease: _entered(locker.hold_many(["f", "g"])),
        "info": lambda locker, lease: locker.info("a"),
        "holder": lambda locker, lease: locker.holder("a"),
        "session_info": lambda locker, lease: locker.session_info(),
        "guarded": lambda locker, lease: locker.guarded(lease, []),
        "wait_for_state": lambda locker, lease: locker.wait_for_state("stopped"),
        "wait_lost": lambda locker, lease: lease.wait_lost(),
        "release": lambda locker, lease: locker.release("a"),
        "release_all": lambda locker, lease: locker.release_all(),
        "stop": lambda locker, lease: locker.stop(),
        "close": lambda locker, lease: locker._factory.close(),
    }

    async def main() -> None:
        async with LockerFactory(embedded.address) as factory:
            locker = factory.create("limited")
            lease = await locker.lock("a")
            with embedded.pause():
                for name, call in calls.items():
                    with pytest.raises(TimeoutError) as over:
                        async with asyncio.timeout(0.01):
                            await call(locker, lease)
                    assert not isinstance(over.value, LockTimeout), name
            assert locker.state == "stopped"
            assert not locker.held
        assert not factory._io_loop._tasks

    run(main)
    requests = embedded.requests
    assert requests["PUT", "/v1/session/create"] == 1
    assert requests["PUT", "/v1/session/destroy/"] >= 1


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")
@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop], ids=["asyncio"])  # uvloop knows no eager tasks on 3.13
def test_eager_tasks(embedded: Agent, run: Run) -> None:
    """Signals are delivered, and no observer is called before the call that made them has gone on."""
    heard: list[str] = []

    def observer(sender: Locker, id: str, **facts: Any) -> None:
        heard.append(id)

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        async with LockerFactory(embedded.address) as factory, factory.create("eager") as locker:
            with signals.lock_acquired.connected_to(observer, sender=locker):
                await locker.lock("a")
                await locker.lock("b")
                assert heard == ["a", "b"]
            refused = ReadSessionInfo("/")  # before it is sent, so its task is over at once
            with pytest.raises(ConfigurationError):
                await locker._ask(refused)
            await asyncio.sleep(0)
            assert not [request for request in factory._io_loop._tasks if not isinstance(request, Watch)]

    run(main)


def test_a_program_whose_tasks_are_all_cancelled_ends(embedded: Agent, run: Run) -> None:
    """As `asyncio.run` does at its end, the library's own included: leaving a hold waits for none of their requests."""

    async def main() -> None:
        kept = asyncio.all_tasks()
        inside = asyncio.Event()
        async with LockerFactory(embedded.address) as factory, factory.create("cancelled") as locker:

            async def holding() -> None:
                async with locker.hold("a"):
                    inside.set()
                    await asyncio.Event().wait()

            holder = asyncio.ensure_future(holding())
            await inside.wait()
            with embedded.pause():
                other = asyncio.ensure_future(locker.lock("b"))
                io_loop = factory._io_loop
                while not [one for one in (*io_loop._tasks, *io_loop._without_task) if isinstance(one, Transact)]:
                    await asyncio.sleep(0)
                for task in asyncio.all_tasks() - kept:
                    task.cancel()
                await asyncio.wait({other})
            await asyncio.wait({holder})
            assert holder.cancelled()
            assert other.cancelled()
            assert (await locker.lock("a")).valid

    run(main)
