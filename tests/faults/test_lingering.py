"""A session whose destroy failed is destroyed later: on threads when the factory is closed, too, and only that."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from consul_locker import LockerFactory, SessionEnded, aio

from ..behaviour.tools import Consul, until
from .proxy import CREATE, DESTROY, WAIT, Fate, Proxy
from .times import SLACK

pytestmark = [pytest.mark.usefixtures("soon"), pytest.mark.xdist_group("processes and signals")]

#: What keeps Consul from destroying a session, and what lets it.
HINDRANCES: dict[str, tuple[Callable[[Proxy], Any], Callable[[Proxy], None]]] = {
    "refused": (Proxy.shut, Proxy.open),
    "unanswered": (lambda proxy: proxy.arrange(Fate.SILENT, DESTROY), Proxy.clear),
    "lost": (lambda proxy: proxy.arrange(Fate.NEVER, DESTROY), Proxy.clear),
}


@pytest.fixture(params=list(HINDRANCES))
def hindrance(request: pytest.FixtureRequest) -> Any:
    """One after the other."""
    return HINDRANCES[request.param]


@pytest.fixture
def ours() -> Iterator[Callable[[], list[threading.Thread]]]:
    """The factories' threads that this test has begun, as long as they live."""
    before = set(threading.enumerate())
    return lambda: [
        one for one in set(threading.enumerate()) - before if one.name.startswith("consul_locker") and one.is_alive()
    ]


def test_a_closed_factory_destroys_what_is_left(
    proxy: Proxy, consul: Consul, name: str, hindrance: Any, ours: Callable[[], list[threading.Thread]]
) -> None:
    hinder, let = hindrance
    factory = LockerFactory(proxy.address)
    first, second = factory.create(name), factory.create(name)
    leases = [first.lock("a"), second.lock("b")]
    hinder(proxy)
    first.stop(timeout=0.1)  # one that failed before, one that fails now
    began = time.monotonic()
    factory.close(timeout=0.1)
    assert time.monotonic() - began < 0.1 + SLACK
    assert {session["ID"] for session in consul.sessions(name)} == {lease.session_id for lease in leases}
    assert [thread.name for thread in ours()] == ["consul_locker-io"]
    assert all(thread.daemon for thread in ours())
    # Nothing else is done for anybody.
    with pytest.raises(SessionEnded):
        first.lock("a")
    for refused in (first.start, lambda: first.info("a")):
        with pytest.raises(RuntimeError, match="closed"):
            refused()
    factory.close()
    assert len(ours()) == 1
    let(proxy)
    until(lambda: not consul.sessions(name))
    assert not any(key.session for key in consul.keys(name + "/").values())
    until(lambda: not ours())
    with pytest.raises(RuntimeError, match="closed"):
        first.info("a")


def test_a_session_that_comes_when_its_factory_is_closed_is_destroyed(
    proxy: Proxy, consul: Consul, name: str, ours: Callable[[], list[threading.Thread]]
) -> None:
    rule = proxy.arrange(Fate.ANSWER_SLOW, CREATE, 1)
    factory = LockerFactory(proxy.address)
    factory.create(name, ttl=None)  # nothing else would ever end it
    rule.wait()
    factory.close(timeout=0.1)
    assert len(consul.sessions(name)) == 1
    rule.let_go()
    until(lambda: not consul.sessions(name))
    until(lambda: not ours())


def test_on_asyncio_a_closed_factory_has_done_all_it_does(proxy: Proxy, consul: Consul, name: str) -> None:
    """Its loop may end with it: the session is left to its TTL."""

    async def work() -> None:
        factory = aio.LockerFactory(proxy.address)
        locker = factory.create(name)
        await locker.lock("a")
        proxy.arrange(Fate.NEVER, DESTROY)
        await factory.close(timeout=0.1)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(work())
    (session,) = consul.sessions(name)
    assert session["TTL"] == "15s"


def test_nothing_lingers_for_an_agent_that_ends_too(ours: Callable[[], list[threading.Thread]]) -> None:
    factory = LockerFactory.embedded()
    factory.create("n").lock("a")
    factory._own_agent.pause()
    factory.close(timeout=0.1)
    assert not ours()


ENDS = """
import os, sys
from consul_locker import LockerFactory
factory = LockerFactory(sys.argv[1])
factory.create(sys.argv[2]).lock("a")
print("held", flush=True)
sys.stdin.readline()
factory.close(timeout=0.1)
child = os.fork()
if child == 0:
    sys.exit()  # its exit hooks run
_, status = os.waitpid(child, 0)
print(status, flush=True)
sys.stdin.readline()
"""


def test_it_keeps_no_process(proxy: Proxy, consul: Consul, name: str, hindrance: Any) -> None:
    """Neither the one that closed the factory nor its child waits for a Consul that cannot be reached."""
    hinder, _ = hindrance
    with subprocess.Popen(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", ENDS, proxy.address, name],  # of the fork
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        hinder(proxy)
        process.stdin.write("close\n")
        process.stdin.flush()
        assert process.stdout.readline() == "0\n"
        assert len(consul.sessions(name)) == 1
        began = time.monotonic()
        assert process.communicate("end\n", WAIT) == ("", "")
        assert time.monotonic() - began < SLACK
        assert process.returncode == 0
