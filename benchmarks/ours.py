"""How fast the library grants locks that nobody else wants, one thing at a time, on threads and on asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import time
import timeit
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import wait
from typing import Any

from benchmarks.measuring import (
    READY,
    WARM_UP,
    Figures,
    Setting,
    figures,
    fresh_name,
    on_loop,
    rate_of_tasks,
    rate_of_threads,
)
from benchmarks.servers import delete_below
from consul_locker import AlreadyLocked, Lease, Locker, LockerFactory, aio, signals

#: Ids in a call of lock_many: what one transaction takes.
MANY = 64

#: Of so many ids one is held by somebody else, and how many such ids there are, in transactions of `MANY`.
ONE_IN, HELD_BY_OTHERS = 10, 8 * MANY

#: Look-ups in one measurement of the cache, and how many of those: the fastest counts, the others were disturbed.
#: Measured is the thread's processor time: what else the machine does is not in it.
LOOK_UPS, REPEATS = 50_000, 7


@contextlib.contextmanager
def ready_locker(url: str, **options: Any) -> Iterator[Locker]:
    """A Locker that has its session, in a factory of its own; its keys are deleted afterwards."""
    name = fresh_name()
    with LockerFactory(url) as factory, factory.create(name, **options) as locker:
        if not locker.wait_for_state("ready", READY):
            raise RuntimeError(f"no session at {url} within {READY:g} s")
        yield locker
    delete_below(url, name)


@contextlib.asynccontextmanager
async def ready_aio_locker(url: str, **options: Any) -> AsyncIterator[aio.Locker]:
    """The same on asyncio."""
    name = fresh_name()
    async with aio.LockerFactory(url) as factory, factory.create(name, **options) as locker:
        if not await locker.wait_for_state("ready", READY):
            raise RuntimeError(f"no session at {url} within {READY:g} s")
        yield locker
    await asyncio.to_thread(delete_below, url, name)


def threads(setting: Setting, callers: int) -> Figures:
    """Unique locks by threads."""
    with ready_locker(setting.url) as locker:
        return rate_of_threads([locker.lock] * callers, setting.seconds)


def tasks(setting: Setting, callers: int, uvloop: bool = False) -> Figures:
    """Unique locks by tasks."""

    async def main() -> Figures:
        async with ready_aio_locker(setting.url) as locker:
            return await rate_of_tasks(locker.lock, callers, setting.seconds)

    return on_loop(uvloop, main)


def submitted(setting: Setting) -> Figures:
    """Many locks asked for by one thread at once."""
    with ready_locker(setting.url) as locker:
        wait([locker.submit_lock(f"warm-{number}") for number in range(WARM_UP)])
        gc.collect()
        begun, processor = time.perf_counter(), time.process_time()
        calls = [locker.submit_lock(f"{number}") for number in range(setting.calls)]
        for call in calls:
            call.result(READY)
        return figures(setting.calls, time.perf_counter() - begun, time.process_time() - processor)


def many(setting: Setting) -> Figures:
    """lock_many by one thread: locks a second."""
    with ready_locker(setting.url) as locker:
        locker.lock_many([f"warm-{number}" for number in range(MANY)])
        gc.collect()
        begun, processor = time.perf_counter(), time.process_time()
        for count in itertools.count(MANY, MANY):
            locker.lock_many([f"{number}" for number in range(count - MANY, count)])
            if time.perf_counter() >= begun + setting.seconds:
                break
        return figures(count, time.perf_counter() - begun, time.process_time() - processor)


def pairs(setting: Setting, callers: int) -> Figures:
    """Lock and release: pairs a second."""

    def pair(id: str) -> None:
        locker.lock(id)
        locker.release(id)

    with ready_locker(setting.url) as locker:
        return rate_of_threads([pair] * callers, setting.seconds)


def contended(setting: Setting, callers: int) -> Figures:
    """Locks of which one in ten is held by another Locker, which has each caller read who that is."""

    def caller() -> Callable[[str], None]:
        number = itertools.count()
        theirs = itertools.cycle(taken)

        def lock(id: str) -> None:
            if next(number) % ONE_IN:
                locker.lock(id)
                return
            with contextlib.suppress(AlreadyLocked):
                locker.lock(next(theirs))
                raise RuntimeError("what another Locker holds was granted")

        return lock

    with ready_locker(setting.url) as locker, LockerFactory(setting.url) as factory:
        taken = [f"theirs-{number}" for number in range(HELD_BY_OTHERS)]
        other = factory.create(locker.name)
        for first in range(0, HELD_BY_OTHERS, MANY):
            other.lock_many(taken[first : first + MANY])
        return rate_of_threads([caller() for _ in range(callers)], setting.seconds)


def observed(setting: Setting, callers: int) -> Figures:
    """Unique locks by threads, with an observer that hears every signal and does nothing."""

    def heard(sender: object, **facts: object) -> None:
        pass

    with ready_locker(setting.url, observers=dict.fromkeys(signals.ALL, heard)) as locker:
        return rate_of_threads([locker.lock] * callers, setting.seconds)


def cached(setting: Setting) -> Figures:
    """A lock that the Locker has already, by a thread and by a task."""

    async def on_a_loop() -> float:
        async with ready_aio_locker(setting.url) as locker:
            await locker.lock("1")
            found = []
            for _ in range(REPEATS):
                begun = time.thread_time()
                for _ in range(LOOK_UPS):
                    await locker.lock("1")
                found.append(time.thread_time() - begun)
            return min(found)

    with ready_locker(setting.url) as locker:
        lease: Lease = locker.lock("1")
        timed = timeit.Timer("lock('1')", timer=time.thread_time, globals={"lock": locker.lock})
        repeated = timed.repeat(REPEATS, LOOK_UPS)
        lease.check()
    return {
        "cached_thread": min(repeated) / LOOK_UPS * 1e9,
        "cached_task": asyncio.run(on_a_loop()) / LOOK_UPS * 1e9,
    }
