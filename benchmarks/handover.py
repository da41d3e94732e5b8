"""How a contended lock goes from hand to hand between processes: ours, and the loop one writes with python-consul2."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

from benchmarks.measuring import PATIENCE, READY, Figures, Setting, fresh_name
from benchmarks.servers import all_requests_seen, delete_below, plain_client
from consul_locker import LockerFactory, aio

#: The Lockers are in so many processes.
PROCESSES = 4

#: How long a turn takes, in seconds.
HELD = 0.001

Hold = Callable[[], contextlib.AbstractContextManager[object]]

#: Who takes part, by the name in the table.
OURS, TASKS, THEIRS = "threads", "asyncio", "python-consul2"


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
        fair: whether ours are to be served in the order in which they came.
    """

    url: str
    name: str
    turns: int
    fair: bool


# ----------------------------------------------------------------------------------- those who take part


@contextlib.contextmanager
def ours(contest: Contest, lockers: int) -> Iterator[Sequence[Hold]]:
    """Lockers of one factory, as a program has them. Gives a function for each, which begins a hold."""
    options: dict[str, Any] = {"fair": True} if contest.fair else {}
    with LockerFactory(contest.url) as factory:
        made = [factory.create(contest.name, **options) for _ in range(lockers)]
        if not all(locker.wait_for_state("ready", READY) for locker in made):
            raise RuntimeError(f"no session at {contest.url} within {READY:g} s")
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
                await asyncio.sleep(HELD)
                left = time.monotonic()
            turns.append(Turn(number, asked, got, left))

    async with aio.LockerFactory(contest.url) as factory:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(len(numbers)))  # they wait at the start
        made = [factory.create(contest.name, **options) for _ in numbers]
        if not all([await locker.wait_for_state("ready", READY) for locker in made]):
            raise RuntimeError(f"no session at {contest.url} within {READY:g} s")
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
                    time.sleep(HELD)
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

def measured(setting: Setting, kind: str, lockers: int, fair: bool = False) -> Figures:
    """Let that many Lockers compete for one key."""
    contest = Contest(setting.url, fresh_name(), setting.turns, fair)
    processes = min(PROCESSES, lockers)
    context = multiprocessing.get_context("fork")  # all is imported, and nothing runs here that would be forked along
    start, results = context.Barrier(lockers), context.Queue()
    before = all_requests_seen(setting.url)
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
            raise RuntimeError(f"{kind}: {result}")
        turns += result
    for child in children:
        child.join(PATIENCE)
    after = all_requests_seen(setting.url)
    delete_below(setting.url, contest.name)
    found = figures_of(turns)
    if before is not None and after is not None:
        found["requests"] = (after - before) / (len(turns) - 1)
    return found


def figures_of(turns: list[Turn]) -> dict[str, float]:
    """What the turns of all lockers say.

    Returns:
        "rate": handovers a second; "changes": the part of them that went to another Locker, in percent; "spread": the
        longest mean wait of a Locker, divided by the shortest.

    Raises:
        RuntimeError: two had the lock at once.
    """
    turns = sorted(turns, key=lambda turn: turn.got)
    if any(later.got < earlier.left for earlier, later in pairwise(turns)):
        raise RuntimeError("two lockers had the lock at once")
    handovers = len(turns) - 1
    waits = [
        statistics.mean(turn.got - turn.asked for turn in turns if turn.locker == locker)
        for locker in {turn.locker for turn in turns}
    ]
    return {
        "rate": handovers / (turns[-1].left - turns[0].left),
        "changes": sum(earlier.locker != later.locker for earlier, later in pairwise(turns)) / handovers * 100,
        "spread": max(waits) / min(waits),
    }
