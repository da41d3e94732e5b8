"""What many locks and many Lockers cost: memory, processor time while nothing happens, and time until loss is noticed.

These figures do not depend on what a peer reaches; the goals are absolute.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import selectors
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator

from benchmarks.measuring import PATIENCE, READY, WARM_UP, Figures, Setting, fresh_name
from benchmarks.servers import all_requests_seen, ask, cpu_of, delete_below
from consul_locker import Locker, LockerFactory, aio

#: How many locks are held where the cost of a lock is measured; the last is the number of the setting.
MARKS = (1_000, 3_000, 10_000, 30_000, 100_000)

#: Over the last so many locks before a mark the cost is measured, and so many are asked for at once.
SAMPLE, AT_ONCE = 500, 100

#: After so long a Locker has renewed its session and audited its locks, in seconds: connections for that are open.
SETTLED = 6.0

#: Where nobody listens (discard): a Locker that is made there begins, and costs no requests.
NOWHERE = "http://127.0.0.1:9"


def resident() -> int:
    """The resident memory of this process, in bytes."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def descriptors() -> int:
    """How many descriptors this process has open."""
    return len(os.listdir("/proc/self/fd"))


class Spent:
    """The processor time of this process and of Consul."""

    def __init__(self, setting: Setting) -> None:
        self._consul = setting.consul
        self._begun, self._own, self._its = time.monotonic(), time.process_time(), self._used()

    def _used(self) -> float:
        return 0.0 if self._consul is None else cpu_of(self._consul)

    def figures(self) -> dict[str, float]:
        """In percent of a core, since it was made."""
        own, its = self.spent()
        seconds = time.monotonic() - self._begun
        found = {"idle_cpu": own / seconds * 100}
        if self._consul is not None:
            found["idle_consul"] = its / seconds * 100
        return found

    def spent(self) -> tuple[float, float]:
        """In seconds, since it was made: this process's, and Consul's where it is ours."""
        return time.process_time() - self._own, self._used() - self._its


def take(locker: Locker, first: int, end: int) -> None:
    """Lock ids of these numbers, `AT_ONCE` at a time."""
    while first < end:
        calls = [locker.submit_lock(str(number)) for number in range(first, min(first + AT_ONCE, end))]
        for call in calls:
            call.result(PATIENCE)
        first += AT_ONCE


def marks(held: int) -> Iterator[int]:
    """At which numbers of held locks the cost of one is measured."""
    yield from (mark for mark in MARKS if mark < held)
    yield held


