"""What an outage of Consul costs those who call meanwhile. Each case prints how many calls were served.

    python -m benchmarks.outages restart     # 13 kinds of calls while Consul, its log on disk, is away for 4 s
    python -m benchmarks.outages limit       # 600 locks and 600 releases over a rate limit of the embedded agent
    python -m benchmarks.outages renewals    # 20 leases while 9 of 10 renewals are refused for a minute
    python -m benchmarks.outages leaders     # three servers, and kill -9 of the leader every 15 s for 5 minutes
    python -m benchmarks.outages rolling     # three servers, each of them stopped and started again, three times

``restart --timeline FILE`` writes what happened, and when, as JSON; ``--svg FILE`` draws it.
"""

from __future__ import annotations

import argparse
import logging
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.measuring import READY
from benchmarks.outage_calls import PATIENCE, Result, binary, losses, say, timed
from benchmarks.outages_of_servers import leaders, rolling
from benchmarks.timeline import Timeline, draw
from consul_locker.embedded import Agent, RequestLimits
from tests.behaviour import faces
from tests.faults.proxy import OVER_WRITE_RATE, RENEWAL, Fate, Proxy
from tests.real_consul import RealConsul

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


def main(arguments: list[str] | None = None) -> int:
    """Measure; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.outages", description=(__doc__ or "").splitlines()[0])
    cases = parser.add_subparsers(dest="case", required=True)
    for function in (restart, limit, renewals, leaders, rolling):
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
    cases.choices["rolling"].add_argument(
        "--rounds", type=int, default=3, help="how often each server is restarted (%(default)s)"
    )
    for name, addresses in ("leaders", [1, 3]), ("rolling", [3]):
        case = cases.choices[name]
        case.add_argument("--away", type=float, default=5.0, help="seconds until a server is started (%(default)s)")
        case.add_argument("--addresses", type=int, nargs="+", default=addresses, help="that clients have (%(default)s)")
        case.add_argument("--workers", type=int, default=3, help="of each kind of client (%(default)s)")
    options = parser.parse_args(arguments)
    logging.getLogger("consul_locker").setLevel(logging.CRITICAL)  # a line for each that is lost
    setattr(faces, "WAIT", PATIENCE)  # noqa: B010 # the tests' own limit is shorter than an outage here
    options.function(options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
