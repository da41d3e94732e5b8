"""An exception out of nowhere, in the main thread, between any two lines of the library.

KeyboardInterrupt is one, and so are the time limits of job queues; RecursionError comes on every thread. Each call is
interrupted at its lines in turn. In a step, wherever, everyone is answered, each lease ends once, and the Locker is
ready again with a new session. Elsewhere the call has left no lock behind. A caller that is interrupted while it waits
touches nobody else. ``CONSUL_LOCKER_EVERY_LINE=1`` takes each line, else each thirteenth.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import pytest

from consul_locker import AlreadyLocked, ConsulUnavailable, Locker, LockerFactory, aio
from consul_locker.core import doubts
from consul_locker.core.step import Outbox
from consul_locker.strategies import PermanentStrategy
from tests.behaviour.tools import until
from tests.walk.breaks import LIBRARY, BrokenOff, breaking_off

#: A socket that is just being made, or thrown away, is closed by the collector then, which says so.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*unclosed .*socket"),
    pytest.mark.xdist_group("processes and signals"),
]
#: A limit for hangs, in seconds.
LIMIT = 20.0
#: The part of the library that does no I/O.
CORE = os.path.join(LIBRARY, "core")
STRIDE = 1 if os.environ.get("CONSUL_LOCKER_EVERY_LINE") else 13


@pytest.fixture(autouse=True)
def doubts_are_looked_into_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doubts, "FIRST_PAUSE", 0.02)


@pytest.fixture(autouse=True)
def garbage_is_collected_here() -> Iterator[None]:
    """Else a socket that an interrupted call left to the collector fails whatever test runs when that comes."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def factory() -> Iterator[LockerFactory]:
    with LockerFactory.embedded() as factory:
        yield factory


def lock(locker: Locker) -> None:
    locker.lock("a")


def lock_many(locker: Locker) -> None:
    locker.lock_many(["a", "b"])


def hold(locker: Locker) -> None:
    with locker.hold("a"):
        pass


def hold_what_is_taken(locker: Locker) -> None:
    with pytest.raises(AlreadyLocked), locker.hold("taken"):
        pass


def release(locker: Locker) -> None:
    locker.release("mine")


def holder(locker: Locker) -> None:
    locker.holder("taken")


def submit(locker: Locker) -> None:
    locker.submit_lock("a").cancel()


def stop(locker: Locker) -> None:
    locker.stop()


class Ends:
    """Observes how often each lease, and each session, was told to begin and to end."""

    def __init__(self) -> None:
        self.began: Counter[Any] = Counter()
        self.ended: Counter[Any] = Counter()

    def lock_acquired(self, locker: object, lease: Any, **_: Any) -> None:
        self.began[lease] += 1

    def lock_lost(self, locker: object, lease: Any, **_: Any) -> None:
        self.ended[lease] += 1

    def released(self, locker: object, lease: Any, **_: Any) -> None:
        if lease is not None:
            self.ended[lease] += 1

    def session_created(self, locker: object, session_id: str) -> None:
        self.began[session_id] += 1

    def session_ended(self, locker: object, session_id: str, **_: Any) -> None:
        self.ended[session_id] += 1

    def check(self) -> None:
        """When all is over."""
        assert self.began == self.ended
        assert set(self.began.values()) == {1}


def interrupted(factory: LockerFactory, call: Callable[[Locker], None], line: int) -> bool:
    """Interrupt a call at a line, and look at what is left. Returns False when it has no such line."""
    ends = Ends()
    try:
        return _interrupted(factory, call, line, ends)
    finally:
        ends.check()


