"""What an outage of Consul costs those who call meanwhile. Each case prints how many calls were served.

    python -m benchmarks.outages restart     # 13 kinds of calls while Consul, its log on disk, is away for 4 s
    python -m benchmarks.outages limit       # 600 locks and 600 releases over a rate limit of the embedded agent
    python -m benchmarks.outages renewals    # 20 leases while 9 of 10 renewals are refused for a minute
    python -m benchmarks.outages leaders     # three servers, and kill -9 of the leader every 15 s for 5 minutes

``restart --timeline FILE`` writes what happened, and when, as JSON; ``--svg FILE`` draws it.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.measuring import READY
from benchmarks.timeline import Timeline, draw
from consul_locker import ConfigurationError, signals
from consul_locker.embedded import Agent, RequestLimits
from tests.behaviour import faces
from tests.cluster import Cluster
from tests.faults.proxy import OVER_WRITE_RATE, RENEWAL, Fate, Proxy
from tests.real_consul import RealConsul, find_binary

#: No call waits for longer, in seconds; longer than any limit of the library's.
PATIENCE = 120.0


class Result(NamedTuple):
    """What became of a call.

    Attributes:
        call: which.
        seconds: how long it took.
        error: why it was not served; empty if it was.
    """

    call: str
    seconds: float
    error: str


def timed(name: str, call: Callable[[], object]) -> Result:
    """Make a call; one that returns False was not served."""
    began = time.monotonic()
    try:
        error = "answered False" if call() is False else ""
    except Exception as failure:
        error = f"{type(failure).__name__}: {failure}"
    return Result(name, time.monotonic() - began, error)


@contextmanager
def losses() -> Iterator[list[tuple[Any, str]]]:
    """The leases that are lost inside, with their reasons."""
    found: list[tuple[Any, str]] = []

    def hear(sender: object, reason: str, lease: Any, **facts: Any) -> None:
        found.append((lease, reason))

    with signals.lock_lost.connected_to(hear):
        yield found


def binary() -> str:
    """The path of Consul."""
    found = find_binary()
    if found is None:
        raise SystemExit("no Consul found (CONSUL_BINARY, PATH, .ci/cache/); .ci/get-consul gets one")
    return found


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)


# ------------------------------------------------------------------------------------------------- a restart


def calls_in_an_outage(factory: Any, locker: Any, kept: Any) -> dict[str, Callable[[], object]]:
    """Each kind of call, ready to be made; all at the same time."""
    write = [{"KV": {"Verb": "set", "Key": f"{locker.name}/colour", "Value": "Ymx1ZQ=="}}]

    def hold() -> None:
        with locker.hold("hold"):
            pass

    def hold_many() -> None:
        with locker.hold_many(["hold-1", "hold-2"]):
            pass

    return {
        "lock": lambda: locker.lock("lock"),
        "lock(wait=20)": lambda: locker.lock("lock-wait", wait=20),
        "lock_many": lambda: locker.lock_many(["many-1", "many-2"]),
        "submit_lock": lambda: locker.submit_lock("submitted").result(PATIENCE),
        "hold": hold,
        "hold_many": hold_many,
        "release": lambda: locker.release("to-release"),
        "submit_release": lambda: locker.submit_release("to-submit").result(PATIENCE),
        "info": lambda: locker.info("kept"),
        "holder": lambda: locker.holder("kept"),
        "session_info": locker.session_info,
        "guarded": lambda: locker.guarded(kept, write),
        "a new Locker's lock": lambda: factory.create("outage-new").lock("1"),
    }


def restart(options: argparse.Namespace) -> None:
    """Each kind of call is made once, right after Consul was killed."""
    for name in options.faces:
        line = Timeline()
        with ExitStack() as stack:
            agent = stack.enter_context(RealConsul(binary(), data_dir=True))
            face: Any = faces.FACES[name]()
            stack.callback(face.close)
            lost = stack.enter_context(losses())
            stack.enter_context(line.hearing())
            factory = stack.enter_context(face.factory(agent.address))
            locker = factory.create("outage", ttl=options.ttl)
            kept = locker.lock("kept", timeout=READY)
            locker.lock_many(["to-release", "to-submit"])
            calls = calls_in_an_outage(factory, locker, kept)

            def back(agent: RealConsul = agent, line: Timeline = line) -> float:
                threading.Event().wait(options.away)
                line.note("consul", "started")
                agent.restart()
                line.note("consul", "leader")
                return time.monotonic()

            def make(what: str, call: Callable[[], object], line: Timeline = line) -> Result:
                line.note(what, "called")
                result = timed(what, call)
                line.note(what, "failed" if result.error else "served", error=result.error)
                return result

            pool = stack.enter_context(ThreadPoolExecutor(len(calls) + 1))
            agent.kill()
            line.note("consul", "killed")
            killed = time.monotonic()
            returned = pool.submit(back)
            results = [one.result() for one in [pool.submit(make, *call) for call in calls.items()]]
            away = returned.result() - killed
            served = sum(not result.error for result in results)
            say(f"{name}: {served} of {len(results)} calls served; no leader for {away:.1f} s; {len(lost)} leases lost")
            for result in results:
                say(f"  {result.call:<20} {result.seconds:>6.1f} s  {result.error[:90] or 'served'}")
        if options.timeline:
            path = Path(options.timeline)
            line.write(path.with_name(f"{path.stem}-{name}{path.suffix}"))
        if options.svg:
            path = Path(options.svg)
            draw(line.events, path.with_name(f"{path.stem}-{name}{path.suffix}"))


# ---------------------------------------------------------------------------------------------- a rate limit


def limit(options: argparse.Namespace) -> None:
    """Calls come at an even pace, more of them than the agent serves: in the end all must be served."""

    def paced(submit: Callable[[Any], Future[Any]]) -> list[Result]:
        def wait(number: int, call: Future[Any], began: float) -> Result:
            result = timed(str(number), lambda: call.result(PATIENCE))
            return result._replace(seconds=time.monotonic() - began)

        begun = time.monotonic()
        pending = []
        for number in range(options.calls):
            threading.Event().wait(max(0.0, begun + number / options.pace - time.monotonic()))
            pending.append((number, submit(number), time.monotonic()))
        return [wait(*one) for one in pending]

    def tell(what: str, results: list[Result], began: float) -> None:
        served = sum(not result.error for result in results)
        say(f"  {served} of {len(results)} {what} served, after {time.monotonic() - began:.1f} s")
        errors = Counter(result.error.partition(":")[0] for result in results if result.error)
        for error, count in errors.items():
            say(f"    {count} {error}")

    for name in options.faces:
        with ExitStack() as stack:
            face: Any = faces.FACES[name]()
            stack.callback(face.close)
            agent = stack.enter_context(Agent())
            factory = stack.enter_context(face.factory(agent.address))
            locker = factory.create("outage")
            assert locker.wait_for_state("ready", READY)
            say(f"{name}: {options.pace:g} calls a second, {options.rate:g} writes a second are served")
            agent.request_limits = RequestLimits(write_rate=options.rate)
            began = time.monotonic()
            tell("locks", paced(locker.submit_lock), began)
            agent.request_limits = None
            for number in range(options.calls):
                locker.lock(number)
            agent.request_limits = RequestLimits(write_rate=options.rate)
            began = time.monotonic()
            tell("releases", paced(locker.submit_release), began)
            agent.request_limits = None


# ------------------------------------------------------------------------------------------ refused renewals


def renewals(options: argparse.Namespace) -> None:
    """Each Locker has one lease; most renewals are refused before they are done, as over a rate limit."""
    for name in options.faces:
        with ExitStack() as stack:
            face: Any = faces.FACES[name]()
            stack.callback(face.close)
            agent = stack.enter_context(Agent())
            proxy = stack.enter_context(Proxy(agent.address))
            lost = stack.enter_context(losses())
            factory = stack.enter_context(face.factory(proxy.address))
            lockers = [factory.create(f"outage-{number}") for number in range(options.leases)]
            leases = [locker.lock("1", timeout=READY) for locker in lockers]
            rule = proxy.arrange(Fate.REFUSED, RENEWAL, forged=OVER_WRITE_RATE, of=(9, 10))
            threading.Event().wait(options.seconds)
            valid, ended = sum(lease.valid for lease in leases), Counter(reason for _, reason in lost)
            proxy.clear()
            say(
                f"{name}: {valid} of {len(leases)} leases kept; {rule.met} renewals refused and {rule.passed} answered "
                f"in {options.seconds:g} s; {dict(ended) or 'none lost'}"
            )


# --------------------------------------------------------------------------------------- one leader after another


class Register:
    """What the holds protect: it takes no fence twice, and none that is lower than one before."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._highest: dict[str, int] = {}
        self.broken: list[str] = []

    def write(self, id: str, fence: int) -> None:
        """A holder writes."""
        with self._guard:
            if fence <= self._highest.get(id, 0):
                self.broken.append(f"{id}: {fence} after {self._highest[id]}")
            self._highest[id] = max(fence, self._highest.get(id, 0))


