"""A factory that nobody refers to is closed, with a ResourceWarning; one that holds locks goes on."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from consul_locker import ConfigurationError, LockerFactory, LockLost, aio, signals
from consul_locker.embedded import Agent

from ..behaviour.tools import WAIT, Consul, until

pytestmark = pytest.mark.filterwarnings("ignore:.*was not closed before it was thrown away:ResourceWarning")


@pytest.fixture
def agent() -> Iterator[Agent]:
    with Agent() as agent:
        yield agent


@pytest.fixture
def consul(agent: Agent) -> Consul:
    return Consul(agent.address)


def ours() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("consul_locker")]


def collect() -> None:
    """Nothing of the callers' frames keeps what was thrown away."""
    gc.collect()


def test_a_factory_that_was_dropped_is_closed(agent: Agent, consul: Consul) -> None:
    """One for each request, say."""
    collect()
    before = len(ours())
    heard: list[tuple[str, str]] = []

    def hear(sender: Any, *, reason: str, **facts: Any) -> None:
        heard.append((sender.name, reason))

    def request() -> None:
        locker = LockerFactory(agent.address).create("dropped")
        with locker.hold("a", wait=WAIT):
            pass
        locker.fsm.on("*", lambda event, data: None)

    with signals.session_ended.connected_to(hear), signals.released.connected_to(lambda sender, **facts: None):
        for _ in range(5):
            request()
        collect()
        until(lambda: gc.collect() >= 0 and not consul.sessions("dropped"))
        until(lambda: len(ours()) <= before)
        until(lambda: len(heard) == 5)
    assert heard == [("dropped", "stopped")] * 5


def test_it_says_so(agent: Agent) -> None:
    with pytest.warns(ResourceWarning, match="LockerFactory http://.* was not closed before it was thrown away"):
        LockerFactory(agent.address).create("dropped").lock_many([])
        collect()


def test_one_that_could_not_be_made_says_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is the user's; what is left of the factory has nothing to close."""
    ignored: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", ignored.append)
    with pytest.raises(ConfigurationError, match="these certificates cannot be used"):
        LockerFactory("https://127.0.0.1:8501", ca="-----BEGIN CERTIFICATE-----")
    collect()
    assert not ignored


def test_one_that_holds_locks_goes_on(agent: Agent, consul: Consul) -> None:
    known: list[Any] = []

    def script() -> None:
        locker = LockerFactory(agent.address).create("job")
        known.append(weakref.ref(locker))
        locker.lock("nightly")
        pending = locker.submit_lock("other")  # nobody waits for it
        pending.add_done_callback(lambda future: known.append(future.result().id))

    script()
    collect()
    until(lambda: len(known) == 2)
    collect()
    assert consul.key("job/nightly/lock").session is not None
    locker = known[0]()
    assert set(locker.held) == {"nightly", "other"}
    locker.release_all()
    del locker
    until(lambda: gc.collect() >= 0 and not consul.sessions("job"))
    assert known[0]() is None


def test_one_that_lost_its_lock_is_closed(agent: Agent, consul: Consul) -> None:
    lease = LockerFactory(agent.address).create("job").lock("nightly")
    collect()
    assert lease.valid
    consul.destroy(lease.session_id)
    assert lease.wait_lost(WAIT) == "session destroyed"
    with pytest.raises(LockLost):
        lease.check()
    until(lambda: gc.collect() >= 0 and not consul.sessions("job"))


def test_a_locker_keeps_its_factory(agent: Agent, consul: Consul) -> None:
    locker = LockerFactory(agent.address).create("kept")
    collect()
    assert locker.lock("a").valid
    locker.release("a")
    collect()
    with locker.hold("b"):
        collect()
    locker._factory.close()


def test_an_agent_of_its_own_ends_with_it() -> None:
    collect()
    before = threading.active_count()
    LockerFactory.embedded()
    LockerFactory.embedded().create("dropped")
    collect()
    until(lambda: gc.collect() >= 0 and threading.active_count() <= before)
    LockerFactory("127.0.0.1")  # it had nothing to close


def test_on_asyncio_it_is_closed_on_its_loop(agent: Agent, consul: Consul) -> None:
    async def request() -> None:
        locker = aio.LockerFactory(agent.address).create("dropped")
        async with locker.hold("a", wait=WAIT):
            pass

    async def go() -> None:
        before = len(asyncio.all_tasks())
        await asyncio.create_task(request())
        collect()
        while len(asyncio.all_tasks()) > before:
            await asyncio.sleep(0)
        assert not consul.sessions("dropped")

        lease = await aio.LockerFactory(agent.address).create("job").lock("nightly")
        collect()
        assert lease.valid
        session = lease.session_id
        del lease
        collect()
        await asyncio.sleep(0)
        assert [found["ID"] for found in consul.sessions("job")] == [session]
        (locker,) = (found for found in gc.get_objects() if type(found) is aio.Locker and found.name == "job")
        await locker._factory.close()

    asyncio.run(asyncio.wait_for(go(), WAIT))


def test_on_asyncio_nothing_is_closed_that_never_began() -> None:
    aio.LockerFactory("127.0.0.1")
    aio.LockerFactory.embedded()._own_agent.close()
    collect()


def test_a_system_without_forks_is_told_at_the_import() -> None:
    program = "import os; del os.fork, os.register_at_fork; import consul_locker"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=WAIT, check=False)
    assert answer.stderr.splitlines()[-1].startswith("ImportError: consul_locker needs a POSIX system")