def _interrupted(factory: LockerFactory, call: Callable[[Locker], None], line: int, ends: Ends) -> bool:
    name = f"{call.__name__}-{line}"
    make = partial(factory.create, name, default_timeout=LIMIT)
    with make(observers=ends) as locker, make() as other:
        other.lock("taken")
        locker.lock("mine")
        # One whose answer may come to the interrupted caller.
        beside = locker.submit_lock("beside", wait=LIMIT)
        try:
            with breaking_off(line):
                call(locker)
            done = True
        except BrokenOff:
            done = False
        failure = beside.exception(LIMIT)
        if call is not stop:
            assert failure is None or isinstance(failure, ConsulUnavailable)  # it was carried by who is interrupted
            if done and call is not submit:
                return False
            locker.lock("after")
            with locker.hold("after too"):
                pass
        if call is submit:
            locker.release("a")  # of a future that was made, and returned to nobody
        if not (call in (lock, lock_many) and locker.held.get("a")):  # answered, and interrupted after that
            other.lock_many(["a", "b"], wait=LIMIT)
    return not done


@pytest.mark.parametrize("call", [lock, lock_many, hold, hold_what_is_taken, release, holder, submit, stop])
def test_a_call_interrupted_anywhere(factory: LockerFactory, call: Callable[[Locker], None]) -> None:
    line = 0
    while interrupted(factory, call, line):
        line += STRIDE
    assert line > 50


def test_a_call_for_which_the_stack_is_too_deep(factory: LockerFactory) -> None:
    def deep(depth: int) -> None:
        if depth:
            deep(depth - 1)
        else:
            locker.lock("deep")

    failed = 0
    with factory.create("deep", default_timeout=LIMIT) as locker:
        locker.lock("first")
        for depth in range(sys.getrecursionlimit() - 150, sys.getrecursionlimit(), STRIDE):
            try:
                deep(depth)
            except RecursionError:
                failed += 1
            locker.release("deep")
            with locker.hold("after"):
                pass
    assert failed


# ------------------------------------------------------------------------------------- while it waits, and in a step


@contextmanager
def handler(action: Callable[[], object]) -> Iterator[None]:
    """A handler of a signal."""
    before = signal.signal(signal.SIGUSR1, lambda *_: action())
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, before)


def raise_it() -> None:
    raise BrokenOff


def test_a_caller_interrupted_while_it_waits_touches_nobody(factory: LockerFactory) -> None:
    with factory.create("waits", default_timeout=LIMIT) as locker, factory.create("waits") as other:
        taken, mine = other.lock("taken"), locker.lock("mine")
        beside = locker.submit_lock("taken", wait=LIMIT)
        until(lambda: locker.stats()["denied"])
        main = threading.main_thread().ident
        assert main is not None

        def interrupt() -> None:
            until(lambda: len(locker._runtime._fail_stop.calls) == 2)
            until(lambda: locker.stats()["denied"] > 1 or locker.stats()["requests"] > 1)
            signal.pthread_kill(main, signal.SIGUSR1)

        thread = threading.Thread(target=interrupt)
        with handler(raise_it), pytest.raises(BrokenOff):
            thread.start()
            locker.hold("taken", wait=LIMIT).__enter__()
        thread.join()
        assert mine.valid and taken.valid
        assert not beside.done()
        other.release("taken")
        assert beside.result(LIMIT).session_id == mine.session_id


class Handled(PermanentStrategy):
    """A signal comes in the middle of the step that grants a lock."""

    now = False

    def keeps(self, lease: Any) -> bool:
        if self.now:
            self.now = False
            signal.raise_signal(signal.SIGUSR1)
        return super().keeps(lease)


def test_what_a_handler_submits_in_a_step_is_done_after_it_and_it_cannot_wait(factory: LockerFactory) -> None:
    strategy = Handled()
    submitted: list[Any] = []

    def act() -> None:
        submitted.append(locker.submit_lock("b"))
        with pytest.raises(RuntimeError, match="would wait"):
            locker.lock("c")

    with factory.create("acts", strategy=strategy, default_timeout=LIMIT) as locker:
        locker.lock("first")
        strategy.now = True
        with handler(act):
            lease = locker.lock("a")
        assert submitted[0].result(LIMIT).session_id == lease.session_id