class Party:
    """The clients of one face, with one address or with three.

    Attributes:
        results: of all its calls.
        kept: its leases that are to last.
    """

    def __init__(self, name: str, factory: Any, register: Register) -> None:
        self.name = name
        self.results: list[Result] = []
        self._register = register
        self._locker = factory.create("leaders")
        self._keepers = [factory.create(f"leaders-{name}-{number}") for number in range(5)]
        self.kept = [keeper.lock("kept", timeout=60) for keeper in self._keepers]

    def work(self, number: int, over: threading.Event) -> None:
        """One worker: holds that all want, locks of its own, and questions; each has 20 s."""
        own = f"{self.name}-{number}"

        def contended() -> None:
            with self._locker.hold(shared, wait=20) as lease:
                self._register.write(shared, lease.fence)

        for turn in itertools.count():
            if over.wait(0.02):
                return
            shared = f"shared-{(number + turn) % 4}"
            self.results.append(timed("hold(wait=20)", contended))
            self.results.append(timed("info", lambda: self._locker.info(own)))
            granted = timed("lock(wait=20)", lambda: self._locker.lock(own, wait=20))
            self.results.append(granted)
            if not granted.error:
                self.results.append(timed("release", lambda: self._locker.release(own)))


def kill_leaders(cluster: Cluster, options: argparse.Namespace) -> int:
    """Kill one leader after another until the time is over; returns how many."""
    end, killed = time.monotonic() + options.seconds, 0
    while time.monotonic() + options.every < end:
        threading.Event().wait(options.every - options.away)
        cluster.wait_until_healthy()
        leader = cluster.leader()
        if leader is None:
            continue
        leader.kill()
        killed += 1
        threading.Event().wait(options.away)
        leader.launch()
    threading.Event().wait(max(0.0, end - time.monotonic()))
    return killed


