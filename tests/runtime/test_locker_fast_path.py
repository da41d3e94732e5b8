"""The fast path: a cached lock without the mutex, while others cancel, release, and lose what it is about to return."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from consul_locker import AlreadyLocked, Lease, Locker, LockerFactory, aio, signals
from consul_locker.embedded import Agent
from consul_locker.lease import BaseLease, SessionLife
from consul_locker.strategies import PermanentStrategy

from ..behaviour.tools import WAIT, eventually, until
from ..interleaving import Meanwhile


@pytest.fixture(scope="module")
def agent() -> Iterator[Agent]:
    with Agent() as agent:
        yield agent


@pytest.fixture(scope="module")
def factory(agent: Agent) -> Iterator[LockerFactory]:
    with LockerFactory(agent.address) as factory:
        yield factory


class Pausing(PermanentStrategy):
    """Does something when it is asked whether a lease serves, once, in the thread of the caller."""

    def __init__(self) -> None:
        self.meanwhile: Callable[[], object] | None = None

    def serves(self, lease: BaseLease, now: float) -> bool:
        work, self.meanwhile = self.meanwhile, None
        if work is not None:
            work()
        return True


@contextmanager
def about_to_be_cancelled(locker: Locker, id: str) -> Iterator[Callable[[], bool]]:
    """A lock whose only caller can still go away: the core has answered it, but it has not been told yet.

    What is given makes it go away; false when it was too late for that.
    """
    go = threading.Event()

    def slow(sender: object, **facts: object) -> None:
        assert go.wait(WAIT)

    with signals.lock_acquired.connected_to(slow, sender=locker):
        future = locker.submit_lock(id)
        until(lambda: id in locker.held)

        def cancel() -> bool:
            try:
                return future.cancel()
            finally:
                go.set()

        try:
            yield cancel
        finally:
            go.set()


def is_held(locker: Locker, rival: Locker, lease: Lease) -> bool:
    """Whether a lease can be relied on: valid, known to the Locker, and refused to others."""
    with pytest.raises(AlreadyLocked):
        rival.lock(lease.id)
    return lease.valid and locker.held[lease.id] is lease


def test_a_lease_that_another_caller_gives_back_meanwhile_is_not_returned(factory: LockerFactory) -> None:
    strategy = Pausing()
    locker, rival = factory.create("paused", strategy=strategy), factory.create("paused")
    asked, go = threading.Event(), threading.Event()

    def pause() -> None:
        asked.set()
        assert go.wait(WAIT)

    with about_to_be_cancelled(locker, "a") as cancel, ThreadPoolExecutor() as pool:
        old = locker.held["a"]
        strategy.meanwhile = pause
        other = pool.submit(locker.lock, "a", timeout=WAIT)
        assert asked.wait(WAIT)
        assert cancel()
        assert not old.valid
        go.set()
        lease = other.result(WAIT)
    assert lease.fence > old.fence
    assert is_held(locker, rival, lease)


def test_a_lease_that_another_caller_has_stays_when_its_first_caller_goes(factory: LockerFactory) -> None:
    locker, rival = factory.create("shared"), factory.create("shared")
    with about_to_be_cancelled(locker, "a") as cancel:
        lease = locker.lock("a")
        assert locker.stats()["cached"] == 1
        assert cancel()
    assert is_held(locker, rival, lease)
    assert locker.lock("a") is lease  # which has been claimed
    assert locker.stats()["cached"] == 2


def test_a_cancellation_between_any_two_lines(factory: LockerFactory) -> None:
    """Whichever of both is faster: who is given the lock has it, and one that nobody was given is given back."""
    locker, rival = factory.create("any line"), factory.create("any line")
    line, reached, kept = 0, True, 0
    while reached:
        with about_to_be_cancelled(locker, "a") as cancel:
            old = locker.held["a"]
            found = Meanwhile(line, cancel)
            lease = found.run(lambda: locker.lock("a"))
            assert not found.reached or found.done.wait(WAIT)
        reached = found.reached
        assert is_held(locker, rival, lease), line
        kept += lease is old
        assert locker.release("a")
        line += 1
    assert line > 10
    assert 0 < kept < line


def test_without_another_caller_it_is_given_back(factory: LockerFactory) -> None:
    locker, rival = factory.create("given back"), factory.create("given back")
    with about_to_be_cancelled(locker, "a") as cancel:
        lease = locker.held["a"]
        assert cancel()
    assert lease.reason == "released"
    assert rival.lock("a", wait=WAIT).valid


@pytest.mark.parametrize("ends", ["release", "reboot"])
def test_a_lease_that_ends_meanwhile_is_not_returned(factory: LockerFactory, ends: str) -> None:
    strategy = Pausing()
    locker = factory.create(f"ended by {ends}", strategy=strategy)
    old = locker.lock("a")

    def end() -> None:
        thread = threading.Thread(target=lambda: locker.release("a") if ends == "release" else locker.reboot())
        thread.start()
        thread.join(WAIT)

    strategy.meanwhile = end
    lease = locker.lock("a", timeout=WAIT)
    assert not old.valid
    assert lease.valid


def test_a_lease_that_another_call_claims_is_left_to_the_core(factory: LockerFactory) -> None:
    locker = factory.create("claimed")
    lease = locker.lock("a")
    assert lease.claim()
    assert locker.lock("a") is lease
    assert locker.stats()["cached"] == 1


def test_one_claim_of_a_lease_succeeds() -> None:
    """Of many threads at once."""
    together = threading.Barrier(8)

    def claim(lease: BaseLease) -> bool:
        together.wait(WAIT)
        return lease.claim()

    with ThreadPoolExecutor(8) as pool:
        for _ in range(50):
            lease = BaseLease("a", SessionLife(1, "5e55", 10.0, "n", lambda: 2.0), 7, 1.0, False)
            assert sum(pool.map(claim, [lease] * 8)) == 1


# ------------------------------------------------------------------------------------------------------ asyncio


def on_a_loop(test: Callable[[aio.Locker, Pausing], Any], agent: Agent) -> None:
    async def go() -> None:
        async with aio.LockerFactory(agent.address) as factory:
            strategy = Pausing()
            await test(factory.create("on a loop", strategy=strategy), strategy)

    asyncio.run(go())


@pytest.mark.parametrize("when", ["while the strategy is asked", "after that"])
def test_on_a_loop_a_lease_stays_when_its_first_caller_goes(agent: Agent, when: str) -> None:
    async def test(locker: aio.Locker, strategy: Pausing) -> None:
        shared: list[aio.Lease] = []

        async def granted(sender: aio.Locker, **facts: object) -> None:
            """The core has answered the first caller, which waits for this very observer."""
            if when == "while the strategy is asked":
                strategy.meanwhile = first.cancel
            shared.append(await sender.lock("a"))
            first.cancel()

        with signals.lock_acquired.connected_to(granted, sender=locker):
            first = asyncio.ensure_future(locker.lock("a"))
            await eventually(lambda: shared)
            with pytest.raises(asyncio.CancelledError):
                await first
        assert shared[0].valid
        assert locker.held["a"] is shared[0]

    on_a_loop(test, agent)


def test_on_a_loop_a_lease_that_ends_meanwhile_is_not_returned(agent: Agent) -> None:
    async def test(locker: aio.Locker, strategy: Pausing) -> None:
        old = await locker.lock("a")
        strategy.meanwhile = locker.reboot
        lease = await locker.lock("a", timeout=WAIT)
        assert not old.valid
        assert lease.valid

    on_a_loop(test, agent)
