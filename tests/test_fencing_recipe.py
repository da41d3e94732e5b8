"""The fencing recipe of docs/recipes.rst on SQLite, against a holder that is paused at the worst moment.

The scenario is Martin Kleppmann's ("How to do distributed locking", 2016): a client gets the lock, is paused
between its last check and its write, and writes when another has the lock already. The agent is an embedded
one whose clock is moved by hand, so no test waits for a TTL.
"""

from __future__ import annotations

import base64
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from consul_locker import Lease, LockerFactory, LockLost
from consul_locker.embedded import Agent, ManualClock

pytestmark = pytest.mark.xdist_group("processes and signals")

NAME = "row-writer"
ROW = "row-7"
TTL = 15.0
#: Consul ends a session that is not renewed after twice its TTL (measured).
CONSUL_ENDS_AFTER = 2 * TTL
#: The end of every wait for something that has to happen, in seconds.
WAIT = 30.0

SCHEMA = "CREATE TABLE rows (id TEXT PRIMARY KEY, content TEXT NOT NULL, fence INTEGER NOT NULL)"

WRITE = """
INSERT INTO rows (id, content, fence) VALUES (:id, :content, :fence)
ON CONFLICT (id) DO UPDATE SET content = excluded.content, fence = excluded.fence
WHERE excluded.fence >= rows.fence
"""


def write(database: sqlite3.Connection, content: str, fence: int) -> bool:
    """Write the row unless somebody with a higher fence was there; whether it was written."""
    with database:
        return database.execute(WRITE, {"id": ROW, "content": content, "fence": fence}).rowcount == 1


def operation(content: str) -> dict[str, Any]:
    """A write of the row into Consul's own KV, as a transaction takes it."""
    return {"KV": {"Verb": "set", "Key": f"data/{ROW}", "Value": base64.b64encode(content.encode()).decode()}}


@pytest.fixture
def agent() -> Iterator[Agent]:
    with Agent(clock=ManualClock()) as agent:
        yield agent


@pytest.fixture
def database(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(tmp_path / "rows.sqlite")
    connection.execute(SCHEMA)
    yield connection
    connection.close()


def rows(database: sqlite3.Connection) -> list[tuple[str, int]]:
    return database.execute("SELECT content, fence FROM rows").fetchall()


def test_the_recipe_takes_equal_and_higher_fences_only(database: sqlite3.Connection) -> None:
    assert write(database, "first", 7)
    assert write(database, "second, of the same tenure", 7)
    assert write(database, "next tenure", 9)
    assert not write(database, "late", 7)
    assert rows(database) == [("next tenure", 9)]


HOLDER = """
import sqlite3, sys
from consul_locker import LockLost, LockerFactory
from tests.test_fencing_recipe import NAME, ROW, TTL, operation, write

address, path = sys.argv[1:]
database = sqlite3.connect(path)
with LockerFactory(address) as factory:
    locker = factory.create(NAME, ttl=TTL)
    lease = locker.lock(ROW)
    lease.check()                      # it is ours; what could go wrong now?
    print(lease.fence, flush=True)
    sys.stdin.readline()               # here the process is paused
    print("written" if write(database, "of the paused holder", lease.fence) else "refused", flush=True)
    try:
        locker.guarded(lease, [operation("of the paused holder")])
        print("written", flush=True)
    except LockLost as lost:
        print(f"LockLost {lost.fence}", flush=True)
    print(lease.wait_lost(30.0), lease.valid, flush=True)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="processes cannot be paused here")
def test_kleppmanns_pause(agent: Agent, database: sqlite3.Connection, tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, agent.address, str(tmp_path / "rows.sqlite")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    killer = threading.Timer(WAIT, holder.kill)  # so that a holder which hangs ends the test
    killer.start()
    try:
        old_fence = int(holder.stdout.readline())
        os.kill(holder.pid, signal.SIGSTOP)
        agent.advance(CONSUL_ENDS_AFTER + 1.0)
        with LockerFactory(agent.address) as factory:
            locker = factory.create(NAME, ttl=TTL)
            lease = locker.lock(ROW, wait=WAIT)
            assert lease.fence > old_fence
            assert write(database, "of the next holder", lease.fence)
            assert len(locker.guarded(lease, [operation("of the next holder")])) == 1
            os.kill(holder.pid, signal.SIGCONT)
            said, _ = holder.communicate("\n", timeout=WAIT)
            assert said.splitlines() == ["refused", f"LockLost {old_fence}", "session destroyed False"]
            assert rows(database) == [("of the next holder", lease.fence)]
            lease.check()
    finally:
        killer.cancel()
        holder.kill()
        holder.wait()


def test_consul_itself_refuses_a_late_guarded_write(agent: Agent) -> None:
    """Also when the holder does not know yet: the guard of the old lease is judged by Consul."""
    with LockerFactory(agent.address) as factory, LockerFactory(agent.address) as others:
        old = factory.create(NAME, ttl=TTL).lock(ROW)
        agent.advance(CONSUL_ENDS_AFTER + 1.0)
        locker = others.create(NAME, ttl=TTL)
        new = locker.lock(ROW, wait=WAIT)
        late = UnawareLease(new, old)
        with pytest.raises(LockLost) as caught:
            locker.guarded(late, [operation("late")])
        assert caught.value.fence == old.fence
        assert locker.info(ROW) is not None
        new.check()  # the refusal of an old lease says nothing against the present one


class UnawareLease(Lease):
    """The lease of a holder who has not heard of its end: it thinks that it is valid, and guards as before."""

    __slots__ = ("_old",)

    def __init__(self, new: Lease, old: Lease) -> None:
        super().__init__(old.id, new._life, old.fence, old.acquired_at, False)
        self._old = old

    def guard(self) -> list[dict[str, Any]]:
        return self._old.guard()


def test_a_lease_is_over_at_its_deadline_long_before_consul_frees_the_lock() -> None:
    """Of a holder that cannot renew: at ttl it knows, Consul follows at twice that."""
    clock = ManualClock()
    with Agent(clock=clock) as agent, LockerFactory.embedded(agent) as factory:
        locker = factory.create(NAME, ttl=TTL)
        lease = locker.lock(ROW)
        session_id = lease.session_id
        with agent.pause():
            clock.advance(TTL - 0.1)
            assert lease.valid
            clock.advance(0.1)
            assert not lease.valid
            with pytest.raises(LockLost, match="deadline passed"):
                lease.check()
            assert lease.wait_lost(WAIT) == "deadline passed"
        assert lease.session_id == session_id


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
def test_a_lease_is_over_in_a_forked_child(agent: Agent) -> None:
    """In a program of its own: a fork of the test's process would share its threads' locks."""
    program = """
import os, sys
from consul_locker import LockerFactory
with LockerFactory(sys.argv[1]) as factory:
    locker = factory.create("forking")
    lease = locker.lock("a")
    child = os.fork()
    if child == 0:
        from consul_locker import AlreadyLocked
        assert not lease.valid and lease.reason == "forked"
        try:
            locker.lock("a")
        except AlreadyLocked as error:  # the parent has it; the child has a session of its own
            factory.close()
            os._exit(0 if error.holder.session_id == lease.session_id else 1)
        os._exit(2)
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), lease.valid)
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program, agent.address],
        capture_output=True,
        text=True,
        timeout=WAIT,
        check=False,
        cwd=Path(__file__).parents[1],
    )
    assert done.stdout.split() == ["0", "True"], done.stderr
