"""What the core alone takes of the processor for one lock: no network, no face. It has no peer; compare versions.

Callers ask for one id after the other, and Consul (here a few lines) grants each transaction at once.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this tree, not an installed version

from consul_locker.config.options import LockerOptions
from consul_locker.core.calls import Lock
from consul_locker.core.locker import LockerCore
from consul_locker.core.messages import Answered, Command
from consul_locker.core.requests import Committed, CreateSession, Entry, SessionCreated, Transact
from consul_locker.threads.lease import Lease

SESSION = "11111111-2222-3333-4444-555555555555"


def taken(core: LockerCore) -> Iterator[Command]:
    """What the core has commanded."""
    while core.commands:
        yield core.commands.popleft()


def ready() -> LockerCore:
    """A core that has a session."""
    core = LockerCore(
        LockerOptions.build("bench"),
        identity={"pid": 1, "host": "here", "name": "bench"},
        timeout=10.0,
        clock=time.monotonic,
        random=lambda: 0.5,
        lease_type=Lease,
    )
    core.begin(time.monotonic())
    (create,) = (command for command in taken(core) if isinstance(command, CreateSession))
    core.step(Answered(create, SessionCreated(SESSION)), time.monotonic())
    for _ in taken(core):
        pass
    return core


def measure(callers: int, locks: int) -> tuple[float, float]:
    """Seconds for one lock: its call, and its share of the answer."""
    core, made, done, index = ready(), 0, 0, 100
    calling = answering = 0.0

    def call(count: int) -> None:
        nonlocal made, calling
        calls = [Lock((f"id-{made + number}",)) for number in range(count)]
        made += count
        began = time.perf_counter()
        for each in calls:
            core.step(each, began)
        calling += time.perf_counter() - began

    call(callers)
    while done < locks:
        for request in [command for command in taken(core) if isinstance(command, Transact)]:
            index += 1
            operations = request.operations
            answer = Committed(tuple(Entry(op.key, 0, index, index, 1, None, SESSION) for op in operations))
            began = time.perf_counter()
            core.step(Answered(request, answer), began)
            answering += time.perf_counter() - began
            done += len(operations)
            call(len(operations))
    return calling / made, answering / done


def main() -> None:
    """Print a line for each number of callers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--locks", type=int, default=2000, metavar="NUMBER", help="how many in a round (2,000)")
    parser.add_argument("--rounds", type=int, default=25, metavar="NUMBER", help="the fastest of them counts (25)")
    given = parser.parse_args()
    print(f"Python {sys.version.split()[0]}; microseconds a lock, the best of {given.rounds} rounds")
    print(f"{'callers':>8}{'call':>8}{'answer':>8}{'sum':>8}")
    for callers in (1, 10, 100):
        best = min((measure(callers, given.locks) for _ in range(given.rounds)), key=sum)
        print(f"{callers:>8}{best[0] * 1e6:>8.1f}{best[1] * 1e6:>8.1f}{sum(best) * 1e6:>8.1f}")


if __name__ == "__main__":
    main()