def by_threads(setting: Setting) -> Figures:
    """Many locks of one Locker on threads."""
    found: dict[str, float] = {}
    name, taken = fresh_name(), 0
    with LockerFactory(setting.url) as factory:
        locker = factory.create(name)
        take(locker, taken, taken := WARM_UP)
        time.sleep(min(setting.idle, SETTLED))
        with_one = threading.active_count(), descriptors()
        gc.collect()
        before = resident()
        for mark in marks(setting.held):
            take(locker, taken, mark - SAMPLE)
            processor = time.process_time()
            take(locker, mark - SAMPLE, taken := mark)
            found[f"cost_{mark}"] = (time.process_time() - processor) / SAMPLE * 1e6
        found["cost_growth"] = found[f"cost_{setting.held}"] / found[f"cost_{next(marks(setting.held))}"]
        gc.collect()
        found["bytes"] = (resident() - before) / (setting.held - WARM_UP)
        idle = Spent(setting)
        time.sleep(setting.idle)
        found |= idle.figures()
        found["more_threads"] = threading.active_count() - with_one[0]
        found["more_descriptors"] = descriptors() - with_one[1]
        if setting.noticing:
            lease = locker.held[str(setting.held // 2)]
            ask(setting.url, "DELETE", f"/v1/kv/{lease.key}")
            begun = time.monotonic()
            if lease.wait_lost(setting.noticing) is None:
                raise RuntimeError(f"a deleted key was not noticed within {setting.noticing:g} s")
            found["noticed"] = time.monotonic() - begun
        begun, stopping = time.monotonic(), Spent(setting)
        locker.stop()
        found["stop"] = time.monotonic() - begun
        found["stop_cpu"], found["stop_consul"] = stopping.spent()
    delete_below(setting.url, name)
    return found


class Watched(selectors.DefaultSelector):
    """Says how long a loop is busy between two looks at its descriptors, by its thread's processor time.

    So a machine that is busy with something else makes no step longer.
    """

    longest = 0.0
    _since: float | None = None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Called by the loop."""
        if self._since is not None:
            self.longest = max(self.longest, time.thread_time() - self._since)
        found = super().select(timeout)
        self._since = time.thread_time()
        return found

    def taken(self) -> float:
        """The longest since the last call, in ms."""
        longest, self.longest = self.longest, 0.0
        return longest * 1e3


def on_a_loop(setting: Setting) -> Figures:
    """The same on asyncio, and how long the loop is kept busy at a time."""
    name, selector = fresh_name(), Watched()

    async def main() -> Figures:
        found: dict[str, float] = {}

        async def lock(first: int, end: int) -> None:
            for begin in range(first, end, AT_ONCE):
                await asyncio.gather(*(locker.lock(number) for number in range(begin, min(begin + AT_ONCE, end))))

        async with aio.LockerFactory(setting.url) as factory:
            locker = factory.create(name)
            await lock(0, WARM_UP)
            gc.collect()
            before = resident()
            await lock(WARM_UP, setting.held)
            gc.collect()
            found["bytes"] = (resident() - before) / (setting.held - WARM_UP)
            await asyncio.sleep(0)
            selector.taken()
            idle = Spent(setting)
            await asyncio.sleep(setting.idle)
            found |= idle.figures()
            found["step"] = selector.taken()
            begun, stopping = time.monotonic(), Spent(setting)
            await locker.stop()
            found["stop"] = time.monotonic() - begun
            found["stop_cpu"], found["stop_consul"] = stopping.spent()
            await asyncio.sleep(0)
            found["stop_step"] = selector.taken()
        return found

    loop = asyncio.SelectorEventLoop(selector)
    try:
        found = loop.run_until_complete(main())
    finally:
        loop.close()
    delete_below(setting.url, name)
    return found


def released(setting: Setting) -> Figures:
    """What a Locker asks of Consul while it is idle, before and after many releases."""
    name = fresh_name()
    with LockerFactory(setting.url) as factory:
        locker = factory.create(name)
        locker.lock("kept")

        def requests() -> float:
            before = all_requests_seen(setting.url)
            time.sleep(setting.idle)
            after = all_requests_seen(setting.url)
            return float("nan") if before is None or after is None else (after - before) / setting.idle

        found = {"requests_before": requests()}
        for first in range(0, setting.calls, AT_ONCE):
            ids = [str(number) for number in range(first, first + AT_ONCE)]
            for submit in (locker.submit_lock, locker.submit_release):
                for call in [submit(id) for id in ids]:
                    call.result(READY)
        found["requests_after"] = requests()
        found["more_requests"] = found["requests_after"] - found["requests_before"]
    delete_below(setting.url, name)
    return found


def made(setting: Setting) -> Figures:
    """What making a Locker costs, on asyncio, where nothing else runs meanwhile."""

    async def all_of(measure: Callable[[], float]) -> float:
        async with aio.LockerFactory(NOWHERE) as factory:
            for number in range(WARM_UP):
                factory.create(f"warm-{number}")
            gc.collect()
            before = measure()
            kept = [factory.create(f"one-{number}") for number in range(setting.lockers)]
            return (measure() - before) / len(kept)

    seconds = asyncio.run(all_of(time.process_time))
    tracemalloc.start()
    size = asyncio.run(all_of(lambda: float(tracemalloc.get_traced_memory()[0])))
    return {"made": seconds * 1e3, "locker_bytes": size}


def idle_lockers(setting: Setting) -> Figures:
    """Many Lockers of one factory while nothing happens, and how soon the end of a session among them is noticed."""
    name = fresh_name()
    with LockerFactory(setting.url) as factory, contextlib.ExitStack() as stack:
        stack.callback(delete_below, setting.url, name)
        lockers = [factory.create(f"{name}/{number}") for number in range(setting.lockers)]
        for call in [locker.submit_lock("1") for locker in lockers]:
            call.result(PATIENCE)
        idle = Spent(setting)
        time.sleep(setting.idle)
        found = idle.figures()
        lease = lockers[len(lockers) // 2].held["1"]
        ask(setting.url, "PUT", f"/v1/session/destroy/{lease.session_id}")
        begun = time.monotonic()
        if lease.wait_lost(READY) is None:
            raise RuntimeError(f"a destroyed session was not noticed within {READY:g} s")
        found["noticed"] = time.monotonic() - begun
    return found
