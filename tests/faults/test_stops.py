"""The end of a Locker in its time, whatever Consul does; and who waits for the end of a lease."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from consul_locker.threads.factory import EXIT_LIMIT

from ..behaviour.tools import Consul, until
from .conftest import embedded_only
from .proxy import (
    DESTROY,
    WAIT,
    Answer,
    Fate,
    Proxy,
    everything,
)
from .times import SLACK, STALL

ROOT = Path(__file__).parents[2]


@pytest.fixture(params=["embedded", pytest.param("real", marks=pytest.mark.real)])
def mortal(request: pytest.FixtureRequest) -> Iterator[Any]:
    """An agent to be paused."""
    if request.param == "real":
        agent = request.getfixturevalue("private")
        yield agent
        agent.resume()
        return
    from consul_locker.embedded import Agent

    with Agent() as agent:
        yield agent
        agent.resume()


# -------------------------------------------------------------------------------------------- the end


def test_a_stop_ends_in_its_time_whatever_consul_does(face: Any, mortal: Any, name: str) -> None:
    """The agent stands still: in each state, and with a lock or a release on its way. What is left goes later."""
    limit = 0.3
    with face.factory(mortal.address, timeout=WAIT) as factory:
        calm, delayed, busy = factory.create(name), factory.create(name, lock_delay=1.0), factory.create(name)
        leases = [calm.lock("calm"), delayed.lock("delayed"), busy.lock("busy")]
        mortal.pause()
        acquiring = factory.create(name)
        buffered = acquiring.submit_lock("buffered")
        in_flight = [busy.submit_lock("in flight"), busy.submit_release("busy")]
        for locker in (calm, delayed, busy, acquiring):
            began = time.monotonic()
            locker.stop(timeout=limit)
            assert time.monotonic() - began < limit + STALL
            assert locker.state == "stopped"
            assert locker.session_id is None
        for future in (buffered, *in_flight):
            assert future.exception(WAIT) is not None or future.result() is False
        for lease in leases:
            assert not lease.valid
            assert lease.wait_lost(WAIT) is not None
        mortal.resume()
        consul = Consul(mortal.address)
        until(lambda: not consul.sessions(name))
        assert not any(key.session for key in consul.keys(name + "/").values())


#: What Consul, or what is on the way to it, does with every request.
MISCHIEF: dict[str, Callable[[Proxy], object]] = {
    "refuses": Proxy.shut,
    "hangs-up": lambda proxy: proxy.arrange(Fate.NEVER, everything),
    "is-silent": lambda proxy: proxy.arrange(Fate.SILENT, everything),
    "answers-too-late": lambda proxy: proxy.arrange(Fate.ANSWER_SLOW, everything),
    "is-broken": lambda proxy: proxy.arrange(
        Fate.FORGED, everything, forged=Answer(500, (), b"rpc error: EOF")
    ).let_go(),
    "talks-nonsense": lambda proxy: proxy.arrange(Fate.FORGED, everything, forged=Answer(200, (), b"<html>")).let_go(),
}


@embedded_only
@pytest.mark.parametrize("mischief", list(MISCHIEF))
def test_a_stop_ends_in_its_time_whatever_becomes_of_requests(
    face: Any, proxy: Proxy, name: str, mischief: str
) -> None:
    limit = 0.2
    with face.factory(proxy.address, timeout=WAIT) as factory:
        plain, delayed = factory.create(name), factory.create(name, lock_delay=1.0)  # this one would release first
        leases = [plain.lock("plain"), delayed.lock("delayed")]
        MISCHIEF[mischief](proxy)
        for locker in (plain, delayed, factory.create(name)):
            began = time.monotonic()
            locker.stop(timeout=limit)
            assert time.monotonic() - began < limit + STALL
            assert locker.state == "stopped"
        for lease in leases:
            assert not lease.valid
            assert lease.wait_lost(WAIT) in ("stopped", "released")
        factory.close(timeout=0)


@embedded_only
def test_a_stop_without_a_limit_takes_two_requests_time(face: Any, proxy: Proxy, consul: Consul, name: str) -> None:
    """The destroy, and all later ones, get no answer; once they do, the session goes."""
    with face.factory(proxy.address, timeout=0.3) as factory:
        locker = factory.create(name)
        assert locker.wait_for_state("ready", WAIT)
        until(lambda: locker.submit_lock("a").exception(WAIT) is None)  # 0.3 s is short on a busy machine
        lease = locker.lock("a")
        proxy.arrange(Fate.SILENT, DESTROY)
        began = time.monotonic()
        locker.stop()
        assert time.monotonic() - began < 2 * 0.3 + SLACK
        assert lease.wait_lost(WAIT) == "stopped"
        assert consul.sessions(name)
        proxy.clear()
        until(lambda: not consul.sessions(name))


#: So many factories take longer than that if each has all the time of an exit to itself.
FACTORIES = 8
LEAVES = """
import sys
from consul_locker import LockerFactory
factories = [LockerFactory(sys.argv[1], timeout=float(sys.argv[3])) for _ in range(int(sys.argv[4]))]
for factory in factories:
    for number in range(2):
        factory.create(sys.argv[2] + str(number)).lock(str(id(factory)))
print("end", flush=True)
"""


@embedded_only
def test_a_silent_consul_holds_up_no_exit(proxy: Proxy, consul: Consul, name: str) -> None:
    """All Lockers of all factories together have two seconds; nothing of them remains but sessions with a TTL."""
    proxy.arrange(Fate.SILENT, DESTROY)
    with subprocess.Popen(
        [sys.executable, "-c", LEAVES, proxy.address, name, str(WAIT), str(FACTORIES)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "end\n"
        began = time.monotonic()
        assert process.wait(WAIT) == 0
        assert time.monotonic() - began < EXIT_LIMIT + STALL < FACTORIES * EXIT_LIMIT
        assert process.stderr.read() == ""
    for number in range(2):
        sessions = consul.sessions(f"{name}{number}")
        assert len(sessions) == FACTORIES
        assert all(session["TTL"] == "15s" for session in sessions)


def test_wait_lost_wakes_all_who_wait(factory: Any, consul: Consul, name: str) -> None:
    lease = factory.create(name).lock("a")
    reasons: list[Any] = []
    waiting = [threading.Thread(target=lambda: reasons.append(lease.wait_lost(WAIT))) for _ in range(4)]
    for thread in waiting:
        thread.start()
    consul.destroy(lease.session_id)
    for thread in waiting:
        thread.join(WAIT)
    assert reasons == ["session destroyed"] * 4
