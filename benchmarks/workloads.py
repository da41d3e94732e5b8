"""All that is measured, by whom, and the goals."""

from __future__ import annotations

from fnmatch import fnmatchcase
from functools import partial
from typing import NamedTuple

from benchmarks import bare, handover, holding, ours, peers
from benchmarks.measuring import Measure

#: The names of who takes part. Ours have the name of what they run on.
THREADS, ASYNCIO, UVLOOP = "threads", "asyncio", "asyncio on uvloop"
BARE, WRK, PYTHON, NODE, REDIS = "bare loop", "wrk", "python-consul2", "Node's consul", "redis-py Lock"
PEERS = (BARE, WRK, PYTHON, NODE, REDIS)


class Goal(NamedTuple):
    """What a figure of ours should reach.

    Attributes:
        figure: its name.
        limit: the value, or the ratio.
        of: a workload and who takes part in it, whose figure it is divided by, in the same round; None: absolute.
        at_most: it should not be more; else it should be no less.
        disk: the limit with Consul's log on disk; None: there is none.
    """

    figure: str
    limit: float
    of: tuple[str, str] | None = None
    at_most: bool = False
    disk: float | None = None


class Contestant(NamedTuple):
    """Who is measured, how, and what it should reach."""

    name: str
    measure: Measure
    goals: tuple[Goal, ...] = ()


class Workload(NamedTuple):
    """What is measured.

    Attributes:
        name: for ``--only``.
        title: for tables.
        contestants: who takes part, ours first.
        once: in the first round only, since it takes long.
        disk: it is measured by ``--disk``, too.
    """

    name: str
    title: str
    contestants: tuple[Contestant, ...]
    once: bool = False
    disk: bool = False


#: Figures by their names: what they are, and how they are written.
FIGURES: dict[str, tuple[str, str]] = {
    "rate": ("a second", "{:,.0f}/s"),
    "cpu": ("the client's processor time for each", "{:,.0f} µs"),
    "requests": ("requests to Consul a handover", "{:.1f}"),
    "changes": ("handovers to another Locker", "{:.0f} %"),
    "spread": ("longest mean wait of a Locker / shortest", "{:.2f}"),
    "cached_thread": ("a cached lock, by a thread", "{:,.0f} ns"),
    "cached_task": ("a cached lock, by a task", "{:,.0f} ns"),
    "bytes": ("resident memory of a held lock", "{:,.0f} bytes"),
    "cost_growth": ("processor time of a lock at the last mark / at the first", "{:.2f}"),
    "idle_cpu": ("idle: of a core, here", "{:.1f} %"),
    "idle_consul": ("idle: of a core, in Consul", "{:.1f} %"),
    "more_threads": ("threads more than with one lock", "{:+.0f}"),
    "more_descriptors": ("descriptors more than with one lock", "{:+.0f}"),
    "noticed": ("loss noticed after", "{:.2f} s"),
    "stop": ("stop", "{:.2f} s"),
    "stop_cpu": ("stop: processor time here", "{:.2f} s"),
    "stop_consul": ("stop: processor time in Consul", "{:.2f} s"),
    "step": ("idle: longest step", "{:.1f} ms"),
    "stop_step": ("stop: longest step", "{:.1f} ms"),
    "requests_before": ("requests before", "{:.1f}/s"),
    "requests_after": ("requests after", "{:.1f}/s"),
    "more_requests": ("requests more than before", "{:+.1f}/s"),
    "made": ("making a Locker", "{:.3f} ms"),
    "locker_bytes": ("memory of a new Locker", "{:,.0f} bytes"),
}


def figure_of(name: str) -> tuple[str, str]:
    """What a figure is, and how it is written."""
    if name.startswith("cost_") and name not in FIGURES:
        return f"processor time of a lock with {int(name[5:]):,} held", "{:,.0f} µs"
    return FIGURES[name]


def _at_most(**limits: float) -> tuple[Goal, ...]:
    return tuple(Goal(figure, limit, at_most=True) for figure, limit in limits.items())


def _with_threads(callers: int, of_bare: float, of_wrk: float, disk: float | None) -> Workload:
    name = f"threads-{callers}"
    goals = Goal("rate", of_bare, (name, BARE), disk=disk), Goal("rate", of_wrk, (name, WRK))
    return Workload(
        name,
        f"{callers} thread{'s' if callers > 1 else ''}",
        (
            Contestant(THREADS, partial(ours.threads, callers=callers), goals),
            Contestant(BARE, partial(bare.threads, callers=callers)),
            Contestant(WRK, partial(peers.wrk, callers=callers)),
            Contestant(PYTHON, partial(peers.python_consul, callers=callers)),
            Contestant(NODE, partial(peers.node, callers=callers)),
            Contestant(REDIS, partial(peers.redis_threads, callers=callers)),
        ),
        disk=disk is not None,
    )


