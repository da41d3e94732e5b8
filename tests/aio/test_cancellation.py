"""Cancelling an asyncio call at every step leaves nothing behind, and takes nothing from others (rule 7).

The loop counts its rounds. Each call is run again and again, cancelled after 0, 1, 2, … rounds, until a run
completes before its cancellation would come: so it is cancelled before its request goes out, while that is on
the way, between the answer and the moment the caller gets it, and while observers hear of it. Nothing sleeps.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from consul_locker import AlreadyLocked, signals
from consul_locker.embedded import Agent

from .stepped import (
    CALLS,
    FAIR,
    HOW,
    LIMIT,
    _lock_and_release,
    a_factory,
    cancelled,
    leftovers,
    locked,
    quiet,
    run,
    sweep,
)


@pytest.fixture(scope="module")
def agent() -> Iterator[Agent]:
    with Agent() as embedded:
        yield embedded


QUESTIONS = ("info", "holder", "session_info")
#: A question is asked alike by a fair Locker.
PLAIN_AND_FAIR = [(name, fair) for name in CALLS for fair in (False, True) if not fair or name not in QUESTIONS]


@pytest.mark.parametrize(("name", "fair"), PLAIN_AND_FAIR)
@pytest.mark.parametrize("ready", [True, False], ids=["ready", "acquiring"])
@HOW
def test_a_call_leaves_nothing_behind(agent: Agent, name: str, ready: bool, how: str, fair: bool) -> None:
    async def one(rounds: int) -> bool:
        async with a_factory(agent) as factory:
            locker = factory.create("sweep", fair=fair)
            if ready:
                assert await locker.wait_for_state("ready", LIMIT)
            done = await cancelled(lambda: CALLS[name](locker), rounds, how)
            assert await locker.wait_for_state("ready", LIMIT)
            await quiet(locker)
            assert leftovers(locker) == []
            assert locked(agent) == {}
            assert dict(locker.held) == {}
            return done

    assert sweep(one) > (0 if (name, ready) == ("session_info", False) else 2)


@pytest.mark.parametrize("ready", [True, False], ids=["ready", "acquiring"])
@pytest.mark.parametrize("many", [True, False], ids=["lock_many", "lock"])
@HOW
def test_a_lock_is_there_for_the_caller_or_for_nobody(agent: Agent, many: bool, ready: bool, how: str) -> None:
    async def one(rounds: int) -> bool:
        async with a_factory(agent) as factory:
            locker = factory.create("sweep")
            if ready:
                assert await locker.wait_for_state("ready", LIMIT)
            if many:
                done = await cancelled(lambda: locker.lock_many(["a", "b"]), rounds, how)
            else:
                done = await cancelled(lambda: locker.lock("a"), rounds, how)
            assert await locker.wait_for_state("ready", LIMIT)
            await quiet(locker)
            assert leftovers(locker) == []
            wanted = ({"a", "b"} if many else {"a"}) if done else set()
            assert set(locker.held) == wanted
            assert set(locked(agent)) == {f"sweep/{id}/lock" for id in wanted}
            return done

    assert sweep(one) > 2


@pytest.mark.parametrize("ready", [True, False], ids=["ready", "acquiring"])
def test_a_lock_that_others_share_stays_theirs(agent: Agent, ready: bool) -> None:
    async def one(rounds: int) -> bool:
        async with a_factory(agent) as factory:
            locker = factory.create("sweep")
            if ready:
                assert await locker.wait_for_state("ready", LIMIT)
            other = asyncio.ensure_future(locker.lock("a"))
            done = await cancelled(lambda: locker.lock("a"), rounds)
            third = await locker.lock("a")
            lease = await other
            assert lease is third
            await quiet(locker)
            assert leftovers(locker) == []
            assert lease.valid
            assert set(locked(agent)) == {"sweep/a/lock"}
            assert await locker.release("a")
            return done

    assert sweep(one) > 2


def test_a_lock_held_before_is_not_lost_by_a_cancelled_caller(agent: Agent) -> None:
    """`lock_many` goes by the core even when all is cached, so it can be cancelled with its answer on the way."""

    async def one(rounds: int) -> bool:
        async with a_factory(agent) as factory:
            locker = factory.create("sweep")
            lease = await locker.lock("a")
            done = await cancelled(lambda: locker.lock_many(["a", "b"]), rounds)
            await quiet(locker)
            assert leftovers(locker) == []
            assert lease.valid
            assert set(locked(agent)) == {f"sweep/{id}/lock" for id in (("a", "b") if done else ("a",))}
            return done

    assert sweep(one) > 2


@pytest.mark.parametrize("call", ["release", "release_all", "guarded"])
def test_what_is_done_with_a_lock_is_done_or_not(agent: Agent, call: str) -> None:
    async def one(rounds: int) -> bool:
        async with a_factory(agent) as factory:
            locker = factory.create("sweep")
            lease = await locker.lock("a")
            if call == "release":
                done = await cancelled(lambda: locker.release("a"), rounds)
            elif call == "release_all":
                done = await cancelled(lambda: locker.release_all(), rounds)
            else:
                read = {"KV": {"Verb": "get", "Key": lease.key}}
                done = await cancelled(lambda: locker.guarded(lease, [read]), rounds)
            await quiet(locker)
            assert leftovers(locker) == []
            # A release that was begun goes on; one that was never begun changes nothing.
            assert set(locked(agent)) == {f"sweep/{id}/lock" for id in locker.held}
            assert lease.valid == ("a" in locker.held)
            assert lease.valid == (call == "guarded" or rounds == 0)
            return done

    assert sweep(one) > 2


def test_a_denied_call_and_one_that_waits(agent: Agent) -> None:
    """Waiting for another Locker's lock: the watch and the timers go with the call; the holder keeps its lock."""

    async def one(rounds: int, wait: float | None) -> bool:
        async with a_factory(agent) as factory:
            holder, locker = factory.create("sweep"), factory.create("sweep")
            lease = await holder.lock("a")
            assert await locker.wait_for_state("ready", LIMIT)
            try:
                done = await cancelled(lambda: locker.lock("a", wait=wait), rounds)
            except AlreadyLocked:
                done = True
            await quiet(locker)
            assert leftovers(locker) == []
            assert not locker._core.line._watches
            assert lease.valid
            return done

    assert sweep(lambda rounds: one(rounds, 0.0)) > 2
    for rounds in range(16):  # it waits for longer than that: all of these are cancelled
        run(lambda rounds=rounds: one(rounds, 600.0))


