#!/usr/bin/env python3
"""How a contended lock goes from hand to hand between processes, beside a plain loop of python-consul2.

    python benchmarks/bench_handover.py                     # on an agent of its own, where a Consul binary is found
    python benchmarks/bench_handover.py --lockers 8 32 --fair

README.rst, beside this file, says how to read the figures.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import multiprocessing
import re
import statistics
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

from common import READY, add_url, agent, plain_client, side_by_side

from consul_locker import LockerFactory, aio

#: What has the private agent count its requests for ever, not for the last ten seconds only.
TELEMETRY = 'telemetry { prometheus_retention_time = "24h" disable_hostname = true }'

#: How long a contest may take, in seconds, before something must be wrong.
PATIENCE = 600.0

#: How long the agent's count of requests must have stood still, in seconds, before it is taken for the whole.
QUIET = 0.2

Hold = Callable[[], contextlib.AbstractContextManager[object]]

#: Who takes part, by the name in the table.
OURS, TASKS, THEIRS = "consul_locker", "its tasks", "python-consul2"


class Turn(NamedTuple):
    """One time that a locker had the lock. Times are of the monotonic clock, which all processes share."""

    locker: int
    asked: float
    got: float
    left: float


class Contest(NamedTuple):
    """What is the same for all who take part.

    Attributes:
        url: the agent's.
        name: of the lockers.
        turns: how often each has the lock.
        held: how long each time, in seconds.
        fair: whether ours are to be served in the order in which they came.
    """

    url: str
    name: str
    turns: int
    held: float
    fair: bool


class Figures(NamedTuple):
    """What came of one contest.

    Attributes:
        rate: handovers a second.
        requests: HTTP requests to Consul a handover; None when the agent does not count them.
        changes: the part of the handovers that went to another locker, 0 to 1.
        spread: the longest mean wait of a locker, divided by the shortest.
    """

    rate: float
    requests: float | None
    changes: float
    spread: float


# ----------------------------------------------------------------------------------- those who take part


@contextlib.contextmanager
def ours(contest: Contest, lockers: int) -> Iterator[Sequence[Hold]]:
    """Lockers of one factory, as a program has them. Gives a function for each, which begins a hold."""
    options: dict[str, Any] = {"fair": True} if contest.fair else {}
    with LockerFactory(contest.url) as factory:
        made = [factory.create(contest.name, **options) for _ in range(lockers)]
        if not all(locker.wait_for_state("ready", READY) for locker in made):
            raise SystemExit(f"no session at {contest.url} within {READY:g} s")
        yield [partial(locker.hold, "contended", wait=None) for locker in made]


@contextlib.contextmanager
def theirs(contest: Contest, lockers: int) -> Iterator[Sequence[Hold]]:
    """The loop that one writes with python-consul2: a client and a session for each."""
    clients = [plain_client(contest.url) for _ in range(lockers)]
    sessions = [client.session.create(contest.name, lock_delay=0) for client in clients]
    key = f"{contest.name}/contended/lock"

    @contextlib.contextmanager
    def hold(client: Any, session: str) -> Iterator[None]:
        while not client.kv.put(key, '{"pid": 1}', acquire=session):
            index, entry = client.kv.get(key)
            while entry is not None and "Session" in entry:
                index, entry = client.kv.get(key, index=index, wait="5m")
        yield
        client.kv.put(key, "", release=session)

    yield [partial(hold, client, session) for client, session in zip(clients, sessions, strict=True)]
    for client, session in zip(clients, sessions, strict=True):
        client.session.destroy(session)


CONTESTANTS = {OURS: ours, THEIRS: theirs}


def compete(kind: str, contest: Contest, numbers: Sequence[int], start: Any, results: Any) -> None:
    """One process, with its lockers. Puts the list of their turns, or what went wrong as text."""
    try:
        if kind == TASKS:
            turns = asyncio.run(in_tasks(contest, numbers, start))
        else:
            turns = in_threads(kind, contest, numbers, start)
    except threading.BrokenBarrierError:
        results.put([])  # another process tells why
    except BaseException as error:
        results.put(f"{type(error).__name__}: {error}")
        start.abort()  # nobody waits for this process any more
    else:
        results.put(turns)


async def in_tasks(contest: Contest, numbers: Sequence[int], start: Any) -> list[Turn]:
    """A task for each locker, all on one event loop."""
    turns: list[Turn] = []
    options: dict[str, Any] = {"fair": True} if contest.fair else {}

    async def take_turns(number: int, locker: aio.Locker) -> None:
        await asyncio.to_thread(start.wait, PATIENCE)
        for _ in range(contest.turns):
            asked = time.monotonic()
            async with locker.hold("contended", wait=None):
                got = time.monotonic()
                await asyncio.sleep(contest.held)
                left = time.monotonic()
            turns.append(Turn(number, asked, got, left))

    async with aio.LockerFactory(contest.url) as factory:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(len(numbers)))  # they wait at the start
        made = [factory.create(contest.name, **options) for _ in numbers]
        if not all([await locker.wait_for_state("ready", READY) for locker in made]):
            raise SystemExit(f"no session at {contest.url} within {READY:g} s")
        await asyncio.gather(*map(take_turns, numbers, made))
    return turns


def in_threads(kind: str, contest: Contest, numbers: Sequence[int], start: Any) -> list[Turn]:
    """A thread for each locker."""
    turns: list[Turn] = []
    failures: list[BaseException] = []

    def take_turns(number: int, hold: Hold) -> None:
        try:
            start.wait(PATIENCE)
            for _ in range(contest.turns):
                asked = time.monotonic()
                with hold():
                    got = time.monotonic()
                    time.sleep(contest.held)
                    left = time.monotonic()
                turns.append(Turn(number, asked, got, left))
        except BaseException as error:
            failures.append(error)
            start.abort()

    with CONTESTANTS[kind](contest, len(numbers)) as holds:
        threads = [
            threading.Thread(target=take_turns, args=one, daemon=True) for one in zip(numbers, holds, strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if failures:
        raise failures[0]
    return turns


# ------------------------------------------------------------------------------------------ the contest


def requests_seen(url: str) -> int | None:
    """How many requests the agent has answered, by its own count; None when it keeps none."""
    try:
        with urllib.request.urlopen(f"{url}/v1/agent/metrics?format=prometheus") as answer:
            text = answer.read().decode()
    except urllib.error.HTTPError:
        return None
    counts = re.findall(r"^consul_http_(?!GET_v1_agent_metrics)\w+_count (\d+)", text, re.MULTILINE)
    return sum(map(int, counts)) if counts else None


def all_requests_seen(url: str) -> int | None:
    """The same, after those have been counted that were just given up: Consul notices when the key changes."""
    before = requests_seen(url)
    while before is not None:
        time.sleep(QUIET)
        seen = requests_seen(url)
        if seen == before:
            break
        before = seen
    return before


def measured(kind: str, options: argparse.Namespace, url: str, lockers: int) -> Figures:
    """Let that many lockers compete for one key."""
    contest = Contest(url, f"bench-{uuid.uuid4().hex}", options.turns, options.hold / 1000, options.fair)
    processes = min(options.processes, lockers)
    context = multiprocessing.get_context("spawn")  # nothing of this process is theirs
    start, results = context.Barrier(lockers), context.Queue()
    before = all_requests_seen(url)
    shares = [range(lockers)[one::processes] for one in range(processes)]
    children = [
        context.Process(target=compete, args=(kind, contest, share, start, results), daemon=True) for share in shares
    ]
    for child in children:
        child.start()
    turns: list[Turn] = []
    for _ in children:
        result = results.get(timeout=PATIENCE)
        if isinstance(result, str):
            raise SystemExit(f"{kind}: {result}")
        turns += result
    for child in children:
        child.join(PATIENCE)
    plain_client(url).kv.delete(f"{contest.name}/", recurse=True)
    after = all_requests_seen(url)
    made = None if before is None or after is None else after - before - 1  # that of the line above is not theirs
    return figures(turns, made)


def figures(turns: list[Turn], requests: int | None) -> Figures:
    """What the turns of all lockers say.

    Raises:
        SystemExit: two had the lock at once.
    """
    turns = sorted(turns, key=lambda turn: turn.got)
    if any(later.got < earlier.left for earlier, later in pairwise(turns)):
        raise SystemExit("two lockers had the lock at once")
    handovers = len(turns) - 1
    waits = [
        statistics.mean(turn.got - turn.asked for turn in turns if turn.locker == locker)
        for locker in {turn.locker for turn in turns}
    ]
    return Figures(
        handovers / (turns[-1].left - turns[0].left),
        None if requests is None else requests / handovers,
        sum(earlier.locker != later.locker for earlier, later in pairwise(turns)) / handovers,
        max(waits) / min(waits),
    )


# -------------------------------------------------------------------------------------------- the report


def line(name: str, found: Sequence[Figures]) -> str:
    """A contestant's medians over the rounds."""
    rate, changes, spread = (
        statistics.median(getattr(one, field) for one in found) for field in ("rate", "changes", "spread")
    )
    counts = [one.requests for one in found if one.requests is not None]
    requests = f"{statistics.median(counts):.2f}" if counts else "-"
    return f"{name:>15}  {rate:>9,.0f}/s  {requests:>19}  {changes:>13.0%}  {spread:>15.2f}"


