#!/usr/bin/env python3
"""How fast unique locks are granted, beside python-consul2's own client, as ratios: threads, tasks, and the cache.

    python benchmarks/bench_locks.py                     # on an agent of its own, where a Consul binary is found
    python benchmarks/bench_locks.py --url http://127.0.0.1:8500

README.rst, beside this file, says how to read the figures. The keys of a run are deleted at its end.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import statistics
import sys
import threading
import time
import timeit
import uuid
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

from common import READY, add_url, agent, plain_client, side_by_side

from consul_locker import LockerFactory, aio

#: Callers -> the ratio to aim at. A bare loop that commits in groups reaches about 2.9, 8 and 20.
AIMS = {1: 2.5, 10: 5.0, 100: 12.0}

#: Concurrent callers of the asyncio lines: those of the threads, and as many as no program has threads.
TASKS = (*AIMS, 500)

#: The other client's threads beside that many tasks, at most: each has a connection, and Consul refuses a client
#: address more than 200.
MOST_THREADS = 100

#: Look-ups in one measurement of the cache, and how many of those: the fastest counts, the others were disturbed.
LOOK_UPS, REPEATS = 100_000, 7

#: Locks granted before the clock starts: connections are open then, and the code is warm.
WARM_UP = 200

#: How long all callers of one measurement may take together, in seconds, before something must be wrong.
PATIENCE = 600.0

Lock = Callable[[str], object]


class Contestant(NamedTuple):
    """What is measured.

    Attributes:
        name: for the table.
        opened: ``opened(url, name, callers)`` is a context manager that gives one function for each caller, which
            locks an id below ``name`` or raises.
    """

    name: str
    opened: Callable[[str, str, int], contextlib.AbstractContextManager[Sequence[Lock]]]


@contextlib.contextmanager
def ours(url: str, name: str, callers: int) -> Iterator[Sequence[Lock]]:
    """One Locker for all callers: what a program has."""
    with LockerFactory(url) as factory, factory.create(name) as locker:
        if not locker.wait_for_state("ready", READY):
            raise SystemExit(f"no session at {url} within {READY:g} s")
        yield [locker.lock] * callers


def theirs(shared: bool) -> Callable[[str, str, int], contextlib.AbstractContextManager[Sequence[Lock]]]:
    """python-consul2's `kv.put` with ``acquire``, and one session for all callers, as our Locker has.

    Args:
        shared: all callers use one client (it has a pool of 10 connections), instead of one each.
    """

    @contextlib.contextmanager
    def opened(url: str, name: str, callers: int) -> Iterator[Sequence[Lock]]:
        clients = [plain_client(url) for _ in range(1 if shared else callers)]
        session = clients[0].session.create(name, lock_delay=0)
        value = '{"pid": 1}'

        def lock_with(client: Any) -> Lock:
            def lock(id: str) -> None:
                if client.kv.put(f"{name}/{id}/lock", value, acquire=session) is not True:
                    raise RuntimeError(f"{id} was not granted")

            return lock

        yield [lock_with(clients[number % len(clients)]) for number in range(callers)]
        clients[0].session.destroy(session)

    return opened


def measured_tasks(url: str, ids: int, callers: int) -> float:
    """Lock that many unique ids with that many tasks on one loop; return the rate, in locks a second."""
    name = f"bench-{uuid.uuid4().hex}"

    async def seconds_of_all() -> float:
        async with aio.LockerFactory(url) as factory, factory.create(name) as locker:
            if not await locker.wait_for_state("ready", READY):
                raise SystemExit(f"no session at {url} within {READY:g} s")

            async def call(own: Sequence[str]) -> None:
                for id in own:
                    await locker.lock(id)

            async def all_of(wanted: Sequence[str]) -> None:
                await asyncio.gather(*(call(wanted[number::callers]) for number in range(callers)))

            await all_of([f"warm-{number}" for number in range(WARM_UP)])
            gc.collect()
            begun = time.perf_counter()
            await asyncio.wait_for(all_of([f"{number:06}" for number in range(ids)]), PATIENCE)
            return time.perf_counter() - begun

    seconds = asyncio.run(seconds_of_all())
    plain_client(url).kv.delete(f"{name}/", recurse=True)
    return ids / seconds


def measured(contestant: Contestant, url: str, ids: int, callers: int) -> float:
    """Lock that many unique ids with that many threads; return the rate, in locks a second."""
    name = f"bench-{uuid.uuid4().hex}"
    with contestant.opened(url, name, callers) as locks:
        for number in range(WARM_UP):
            locks[number % callers](f"warm-{number}")
        ready = threading.Barrier(callers + 1)
        failures: list[BaseException] = []

        def call(lock: Lock, own: Sequence[str]) -> None:
            ready.wait()
            try:
                for id in own:
                    lock(id)
            except BaseException as error:
                failures.append(error)

        wanted = [f"{number:06}" for number in range(ids)]
        threads = [
            threading.Thread(target=call, args=(lock, wanted[number::callers]), daemon=True)
            for number, lock in enumerate(locks)
        ]
        for thread in threads:
            thread.start()
        gc.collect()
        ready.wait()
        begun = time.perf_counter()
        for thread in threads:
            thread.join(PATIENCE)
        seconds = time.perf_counter() - begun
        if failures:
            raise failures[0]
        if any(thread.is_alive() for thread in threads):
            raise SystemExit(f"{contestant.name}: not done within {PATIENCE:g} s")
    plain_client(url).kv.delete(f"{name}/", recurse=True)
    return ids / seconds


def compared(title: str, one: Callable[[], float], two: Callable[[], float], rounds: int, aim: float | None) -> None:
    """Measure our rate and the other's round by round, in turn, and print a line with the medians."""
    mine, other = side_by_side(one, two, rounds=rounds)
    ratios = [ours / theirs for ours, theirs in zip(mine, other, strict=True)]
    print(
        f"{title:>12}  {statistics.median(mine):>11,.0f}/s  {statistics.median(other):>12,.0f}/s  "
        f"{statistics.median(ratios):>6.2f}  {f'{min(ratios):.2f} - {max(ratios):.2f}':>13}  "
        f"{'' if aim is None else f'{aim:.1f}':>5}".rstrip(),
        flush=True,
    )