@FAIR
def test_one_who_waits_behind_a_cancelled_one_gets_the_lock(agent: Agent, fair: bool) -> None:
    async def one(rounds: int) -> bool:
        async with a_factory(agent) as factory:
            locker = factory.create("sweep", fair=fair)
            order: list[str] = []

            async def holding(name: str) -> None:
                async with locker.hold("a", wait=LIMIT):
                    order.append(name)

            async with locker.hold("a"):
                first = asyncio.ensure_future(holding("first"))
                await asyncio.sleep(0)
                second = asyncio.ensure_future(holding("second"))
                await asyncio.sleep(0)
            done = await cancelled(lambda: _joined(first), rounds)
            await second
            assert order in (["first", "second"], ["second"])
            await quiet(locker)
            assert leftovers(locker) == []
            assert locked(agent) == {}
            return done

    assert sweep(one) > 2


async def _joined(task: asyncio.Task[Any]) -> Any:
    """Wait for a task; cancelled, it is cancelled too."""
    return await task


@pytest.mark.parametrize("verb", ["lock", "lock_many", "hold", "hold_many"])
@FAIR
@HOW
def test_a_lock_that_comes_free_is_there_for_the_one_who_waits_or_for_nobody(
    agent: Agent, verb: str, how: str, fair: bool
) -> None:
    """Cancelled before and while another Locker's release is noticed, and while the lock is taken then."""

    async def one(rounds: int) -> bool:
        async with a_factory(agent) as factory:
            holder, locker = factory.create("sweep", fair=fair), factory.create("sweep", fair=fair)
            await holder.lock("a")
            assert await locker.wait_for_state("ready", LIMIT)

            async def waiting() -> None:
                wanted: Any = ["a", "b"] if verb.endswith("many") else "a"
                called = getattr(locker, verb)(wanted, wait=LIMIT)
                if verb.startswith("lock"):
                    await called
                else:
                    async with called:
                        pass

            release = asyncio.ensure_future(holder.release("a"))
            done = await cancelled(waiting, rounds, how)
            assert await release
            await quiet(locker)
            assert leftovers(locker) == []
            wanted = {"lock": {"a"}, "lock_many": {"a", "b"}}.get(verb, set()) if done else set()
            assert set(locker.held) == wanted
            assert set(locked(agent)) == {f"sweep/{id}/lock" for id in wanted}
            return done

    assert sweep(one) > 2


def test_cancelled_waits_leave_no_waiter(agent: Agent) -> None:
    """Of `wait_for_state` and `wait_lost`, and of several who wait for the same."""

    async def one(rounds: int) -> bool:
        async with a_factory(agent) as factory:
            locker = factory.create("sweep")
            lease = await locker.lock("a")
            lost = asyncio.ensure_future(lease.wait_lost())
            paused = asyncio.ensure_future(locker.wait_for_state("stopped"))

            async def both() -> None:
                waits = lease.wait_lost(), locker.wait_for_state("stopped")
                stop = asyncio.ensure_future(locker.stop())
                try:
                    await asyncio.gather(*waits)
                finally:
                    await stop

            done = await cancelled(both, rounds)
            await locker.stop()
            assert await lost == "stopped"
            assert await paused
            assert leftovers(locker) == []
            assert not lease._life.jobs
            return done

    assert sweep(one) > 1


def test_with_observers(agent: Agent) -> None:
    """The steps of a call while its signals are delivered; a cancelled caller takes no observer with it."""

    async def one(rounds: int) -> bool:
        heard: list[str] = []

        async def observer(sender: Any, lease: Any, **facts: Any) -> None:
            await asyncio.sleep(0)
            heard.append("acquired")

        def released(sender: Any, **facts: Any) -> None:
            heard.append("released")

        async with a_factory(agent) as factory:
            locker = factory.create("sweep")
            with signals.lock_acquired.connected_to(observer), signals.released.connected_to(released):
                assert await locker.wait_for_state("ready", LIMIT)
                done = await cancelled(lambda: _lock_and_release(locker), rounds)
                await quiet(locker)
                await locker._runtime._delivery.flush(locker._runtime._queued)
                assert leftovers(locker) == []
                assert heard in ([], ["acquired", "released"])
                assert locked(agent) == {}
        return done

    assert sweep(one) > 5