def test_it_is_done_by_the_next_session_if_the_handler_raises(factory: LockerFactory) -> None:
    strategy, ends, heard = Handled(), Ends(), list[str]()
    submitted: list[Any] = []

    def act() -> None:
        submitted.append(locker.submit_lock("b"))
        raise BrokenOff

    with factory.create("raises", strategy=strategy, default_timeout=LIMIT, observers=ends) as locker:
        locker.fsm.on("transition", lambda data: heard.append(data["to_state"]))
        first = locker.lock("first")
        waits = locker.submit_lock("first", wait=None)
        strategy.now = True
        with handler(act), pytest.raises(BrokenOff):
            locker.lock("a")
        again = submitted[0].result(LIMIT)
        assert first.reason == "broken off" and waits.done()
        assert again.valid and again.session_id != first.session_id
        assert heard[-2:] == ["acquiring", "ready"]
    ends.check()


def test_on_asyncio_another_session_comes_after_a_broken_step(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = Ends()

    def deep(*_: object) -> None:
        raise RecursionError  # asyncio ends its loop for a KeyboardInterrupt

    async def go() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        async with aio.LockerFactory.embedded() as factory:
            locker = factory.create("n", default_timeout=LIMIT, observers=ends)
            first = await locker.lock("first")
            with monkeypatch.context() as patch:
                patch.setattr(Outbox, "answered", deep)
                with pytest.raises(ConsulUnavailable, match="broken off"):
                    await locker.lock("a")
            assert first.reason == "broken off"
            assert (await locker.lock("a")).session_id != first.session_id

    asyncio.run(go())
    ends.check()


# --------------------------------------------------------------------------------------------------------- on asyncio


async def aio_lock(locker: aio.Locker) -> None:
    await locker.lock("a")


async def aio_hold(locker: aio.Locker) -> None:
    async with locker.hold("a"):
        pass


async def aio_release(locker: aio.Locker) -> None:
    await locker.release("mine")


def aio_interrupted(call: Callable[[aio.Locker], Awaitable[None]], line: int) -> bool:
    """The same on a loop that goes on after the exception, as it does while `asyncio.run` ends.

    Within the core only: what asyncio itself makes of an exception in any of its tasks is its own affair, and from 3.11
    on KeyboardInterrupt is a cancellation. But the stack may be too deep for a step in the midst of a user's task.
    """
    loop = asyncio.new_event_loop()
    factory = aio.LockerFactory.embedded()
    lockers: list[aio.Locker] = []

    async def begin() -> asyncio.Task[aio.Lease]:
        for _ in range(2):
            lockers.append(factory.create("n", default_timeout=LIMIT))
            await lockers[-1].lock(f"mine of {len(lockers)}")
        await lockers[0].lock("mine")
        return loop.create_task(lockers[0].lock("beside", wait=LIMIT))

    async def go_on(interrupted: asyncio.Task[None]) -> None:
        interrupted.cancel()
        await asyncio.wait({interrupted})
        with suppress(ConsulUnavailable):  # both were in one transaction
            await beside
        await lockers[0].lock("after")
        if not lockers[0].held.get("a"):
            await lockers[1].lock("a", wait=LIMIT)
        await factory.close()

    beside = loop.run_until_complete(begin())
    task = loop.create_task(_as_task(call(lockers[0])))
    try:
        with breaking_off(line, below=CORE):
            loop.run_until_complete(task)
        return False
    except BrokenOff:
        return True
    finally:
        rest = loop.create_task(go_on(task))
        while not rest.done():
            # It comes out of the loop once more for each task that waits for that one; RuntimeError: the loop was to
            # stop, for the first one.
            with suppress(BrokenOff, RuntimeError):
                loop.run_until_complete(rest)
        rest.result()
        loop.close()


async def _as_task(awaitable: Awaitable[None]) -> None:
    await awaitable


@pytest.mark.parametrize("call", [aio_lock, aio_hold, aio_release])
def test_a_call_on_asyncio_interrupted_anywhere(call: Callable[[aio.Locker], Awaitable[None]]) -> None:
    line = 0
    while aio_interrupted(call, line):
        line += STRIDE
    assert line > 50