def run(url: str, options: argparse.Namespace) -> None:
    """Measure what the options ask for."""
    for lockers in options.lockers:
        print(
            f"{lockers} lockers in {min(options.processes, lockers)} processes, one key, {options.turns} turns each of "
            f"{options.hold:g} ms, {options.rounds} rounds, medians{'; ours fair' if options.fair else ''}"
        )
        kinds = OURS, TASKS, THEIRS
        measures = [partial(measured, kind, options, url, lockers) for kind in kinds]
        found = dict(zip(kinds, side_by_side(*measures, rounds=options.rounds), strict=True))
        print("                   handovers  requests a handover  owner changes  spread of waits")
        for kind in kinds:
            print(line(kind, found[kind]))
        for kind in (OURS, TASKS):
            ratios = [mine.rate / other.rate for mine, other in zip(found[kind], found[THEIRS], strict=True)]
            least, most = min(ratios), max(ratios)
            print(f"{f'ratio, {kind}':>20}  {statistics.median(ratios):.2f}  ({least:.2f} - {most:.2f})", flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Measure; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_url(parser)
    parser.add_argument("--lockers", type=int, nargs="+", default=[8], help="how many compete (%(default)s)")
    parser.add_argument("--processes", type=int, default=4, help="they are in (%(default)s)")
    parser.add_argument("--turns", type=int, default=50, help="of each locker (%(default)s)")
    parser.add_argument("--hold", type=float, default=1.0, help="how long a turn takes, in ms (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="of each contest (%(default)s)")
    parser.add_argument("--fair", action="store_true", help="our lockers are served in the order in which they came")
    options = parser.parse_args(arguments)
    with agent(options.url, "-hcl", TELEMETRY) as url:
        run(url, options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
