"""Clients of a cluster of three servers that are killed, or restarted, one after another: cases of `outages`."""

from __future__ import annotations

import argparse
import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

from benchmarks.outage_calls import PATIENCE, Result, binary, losses, say, timed
from tests.behaviour import faces
from tests.cluster import Cluster

__all__ = ["leaders", "rolling"]


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


def kill_leaders(cluster: Cluster, options: argparse.Namespace) -> str:
    """Kill one leader after another until the time is over; returns how many, in words."""
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
    return f"{killed} leaders killed in {options.seconds:g} s"


def restart_each(cluster: Cluster, options: argparse.Namespace) -> str:
    """Stop each server and start it again, the next one when all are well; returns how many, in words."""
    began = time.monotonic()
    for member in cluster.members * options.rounds:
        member.stop()
        threading.Event().wait(options.away)
        member.launch()
        cluster.wait_until_healthy()
    count = len(cluster.members) * options.rounds
    return f"{count} restarts in {time.monotonic() - began:.0f} s"


def leaders(options: argparse.Namespace) -> None:
    """Workers go on while the leader is killed again and again; counted is what they meet."""
    work_while(kill_leaders, options)


def rolling(options: argparse.Namespace) -> None:
    """Workers go on while each server is asked to end, and started again, one after another."""
    work_while(restart_each, options)


def work_while(happens: Callable[[Cluster, argparse.Namespace], str], options: argparse.Namespace) -> None:
    """Workers go on while something happens to the cluster; print what became of their calls."""
    register = Register()
    with ExitStack() as stack:
        cluster = stack.enter_context(Cluster(binary()))
        parties = []
        for name, count in itertools.product(options.faces, options.addresses):
            face: Any = faces.FACES[name]()
            stack.callback(face.close)
            host = cluster.addresses[0] if count == 1 else cluster.addresses[:count]
            factory = stack.enter_context(face.factory(host))
            parties.append(Party(f"{name}-{count}", factory, register))
        lost = stack.enter_context(losses())
        over = threading.Event()
        pool = stack.enter_context(ThreadPoolExecutor(len(parties) * options.workers))
        works = [pool.submit(party.work, number, over) for party in parties for number in range(options.workers)]
        try:
            happened = happens(cluster, options)
        finally:
            over.set()
        for work in works:
            work.result(PATIENCE)
        reasons = Counter(reason for _, reason in lost)
        say(
            f"{happened}; fences that did not rise: {register.broken or 'none'}; leases lost: {dict(reasons) or 'none'}"
        )
        for party in parties:
            valid = sum(lease.valid for lease in party.kept)
            failed = [result for result in party.results if result.error]
            longest = max(result.seconds for result in party.results)
            say(
                f"{party.name}: {len(failed)} of {len(party.results)} calls failed, the longest took {longest:.1f} s; "
                f"{valid} of {len(party.kept)} leases kept"
            )
            for (call, why), count in Counter((one.call, one.error[:200]) for one in failed).most_common(12):
                say(f"    {count:>4} {call}: {why}")