def _with_tasks(callers: int, of_bare: float, disk: float | None) -> Workload:
    name = f"asyncio-{callers}"
    goal = (Goal("rate", of_bare, (name, BARE), disk=disk),)
    return Workload(
        name,
        f"{callers} task{'s' if callers > 1 else ''}",
        (
            Contestant(ASYNCIO, partial(ours.tasks, callers=callers), goal),
            Contestant(UVLOOP, partial(ours.tasks, callers=callers, uvloop=True)),
            Contestant(BARE, partial(bare.tasks, callers=callers)),
            # A connection for each promise: Consul refuses one address more than 200.
            *((Contestant(NODE, partial(peers.node, callers=callers)),) if callers <= 100 else ()),
            Contestant(REDIS, partial(peers.redis_tasks, callers=callers)),
        ),
        disk=disk is not None,
    )


def _ours_only(name: str, title: str, measure: Measure, limit: float, of: tuple[str, str]) -> Workload:
    return Workload(name, title, (Contestant(THREADS, measure, (Goal("rate", limit, of),)),))


#: What kazoo's Lock reached where the goals were set, in handovers a second; and how many requests one may take.
KAZOO, REQUESTS = 259, 6


def _handover(lockers: int, fair: bool) -> Workload:
    goals = Goal("rate", KAZOO), Goal("requests", REQUESTS, at_most=True)
    measure = partial(handover.measured, lockers=lockers)
    return Workload(
        f"handover-{lockers}{'-fair' if fair else ''}",
        f"{lockers} Lockers hand over, {'fair' if fair else 'fastest'}",
        (
            Contestant(THREADS, partial(measure, kind=handover.OURS, fair=fair), goals if lockers == 8 else ()),
            Contestant(ASYNCIO, partial(measure, kind=handover.TASKS, fair=fair), goals if lockers == 8 else ()),
            *(() if fair else (Contestant(PYTHON, partial(measure, kind=handover.THEIRS)),)),
        ),
    )


_BARE_100_TASKS, _OWN_10 = ("asyncio-100", BARE), ("threads-10", THREADS)

#: An idle process is watched for steps and loss; its limits are of the machine with two cores of the goals.
_HELD = _at_most(
    bytes=400, idle_cpu=2, idle_consul=3, noticed=1, more_threads=0, more_descriptors=0, stop=2, cost_growth=1.2
)

ALL: tuple[Workload, ...] = (
    _with_threads(1, 0.8, 1.0, None),
    _with_threads(10, 0.7, 1.2, 0.7),
    _with_threads(100, 0.6, 1.5, 0.7),
    _with_tasks(1, 0.75, None),
    _with_tasks(10, 0.6, None),
    _with_tasks(100, 0.6, 0.7),
    _with_tasks(500, 0.6, None),
    _ours_only("submit", "submit_lock from one thread", ours.submitted, 0.6, _BARE_100_TASKS),
    _ours_only("lock-many", "lock_many, 64 ids a call", ours.many, 0.7, _BARE_100_TASKS),
    _ours_only("pairs", "10 threads, lock and release", partial(ours.pairs, callers=10), 0.45, _OWN_10),
    _ours_only("contended", "10 threads, 1 id in 10 taken", partial(ours.contended, callers=10), 0.5, _OWN_10),
    _ours_only("observed", "10 threads, observed", partial(ours.observed, callers=10), 0.8, _OWN_10),
    _handover(8, fair=False),
    _handover(8, fair=True),
    _handover(32, fair=True),
    Workload("cached", "a cached lock", (Contestant(THREADS, ours.cached, _at_most(cached_thread=400)),)),
    Workload("made", "making a Locker", (Contestant(ASYNCIO, holding.made, _at_most(made=0.1, locker_bytes=8192)),)),
    Workload(
        "lockers",
        "many idle Lockers",
        (Contestant(THREADS, holding.idle_lockers, _at_most(idle_cpu=10, noticed=1)),),
        once=True,
    ),
    Workload(
        "held",
        "many locks held",
        (
            Contestant(THREADS, holding.by_threads, _HELD),
            Contestant(
                ASYNCIO,
                holding.on_a_loop,
                _at_most(bytes=400, idle_cpu=2, idle_consul=3, step=20, stop=2, stop_step=20),
            ),
        ),
        once=True,
    ),
    # A renewal or a watch more or less in the time watched is no difference.
    Workload(
        "released",
        "after many releases",
        (Contestant(THREADS, holding.released, _at_most(more_requests=0.3)),),
        once=True,
    ),
)


def chosen(patterns: list[str], disk: bool) -> list[Workload]:
    """The workloads of these names (``threads-*``), and whom their goals are measured by.

    Raises:
        ValueError: a pattern names none.
    """
    candidates = [one for one in ALL if one.disk] if disk else list(ALL)
    if not patterns:
        return candidates
    for pattern in patterns:
        if not any(fnmatchcase(one.name, pattern) for one in candidates):
            raise ValueError(f"no workload is named {pattern!r}; there are {', '.join(one.name for one in candidates)}")
    wanted = {one.name for one in candidates if any(fnmatchcase(one.name, pattern) for pattern in patterns)}
    needed = {
        goal.of
        for one in candidates
        if one.name in wanted
        for contestant in one.contestants
        for goal in contestant.goals
        if goal.of is not None
    }
    found = []
    for one in candidates:
        kept = tuple(who for who in one.contestants if one.name in wanted or (one.name, who.name) in needed)
        if kept:
            found.append(one._replace(contestants=kept))
    return found
