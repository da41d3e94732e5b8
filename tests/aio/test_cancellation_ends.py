"""Cancelling a stop, a close, or a whole program leaves nothing behind; test_cancellation.py says how."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from consul_locker.aio import LockerFactory
from consul_locker.embedded import Agent

from .stepped import (
    CALLS,
    HOW,
    LIMIT,
    Calls,
    _lock_and_release,
    a_factory,
    ask,
    cancelled,
    leftovers,
    own_tasks,
    quiet,
    sweep,
)


@pytest.fixture(scope="module")
def agent() -> Iterator[Agent]:
    with Agent() as embedded:
        yield embedded


@pytest.mark.parametrize("state", ["ready", "acquiring", "paused"])
@HOW
def test_a_cancelled_stop_stops_all_the_same(agent: Agent, state: str, how: str) -> None:
    async def one(rounds: int) -> bool:
        async with a_factory(agent) as factory:
            locker = factory.create("sweep")
            leases = []
            if state == "ready":
                leases = await locker.lock_many(["a", "b"])
            elif state == "paused":
                locker.reboot()
            assert locker.state == state
            done = await cancelled(lambda: locker.stop(), rounds, how)
            await quiet(locker)
            if rounds:  # with 0 it was never called
                assert locker.state == "stopped"
                assert leftovers(locker) == []
                assert not any(lease.valid for lease in leases)
                assert ask(agent, "/v1/session/list") == []
            return done

    assert sweep(one) > 0


@pytest.mark.parametrize("state", ["ready", "acquiring"])
@HOW
def test_a_cancelled_close_closes_all_the_same(agent: Agent, state: str, how: str) -> None:
    """`a_factory` closes it again, which waits for the first close, and looks."""

    async def one(rounds: int) -> bool:
        async with a_factory(agent) as factory:
            locker, other = factory.create("sweep"), factory.create("other")
            if state == "ready":
                await locker.lock("a")
                await other.lock("a")
            return await cancelled(factory.close, rounds, how)

    assert sweep(one) > 2


@HOW
def test_a_cancelled_stop_that_gives_locks_back_first(agent: Agent, how: str) -> None:
    """With a lock-delay the locks are released before the session is destroyed."""

    async def one(rounds: int) -> bool:
        async with a_factory(agent) as factory:
            locker = factory.create("sweep", lock_delay=10)
            # Of its own in each round: a destroy that overtakes a release leaves the key in its lock-delay.
            leases = await locker.lock_many([f"{how}-a{rounds}", f"{how}-b{rounds}"])
            done = await cancelled(locker.stop, rounds, how)
            await quiet(locker)
            if rounds:
                assert locker.state == "stopped"
                assert not any(lease.valid for lease in leases)
                assert ask(agent, "/v1/session/list") == []
        return done

    assert sweep(one) > 2


@HOW
def test_a_whole_program(agent: Agent, how: str) -> None:
    """Cancelled anywhere between making its factory and closing it, it leaves no more than when it ends by itself."""

    async def program(made: list[LockerFactory]) -> None:
        async with LockerFactory(agent.address) as factory:
            made.append(factory)
            async with factory.create("sweep") as locker, factory.create("sweep") as other:
                async with locker.hold("a", wait=5), other.hold_many(["b", "c"]) as leases:
                    await locker.info("a")
                    leases[0].check()
                await locker.release((await locker.lock("b")).id)

    async def one(rounds: int) -> bool:
        made: list[LockerFactory] = []
        done = await cancelled(lambda: program(made), rounds, how)
        for factory in made:
            await factory.close()  # it is closing already; this waits for the end of that
            assert factory._io_loop is None or not factory._io_loop._transport._open_ones
            assert [leftovers(locker) for locker in factory._lockers] == [[]] * len(factory._lockers)
        assert asyncio.all_tasks() == own_tasks()
        assert ask(agent, "/v1/session/list") == []
        return done

    assert sweep(one) > 10


@pytest.mark.parametrize("ready", [True, False], ids=["ready", "acquiring"])
@pytest.mark.parametrize("name", [*CALLS, "lock", "lock and release", "stop"])
def test_every_task_of_the_loop_is_cancelled(agent: Agent, name: str, ready: bool) -> None:
    """The library's own as well, as `asyncio.run` does at its end: nobody hangs, and who goes on can go on."""
    calls: Calls = {
        **CALLS,
        "lock": lambda locker: locker.lock("a"),
        "lock and release": _lock_and_release,
        "stop": lambda locker: locker.stop(),
    }

    async def one(rounds: int) -> bool:
        # Rule 5: a create or a destroy that was not answered leaves a session that expires by its TTL.
        async with a_factory(agent, sessions=not ready or name == "stop") as factory:
            locker = factory.create("sweep", retry_interval=lambda number: 0.0)
            if ready:
                assert await locker.wait_for_state("ready", LIMIT)
            done = await cancelled(lambda: calls[name](locker), rounds, "all")
            locker.start()
            assert (await locker.lock("next", timeout=LIMIT)).valid
            assert [left for left in leftovers(locker) if left[0] != "destroy"] == []  # which is tried again later
            return done

    assert sweep(one) > (0 if (name, ready) == ("session_info", False) else 2)


@pytest.mark.parametrize("state", ["ready", "acquiring"])
def test_every_task_of_the_loop_is_cancelled_during_a_close(agent: Agent, state: str) -> None:
    """`a_factory` closes it again, and looks."""

    async def one(rounds: int) -> bool:
        async with a_factory(agent, sessions=True) as factory:
            locker, other = factory.create("sweep"), factory.create("other")
            if state == "ready":
                await locker.lock("a")
                await other.lock("a")
            return await cancelled(factory.close, rounds, "all")

    assert sweep(one) > 2