def cached(url: str) -> None:
    """Print how long a lock takes that the Locker has already, in a thread and in a task, beside a dictionary."""
    with ours(url, f"bench-{uuid.uuid4().hex}", 1) as (lock,):
        table = {"1": lock("1")}
        thread, other = (
            min(timeit.repeat(each, globals={"lock": lock, "table": table}, number=LOOK_UPS, repeat=REPEATS))
            for each in ("lock('1')", "table['1']")
        )
    task = asyncio.run(cached_on_a_loop(url))
    for who, seconds in (("thread", thread), ("task", task)):
        print(
            f"a cached lock takes a {who} {seconds / LOOK_UPS * 1e9:.0f} ns, {seconds / other:.0f} times a look-up in "
            f"a dictionary ({other / LOOK_UPS * 1e9:.0f} ns)"
        )


async def cached_on_a_loop(url: str) -> float:
    """How long `LOOK_UPS` locks take on asyncio that the Locker has already, in seconds."""
    async with aio.LockerFactory(url) as factory, factory.create(f"bench-{uuid.uuid4().hex}") as locker:
        await locker.lock("1")
        measured = []
        for _ in range(REPEATS):
            begun = time.perf_counter()
            for _ in range(LOOK_UPS):
                await locker.lock("1")
            measured.append(time.perf_counter() - begun)
        return min(measured)


def run(url: str, options: argparse.Namespace) -> None:
    """Measure what the options ask for."""
    mine, other = Contestant("consul_locker", ours), Contestant("python-consul2", theirs(options.shared_client))
    ids, clients = options.ids, "one client for all" if options.shared_client else "a client for each caller"
    print(f"{ids} unique ids, {options.rounds} rounds, medians; python-consul2 with {clients}")
    print("     callers  consul_locker  python-consul2   ratio    (of rounds)    aim")
    for count in options.callers:
        one, two = partial(measured, mine, url, ids, count), partial(measured, other, url, ids, count)
        compared(f"{count} threads", one, two, options.rounds, AIMS.get(count))
    for count in options.tasks:
        one = partial(measured_tasks, url, ids, count)
        two = partial(measured, other, url, ids, min(count, MOST_THREADS))
        compared(f"{count} tasks", one, two, options.rounds, None)
    cached(url)


def main(arguments: list[str] | None = None) -> int:
    """Measure; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_url(parser)
    parser.add_argument("--ids", type=int, default=10_000, help="unique ids a measurement (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="of each measurement (%(default)s)")
    parser.add_argument("--callers", type=int, nargs="*", default=list(AIMS), help="threads (%(default)s)")
    parser.add_argument("--tasks", type=int, nargs="*", default=list(TASKS), help="asyncio callers (%(default)s)")
    parser.add_argument("--shared-client", action="store_true", help="python-consul2's callers share one client")
    options = parser.parse_args(arguments)
    with agent(options.url) as url:
        run(url, options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
