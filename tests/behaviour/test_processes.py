"""Several processes: exclusion, forks, exits; and how few threads and connections a factory needs."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from typing import Any

import pytest

from consul_locker import LockerFactory

from .tools import WAIT, Consul, Gate, until

pytestmark = pytest.mark.xdist_group("processes and signals")

#: Of each process; each of the 16 locks is fought for some 30 times.
ATTEMPTS = 500


def test_two_processes_never_hold_one_lock_at_once(agent: Any, consul: Consul, name: str) -> None:
    """The reader follows the keys by blocking queries: each change it sees has one holder, and fences rise."""
    command = [sys.executable, "-m", "tests.behaviour.contender", agent.address, name, str(ATTEMPTS)]
    processes = [
        subprocess.Popen([*command, str(seed)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for seed in (1, 2)
    ]
    holders: dict[str, dict[int, str]] = {}
    last: dict[str, int] = {}
    sessions: set[str] = set()
    while any(process.poll() is None for process in processes):
        for key, entry in consul.keys(name + "/").items():
            assert entry.fence >= last.get(key, 0)
            last[key] = entry.fence
            if entry.session is not None:
                sessions.add(entry.session)
                # One index, one holder: a tenure is never somebody else's too.
                assert holders.setdefault(key, {}).setdefault(entry.fence, entry.session) == entry.session
    results = []
    for process in processes:
        output, errors = process.communicate(timeout=WAIT)
        assert process.returncode == 0, errors
        results.append(json.loads(output))
    assert [len(result["granted"]) + result["denied"] for result in results] == [ATTEMPTS, ATTEMPTS]
    tenures = [(id, fence) for result in results for id, fence in result["granted"]]
    by_key: dict[str, list[int]] = {}
    for number, result in enumerate(results):
        mine: dict[str, int] = {}
        for id, fence in result["granted"]:
            assert fence >= mine.get(id, 0), (number, id)  # of one Locker they rise (a shared grant comes twice)
            mine[id] = fence
            by_key.setdefault(id, []).append(fence)
    first, second = ({(id, fence) for id, fence in result["granted"]} for result in results)
    assert not first & second  # no tenure was given to both
    assert tenures
    assert len(sessions) <= 2
    assert not any(entry.session for entry in consul.keys(name + "/").values())
    assert not consul.sessions(name)


def test_a_fenced_register_sees_one_writer_at_a_time(agent: Any, consul: Consul, name: str) -> None:
    """Four threads with a Locker each go in and out of a section that would notice a second one."""
    inside: list[int] = []
    fences: list[int] = []
    clashes: list[list[int]] = []

    def compete(number: int) -> None:
        with LockerFactory(agent.address) as factory:
            locker = factory.create(name)
            for _ in range(25):
                with locker.hold("register", wait=WAIT) as lease:
                    inside.append(number)
                    if len(inside) != 1:
                        clashes.append(list(inside))
                    fences.append(lease.fence)
                    inside.remove(number)

    threads = [threading.Thread(target=compete, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    assert not clashes
    assert len(fences) == 100
    assert fences == sorted(set(fences))


def test_the_interpreter_s_exit_stops_lockers(agent: Any, consul: Consul, name: str) -> None:
    program = f"""
from consul_locker import LockerFactory
factory = LockerFactory({agent.address!r})
print(factory.create({name!r}).lock("a").session_id)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=WAIT, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.strip()
    assert not consul.sessions(name)


def leaves(program: str) -> None:
    """Run a program that must end by itself, with success, and without a word on stderr."""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=WAIT, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_the_interpreter_s_exit_with_a_host_s_name(agent: Any, consul: Consul, name: str) -> None:
    """Lockers are stopped over new connections, which look the name up again, when executors start nothing any more."""
    leaves(f"""
from consul_locker import LockerFactory
factory = LockerFactory("localhost", {agent.address.rpartition(":")[2]})
for number in range(6):
    factory.create({name!r}).lock(number)
""")
    assert not consul.sessions(name)


#: A resolver that never answers, and what is known of its being asked.
HANGING = """
import socket, threading
asked = threading.Event()
def getaddrinfo(*args, **options):
    asked.set()
    threading.Event().wait()
socket.getaddrinfo = getaddrinfo
"""

ON_THREADS = """
from consul_locker import LockerFactory
factory = LockerFactory("consul.example", timeout=3600.0)
lockers = [factory.create("n") for _ in range(6)]
asked.wait()
"""

ON_ASYNCIO = """
import asyncio
from consul_locker.aio import LockerFactory
async def main():
    factory = LockerFactory("consul.example", timeout=3600.0)
    lockers = [factory.create("n") for _ in range(6)]
    while not asked.is_set():
        await asyncio.sleep(0.001)
    await factory.close(timeout=0.1)
asyncio.run(main())
"""


@pytest.mark.parametrize("program", [ON_THREADS, ON_ASYNCIO], ids=["threads", "asyncio"])
def test_a_resolver_that_hangs_does_not_keep_a_process(program: str) -> None:
    leaves(HANGING + program)


def test_few_threads_and_connections(gate: Gate, agent: Any, name: str) -> None:
    with LockerFactory(agent.address) as elsewhere:
        holder = elsewhere.create(name)
        held = holder.lock_many(range(40))
        before = set(threading.enumerate())
        with LockerFactory(gate.address) as factory:
            lockers = [factory.create(name, identify_holder=False) for _ in range(20)]
            for locker in lockers:
                assert locker.wait_for_state("ready", WAIT)
            waiting = [
                locker.submit_lock(number, wait=WAIT) for number, locker in enumerate([*lockers, *lockers])
            ]
            until(lambda: sum(locker.stats()["denied"] + locker.stats()["requests"] for locker in lockers) >= 40)
            ours = [one for one in set(threading.enumerate()) - before if one.name.startswith("consul_locker")]
            assert len(ours) <= 4
            for lease in held:
                holder.release(lease.id)
            assert len({future.result(WAIT).fence for future in waiting}) >= 20
        assert gate.most_connections <= 64
