"""A thousand threads that wait for a hundred locks of somebody else."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from consul_locker import LockerFactory
from consul_locker.embedded import Agent

from ..real_consul import find_binary
from .tools import Gate, until

IDS = 100
CALLERS = 1000
#: How long each may wait for its lock, in seconds, and no more than that may pass until all have had theirs.
LIMIT = 60.0
#: What a factory may have at most, whatever is asked of it.
MOST_THREADS = 4
MOST_CONNECTIONS = 64


@pytest.fixture
def agent(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A real agent where there is one, else the embedded one: the limits are the client's, so one will do."""
    if find_binary() is not None:
        yield request.getfixturevalue("real_agent")
        return
    with Agent() as embedded:
        yield embedded


@pytest.mark.parametrize(("verb", "lockers"), [("lock", 1), ("hold", 1), ("hold", 10)])
def test_a_thousand_threads_wait(verb: str, lockers: int, agent: Any, gate: Gate, name: str) -> None:
    """Few threads and connections do for them, and all are served when the locks come free.

    Each Locker is asked for each id, by ten threads or by one.
    """
    served: dict[int, list[int]] = {id: [] for id in range(IDS)}  # id -> fences
    began: list[int] = []
    failures: list[BaseException] = []

    def call(locker: Any, id: int) -> None:
        began.append(id)
        try:
            if verb == "hold":
                with locker.hold(id, wait=LIMIT) as lease:
                    served[id].append(lease.fence)
            else:
                served[id].append(locker.lock(id, wait=LIMIT).fence)
        except BaseException as error:
            failures.append(error)

    with LockerFactory(agent.address) as elsewhere:
        holder = elsewhere.create(name)
        for id in range(IDS):
            holder.lock(id)
        before = set(threading.enumerate())
        with LockerFactory(gate.address) as factory:
            ours = [factory.create(name) for _ in range(lockers)]
            assert all(locker.wait_for_state("ready", LIMIT) for locker in ours)
            callers = [
                threading.Thread(target=call, args=(ours[number % lockers], number // lockers % IDS), daemon=True)
                for number in range(CALLERS)
            ]
            for caller in callers:
                caller.start()
            until(lambda: len(began) == CALLERS)
            until(lambda: all(locker.stats()["denied"] >= IDS for locker in ours))  # each id was asked for in vain
            others = set(threading.enumerate()) - before - set(callers)
            assert not any(served.values()) and not failures
            assert all(caller.is_alive() for caller in callers)
            assert len([thread for thread in others if thread.name != "gate"]) <= MOST_THREADS
            assert holder.release_all() == IDS
            for caller in callers:
                caller.join(LIMIT)
            assert not any(caller.is_alive() for caller in callers)
            assert not failures, failures[0]
            others = set(threading.enumerate()) - before
            assert len([thread for thread in others if thread.name != "gate"]) <= MOST_THREADS
    assert gate.most_connections <= MOST_CONNECTIONS
    tenures = 1 if verb == "lock" else CALLERS // IDS  # shared, or one after another
    for fences in served.values():
        assert len(fences) == CALLERS // IDS
        assert fences == sorted(fences)
        assert len(set(fences)) == tenures
