"""What measurements have in common: what they are told, how a rate is measured, a process of its own for each."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import multiprocessing
import threading
import time
import traceback
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, TypeVar

#: What came of a measurement, by name: "rate" is how many a second, "cpu" the client's processor time each, in µs.
Figures = Mapping[str, float]

Lock = Callable[[str], object]
AsyncLock = Callable[[str], Awaitable[object]]
Result = TypeVar("Result")

#: Locks granted before the clock starts: connections are open then, and the code is warm.
WARM_UP = 200

#: How long a session may take to be there, in seconds.
READY = 10.0

#: How long one measurement may take, in seconds, before something must be wrong; those of 100,000 locks take a minute
#: or two.
PATIENCE = 600.0


class Setting(NamedTuple):
    """What all measurements of a run are told.

    Attributes:
        url: Consul's.
        consul: the process of the agent, where it is ours.
        redis: the port of a Redis of ours on loopback, where there is one.
        seconds: how long a rate is measured.
        calls: how many calls where they are counted instead.
        turns: how often each Locker has a contended lock.
        held: how many locks are held where many are.
        lockers: how many Lockers there are where many are.
        idle: how long an idle process is watched, in seconds.
        noticing: how long it may take until a deleted key is noticed, in seconds; 0: none is deleted.
    """

    url: str
    consul: int | None
    redis: int | None
    seconds: float
    calls: int
    turns: int
    held: int
    lockers: int
    idle: float
    noticing: float


Measure = Callable[[Setting], Figures]


class Missing(Exception):
    """What a measurement needs is not here; says what, and how to get it."""


def fresh_name() -> str:
    """A name for Lockers that nobody has used."""
    return f"bench-{uuid.uuid4().hex}"


def figures(count: int, seconds: float, processor: float) -> Figures:
    """A rate, and the client's processor time for each."""
    return {"rate": count / seconds, "cpu": processor / count * 1e6}


def rate_of_threads(locks: Sequence[Lock], seconds: float) -> Figures:
    """Lock unique ids with a thread for each of these functions, for that long."""
    for number in range(WARM_UP):
        locks[number % len(locks)](f"warm-{number}")
    counts, failures = [0] * len(locks), list[BaseException]()
    ready, end = threading.Barrier(len(locks) + 1), 0.0

    def call(own: int, lock: Lock) -> None:
        ready.wait()
        number = 0
        try:
            while True:  # at least one
                lock(f"{own}-{number}")
                number += 1
                if time.perf_counter() >= end:
                    break
        except BaseException as error:
            failures.append(error)
        counts[own] = number

    threads = [threading.Thread(target=call, args=one, daemon=True) for one in enumerate(locks)]
    for thread in threads:
        thread.start()
    gc.collect()
    begun, processor = time.perf_counter(), time.process_time()
    end = begun + seconds
    ready.wait()
    for thread in threads:
        thread.join(PATIENCE)
    if failures:
        raise failures[0]
    return figures(sum(counts), time.perf_counter() - begun, time.process_time() - processor)


async def rate_of_tasks(lock: AsyncLock, callers: int, seconds: float) -> Figures:
    """Lock unique ids with that many tasks, for that long."""

    async def warm(numbers: range) -> None:
        for number in numbers:
            await lock(f"warm-{number}")

    async def call(own: int) -> int:
        number = 0
        while True:  # at least one
            await lock(f"{own}-{number}")
            number += 1
            if time.perf_counter() >= begun + seconds:
                return number

    await asyncio.gather(*(warm(range(WARM_UP)[own::callers]) for own in range(callers)))
    gc.collect()
    begun, processor = time.perf_counter(), time.process_time()
    counts = await asyncio.gather(*map(call, range(callers)))
    return figures(sum(counts), time.perf_counter() - begun, time.process_time() - processor)


def on_loop(uvloop: bool, main: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
    """Run it on an event loop of asyncio, or of uvloop."""
    if not uvloop:
        return asyncio.run(main())
    import uvloop as package

    loop = package.new_event_loop()
    try:
        return loop.run_until_complete(main())
    finally:
        loop.close()


# ---------------------------------------------------------------------------------- a process for each


def _measure(measure: Measure, setting: Setting, result: Connection) -> None:
    """In the process of its own."""
    logging.disable(logging.CRITICAL)  # what is lost on purpose would be told
    try:
        result.send(measure(setting))
    except Missing as error:
        result.send(error)
    except BaseException as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        result.send(f"{type(error).__name__}: {error} ({place.filename}:{place.lineno})")


def apart(measure: Measure, setting: Setting) -> Figures:
    """Measure in a process of its own: no threads, objects or connections of another measurement are there.

    It is forked from a server that has imported everything, so it begins at once.

    Raises:
        Missing: what it needs is not here.
        RuntimeError: it failed, or took longer than `PATIENCE`.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.workloads"])
    ours, its = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(measure, setting, its))
    process.start()
    its.close()
    result: Figures | Missing | str = f"took longer than {PATIENCE:g} s"
    try:
        if ours.poll(PATIENCE):
            with contextlib.suppress(EOFError):
                result = "its process died"
                result = ours.recv()
    finally:
        process.join(0 if isinstance(result, str) else READY)
        if process.is_alive():
            process.terminate()
            process.join()
        ours.close()
    if isinstance(result, Missing):
        raise result
    if isinstance(result, str):
        raise RuntimeError(result)
    return result
