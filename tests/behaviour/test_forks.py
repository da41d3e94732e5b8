"""Rule 10: after a fork the child has nothing of its parent's, and begins anew at its first use."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from consul_locker import AlreadyLocked, LockerFactory

from .tools import WAIT, Consul

pytestmark = [
    pytest.mark.xdist_group("processes and signals"),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork"),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),  # that is what is tested
]


def in_child(work: Callable[[], object]) -> str:
    """Fork; return what the child says."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            said = work()
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(writing, str(said).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        said = stream.read().decode()
    _, status = os.waitpid(child, 0)
    assert status == 0
    return said


def refused(call: Callable[[], object]) -> str:
    try:
        call()
    except RuntimeError as error:
        return str(error)
    return "no error"


def test_the_child_begins_anew(agent: Any, consul: Consul, name: str) -> None:
    heard: list[str] = []
    with LockerFactory(agent.address) as factory:
        observers = {"session_created": lambda locker, **facts: heard.append("session")}
        locker = factory.create(name, observers=observers)
        lease, before = locker.lock("a"), threading.active_count()
        heard.clear()

        def use() -> object:
            facts = (locker.state, locker.session_id, dict(locker.held), locker.stats()["granted"])
            assert facts == ("acquiring", None, {}, 0), facts
            assert (lease.valid, lease.reason, lease.wait_lost()) == (False, "forked", "forked")
            assert threading.active_count() == 1  # asking begins nothing
            try:
                locker.lock("a")
            except AlreadyLocked as error:
                assert error.holder is not None
                assert error.holder.session_id == lease.session_id, error
            mine = locker.lock("b")
            assert mine.session_id == locker.session_id != lease.session_id
            assert threading.active_count() <= before
            other = factory.create(name)
            assert other.lock("c").session_id not in (mine.session_id, lease.session_id)
            assert (heard, locker.state) == (["session"], "ready")
            factory.close()
            assert refused(lambda: locker.info("a")) == "the factory is closed; make a new one"
            return len(consul.sessions(name))

        assert in_child(use) == "1"  # the parent's
        assert lease.valid
        assert locker.lock("b").session_id == lease.session_id
        assert consul.key(f"{name}/b/lock").session == lease.session_id
        assert in_child(lambda: in_child(lambda: locker.lock("d").valid)) == "True"  # of a child's child


def test_in_the_child_the_parent_s_holds_are_left_without_a_word(agent: Any, consul: Consul, name: str) -> None:
    with LockerFactory(agent.address) as factory, factory.create(name) as locker:
        manager = locker.hold("held")
        lease = manager.__enter__()

        def leave(used: bool) -> object:
            if used:
                locker.lock("b")
            mine = locker.session_id
            manager.__exit__(None, None, None)
            locker.__exit__(None, None, None)  # stops what the child has, if it has anything
            assert locker.state == ("stopped" if used else "acquiring")
            factory.__exit__(None, None, None)
            return mine is not None and mine not in [session["ID"] for session in consul.sessions(name)]

        assert in_child(lambda: leave(False)) == "False"
        assert in_child(lambda: leave(True)) == "True"
        assert lease.valid
        assert consul.key(f"{name}/held/lock").session == lease.session_id
        manager.__exit__(None, None, None)


def test_what_was_stopped_or_closed_is_so_in_the_child(agent: Any, name: str) -> None:
    with LockerFactory(agent.address) as factory:
        locker = factory.create(name)
        assert locker.wait_for_state("ready", WAIT)
        locker.stop()

        def start() -> object:
            assert locker.state == "stopped"
            assert "stopped" in str(locker.submit_lock("a").exception(WAIT))
            locker.start()
            return locker.lock("a", timeout=WAIT).valid

        assert in_child(start) == "True"
    assert in_child(lambda: refused(lambda: locker.lock("a"))) == "the factory is closed; make a new one"
    assert in_child(lambda: refused(lambda: factory.create(name))) == "the factory is closed; make a new one"


def test_in_the_child_listeners_and_many_threads(agent: Any, name: str) -> None:
    with LockerFactory(agent.address) as factory:
        locker, quiet = factory.create(name), factory.create(name)
        states: list[str] = []
        locker.fsm.on("transition", lambda data: states.append(data["to_state"]))
        assert locker.wait_for_state("ready", WAIT)

        def use() -> object:
            assert locker.fsm.state == "acquiring"
            states.clear()
            with ThreadPoolExecutor(8) as pool:
                leases = list(pool.map(locker.lock, [1] * 16))
            assert len({lease.session_id for lease in leases}) == 1
            assert not quiet._core.fsm.input_queue
            assert quiet.session_id is None  # nobody has used it there
            locker.fsm.handle("stop").result(WAIT)
            factory.close()
            return states

        assert in_child(use) == "['acquiring', 'ready', 'stopped']"


def test_with_the_embedded_agent_the_child_is_refused() -> None:
    with LockerFactory.embedded() as factory:
        locker = factory.create("embedded")
        assert locker.lock("a").valid

        def use() -> object:
            calls = [lambda: locker.lock("a"), locker.start, locker.stop, lambda: factory.create("other")]
            said = {refused(call) for call in calls}
            factory.close()
            return locker.state, *said

        assert in_child(use) == str(
            ("acquiring", "the embedded agent of this factory is in the parent process; make another in the child")
        )


def test_a_factory_that_is_made_in_the_child(agent: Any, name: str) -> None:
    with LockerFactory(agent.address) as factory:
        assert factory.create(name).lock("a").valid

        def anew() -> object:
            with LockerFactory(agent.address) as another:
                return another.create(name).lock("c").valid

        assert in_child(anew) == "True"


#: The child ends as a program does: exit hooks, then all objects of the parent's that it has are taken down.
ENDS = """
import os, sys
from consul_locker import LockerFactory
factory = LockerFactory(sys.argv[1])
locker = factory.create(sys.argv[2])
lease = locker.lock("a")
for used in (False, True):
    if os.fork() == 0:
        if used:
            assert locker.lock("b").valid
        sys.exit(0)
    assert os.wait()[1] == 0
print(lease.session_id, flush=True)
print(lease.wait_lost(30), flush=True)
print(locker.lock("a", timeout=30).valid, flush=True)
factory.close()
"""


def test_the_end_of_the_child_takes_nothing_from_the_parent(agent: Any, consul: Consul, name: str) -> None:
    """They share what the operating system watches for the parent's event loop: it goes on to hear of its session."""
    program = subprocess.Popen(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", ENDS, agent.address, name],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert program.stdout is not None
    try:
        session = program.stdout.readline().strip()
        assert [found["ID"] for found in consul.sessions(name)] == [session]  # the child's ended with it
        consul.destroy(session)
        rest, _ = program.communicate(timeout=WAIT)
    finally:
        program.kill()
        program.communicate()
    assert rest.split("\n") == ["session destroyed", "True", ""]
    assert not consul.sessions(name)
