"""The asyncio face: its calls.

That cancelling leaves nothing behind is in test_cancellation.py, that both faces have the same names in
test_surfaces.py.
"""

from __future__ import annotations

import asyncio
import traceback
from typing import Any

import pytest

from consul_locker import (
    AlreadyLocked,
    ConfigurationError,
    LockTimeout,
    SessionEnded,
)
from consul_locker.aio import LockerFactory
from consul_locker.embedded import Agent

from .tools import LIMIT, Run

# --------------------------------------------------------------------------------------------- calls


def test_the_calls(agent: Any, run: Run) -> None:
    """Each of them once, on the embedded agent and on a real one."""

    async def main() -> None:
        async with LockerFactory(agent.address) as factory, factory.create("aio-calls") as locker:
            assert locker.state == "acquiring"
            lease = await locker.lock(1)
            assert locker.state == "ready"
            assert await locker.lock("1") is lease
            assert locker.held == {"1": lease}
            assert lease.valid
            assert [one.id for one in await locker.lock_many(["3", 2, 3])] == ["3", "2", "3"]
            assert await locker.lock_many([]) == []
            info, holder = await locker.info(1), await locker.holder(1)
            assert info is not None
            assert holder is not None
            assert info.fence == holder.fence == lease.fence
            assert holder.session == await locker.session_info() == await locker.session_info(locker.session_id)
            assert await locker.holder("nobody has it") is None
            (entry,) = await locker.guarded(lease, [{"KV": {"Verb": "get", "Key": lease.key}}])
            assert entry.fence == lease.fence
            delete = {"KV": {"Verb": "delete", "Key": "aio-calls/none"}}
            assert await locker.guarded(lease, [delete]) == await locker.guarded(lease, []) == []
            assert await locker.release(1)
            assert await lease.wait_lost() == "released"
            assert await locker.release(1) is False
            assert await locker.release_all() == 2
            assert locker.stats()["granted"] == 3
            assert repr(locker) == "<consul_locker.aio.Locker 'aio-calls' ready held=0>"
            assert agent.address in repr(factory)

    run(main)


def test_many_tasks_that_want_one_lock(embedded: Agent, run: Run) -> None:
    """They share a request, its answer, and its refusal; each has an error of its own, with its own frames only."""

    async def main() -> None:
        async with LockerFactory(embedded.address) as factory:
            holder, locker = factory.create("shared"), factory.create("shared")
            first, *others = await asyncio.gather(*(holder.lock("a") for _ in range(500)))
            assert all(lease is first for lease in others)
            assert holder.stats()["requests"] == 1
            errors = await asyncio.gather(*(locker.lock("a") for _ in range(500)), return_exceptions=True)
            assert {type(error) for error in errors} == {AlreadyLocked}
            assert len(set(map(id, errors))) == 500
            assert {len(list(traceback.walk_tb(error.__traceback__))) for error in errors} == {2}
            assert locker.stats()["requests"] == 1
            await holder.release("a")
            order: list[int] = []

            async def holding(number: int) -> None:
                async with locker.hold("a", wait=None):
                    order.append(number)

            await asyncio.gather(*map(holding, range(500)))
            assert order == list(range(500))

    run(main)


def test_life(embedded: Agent, run: Run) -> None:
    async def main() -> None:
        async with LockerFactory(embedded.address) as factory:
            locker = factory.create("life")
            assert await locker.session_info() is None
            assert await locker.wait_for_state("acquiring")
            assert not await locker.wait_for_state("stopped", 0)
            assert await locker.wait_for_state("ready", LIMIT)
            locker.start()
            assert locker.state == "ready"
            stopped = asyncio.ensure_future(locker.wait_for_state("stopped"))
            await locker.stop()
            locker.start()  # a state that was there for a moment was there
            assert await stopped
            locker.reboot()
            assert locker.state == "paused"
            with pytest.raises(LockTimeout):
                await locker.lock("a", timeout=0.01)
            locker.start()
            assert (await locker.lock("a", timeout=LIMIT)).valid
            await locker.stop(timeout=1)
            with pytest.raises(SessionEnded):
                await locker.lock("a")
            with pytest.raises(ConfigurationError):
                await locker.wait_for_state("asleep")

    run(main)


def test_nothing_is_pending_after_a_stop(embedded: Agent, run: Run) -> None:
    """Nor is a session left by one that came while the session was being created."""

    async def main() -> None:
        async with LockerFactory(embedded.address) as factory:
            for ready in (True, False):
                locker = factory.create("pending")
                if ready:
                    await locker.lock("a")
                await locker.stop()
                for _ in range(10):  # rounds in which cancelled tasks end, one within another
                    await asyncio.sleep(0)
                named = {task.get_coro().__qualname__ for task in asyncio.all_tasks()}
                assert not [name for name in named if name.startswith("IoLoop.")]
                requests = embedded.requests
                assert requests["PUT", "/v1/session/create"] == requests["PUT", "/v1/session/destroy/"]

    run(main)


def test_a_stop_whose_time_is_over_ends_all_the_same(embedded: Agent, run: Run) -> None:
    async def main() -> None:
        factory = LockerFactory(embedded.address, timeout=0.2)
        locker = factory.create("hurried")
        lease = await locker.lock("a")
        with embedded.pause():
            await locker.stop(timeout=0.05)
            assert locker.state == "stopped"
            assert not lease.valid
            await factory.close(timeout=0.05)

    run(main)


def test_a_start_during_a_stop_is_not_waited_for(embedded: Agent, run: Run) -> None:
    async def main() -> None:
        async with LockerFactory(embedded.address) as factory:
            locker = factory.create("restarted")
            await locker.lock("a")
            stop = asyncio.ensure_future(locker.stop())
            await asyncio.sleep(0)
            locker.start()
            await stop
            assert (await locker.lock("a")).valid

    run(main)


def test_arguments_are_checked(embedded: Agent, run: Run) -> None:
    async def main() -> None:
        async with LockerFactory(embedded.address) as factory:
            locker = factory.create("checked")
            lease = await locker.lock("a")
            for wrong in (
                lambda: locker.lock("b", wait=-1),
                lambda: locker.stop(-1),
                lambda: lease.wait_lost(-1),
                lambda: locker.wait_for_state("ready", -1),
                lambda: locker.lock_many("ab"),
                lambda: factory.close(-1),
            ):
                with pytest.raises(ConfigurationError):
                    await wrong()

    run(main)


# ----------------------------------------------------------------------------------------- observers


def test_the_view_as_a_machine(embedded: Agent, run: Run, caplog: pytest.LogCaptureFixture) -> None:
    heard: list[Any] = []

    async def main() -> None:
        async with LockerFactory(embedded.address) as factory:
            locker = factory.create("view")
            locker.fsm.on("transition", lambda data: heard.append(data["to_state"]))
            locker.fsm.on("deferred", lambda data: 1 / 0)
            lease = await locker.fsm.handle("lock", "a")
            assert lease.valid
            assert await locker.fsm.handle("release", "a") is True
            assert locker.fsm.handle("start") is None
            assert await locker.fsm.handle("stop") is None
            assert heard == ["ready", "stopped"]

    run(main)