def leaders(options: argparse.Namespace) -> None:
    """Workers go on while the leader is killed again and again; counted is what they meet."""
    register = Register()
    with ExitStack() as stack:
        cluster = stack.enter_context(Cluster(binary()))
        parties = []
        for name, count in itertools.product(options.faces, options.addresses):
            face: Any = faces.FACES[name]()
            stack.callback(face.close)
            host: Any = cluster.addresses[0] if count == 1 else cluster.addresses[:count]
            try:
                factory = stack.enter_context(face.factory(host))
            except (ConfigurationError, TypeError, AttributeError) as error:
                say(f"{name}, {count} addresses: not taken: {str(error)[:80]}")
                continue
            parties.append(Party(f"{name}-{count}", factory, register))
        lost = stack.enter_context(losses())
        over = threading.Event()
        pool = stack.enter_context(ThreadPoolExecutor(len(parties) * options.workers))
        works = [pool.submit(party.work, number, over) for party in parties for number in range(options.workers)]
        try:
            killed = kill_leaders(cluster, options)
        finally:
            over.set()
        for work in works:
            work.result(PATIENCE)
        ended = list(lost)
        say(f"{killed} leaders killed in {options.seconds:g} s; fences that did not rise: {register.broken or 'none'}")
        for party in parties:
            valid = sum(lease.valid for lease in party.kept)
            failed = [result for result in party.results if result.error]
            longest = max(result.seconds for result in party.results)
            reasons = Counter(reason for lease, reason in ended if lease.key.startswith(f"leaders-{party.name}-"))
            say(
                f"{party.name}: {len(failed)} of {len(party.results)} calls failed, the longest took {longest:.1f} s; "
                f"{valid} of {len(party.kept)} leases kept {dict(reasons) or ''}"
            )
            for (call, why), count in Counter((one.call, one.error[:100]) for one in failed).most_common(12):
                say(f"    {count:>4} {call}: {why}")


def main(arguments: list[str] | None = None) -> int:
    """Measure; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.outages", description=(__doc__ or "").splitlines()[0])
    cases = parser.add_subparsers(dest="case", required=True)
    for function in (restart, limit, renewals, leaders):
        case = cases.add_parser(function.__name__, help=function.__doc__)
        case.set_defaults(function=function)
        case.add_argument("--faces", nargs="+", choices=list(faces.FACES), default=list(faces.FACES))
    case = cases.choices["restart"]
    case.add_argument("--away", type=float, default=4.0, help="seconds until it is started again (%(default)s)")
    case.add_argument("--ttl", type=float, default=30.0, help="of the session, in seconds (%(default)s)")
    case.add_argument("--timeline", metavar="FILE", help="write what happened, as JSON, a file for each face")
    case.add_argument("--svg", metavar="FILE", help="draw it, a file for each face (needs matplotlib)")
    case = cases.choices["limit"]
    case.add_argument("--calls", type=int, default=600, help="locks, and as many releases (%(default)s)")
    case.add_argument("--pace", type=float, default=200.0, help="calls a second (%(default)s)")
    case.add_argument("--rate", type=float, default=60.0, help="writes a second that the agent serves (%(default)s)")
    case = cases.choices["renewals"]
    case.add_argument("--leases", type=int, default=20, help="each of a Locker of its own (%(default)s)")
    case.add_argument("--seconds", type=float, default=60.0, help="how long renewals are refused (%(default)s)")
    case = cases.choices["leaders"]
    case.add_argument("--seconds", type=float, default=300.0, help="how long it all takes (%(default)s)")
    case.add_argument("--every", type=float, default=15.0, help="seconds between two kills (%(default)s)")
    case.add_argument("--away", type=float, default=5.0, help="seconds until a server is started again (%(default)s)")
    case.add_argument("--addresses", type=int, nargs="+", default=[1, 3], help="that clients have (1 and 3)")
    case.add_argument("--workers", type=int, default=3, help="of each kind of client (%(default)s)")
    options = parser.parse_args(arguments)
    logging.getLogger("consul_locker").setLevel(logging.CRITICAL)  # a line for each that is lost
    setattr(faces, "WAIT", PATIENCE)  # noqa: B010 # the tests' own limit is shorter than an outage here
    options.function(options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
