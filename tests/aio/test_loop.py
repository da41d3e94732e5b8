"""What is left of a loop that ends, or was forked; and asyncio programs as users run and test them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from consul_locker.aio import Locker, LockerFactory
from consul_locker.embedded import Agent

from ..behaviour.tools import until
from .tools import LIMIT, ROOT, Run, a_program

# --------------------------------------------------------------------------------------------- loops


def in_the_child(factory: LockerFactory, locker: Locker, lease: Any) -> int:
    """What can be used in a forked child that is not to be used there; counts the faults."""
    wrong = bool(lease.valid) + bool(locker.held) + (lease.reason != "forked")
    for waiting in (
        lambda: locker.lock("a"),
        lambda: locker.lock("b"),
        lambda: locker.info("a"),
        lambda: locker.stop(),
        lambda: locker.wait_for_state("ready"),  # which it is, as far as it knows
    ):
        try:
            waiting().send(None)
        except RuntimeError as refused:
            wrong += "fork" not in str(refused)
        except StopIteration:
            wrong += 1
    for done, answer in ((lambda: lease.wait_lost(), "forked"), (lambda: factory.close(), None)):
        try:
            done().send(None)
        except StopIteration as stop:
            wrong += stop.value != answer
    for refusing in (locker.start, locker.reboot, lambda: factory.create("another")):
        try:
            refusing()
        except RuntimeError as refused:
            wrong += "fork" not in str(refused)
        else:
            wrong += 1
    factory.__del__()
    return wrong


def test_a_hold_that_is_thrown_away(embedded: Agent, run: Run) -> None:
    """As the garbage collector does with a coroutine, in whatever thread: the lock is given back in the background."""

    async def main() -> None:
        async with LockerFactory(embedded.address) as factory, factory.create("thrown away") as locker:
            holding = locker.hold("a")
            lease = await holding.__aenter__()
            await asyncio.get_running_loop().run_in_executor(None, lambda: throw_away(holding))
            assert await lease.wait_lost() == "released"
            async with locker.hold("a", wait=5):
                pass

            async def held() -> AsyncIterator[Any]:
                async with locker.hold("b") as lease:
                    yield lease

            leases = held()
            lease = await anext(leases)
            await leases.aclose()  # where something can be waited for, it is
            assert lease.reason == "released"
            assert not locker.held

    run(main)


def throw_away(manager: Any) -> None:
    """What becomes of an ``async with`` whose coroutine nobody wants any more."""
    with pytest.raises(StopIteration):
        manager.__aexit__(GeneratorExit, GeneratorExit(), None).send(None)


@pytest.mark.xdist_group("processes and signals")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_forked_child_can_use_nothing(embedded: Agent, run: Run) -> None:
    async def main() -> None:
        async with LockerFactory(embedded.address) as factory:
            locker = factory.create("forked")
            idle = factory.create("idle")
            await idle.stop()
            lease = await locker.lock("a")
            holding = locker.hold("held")
            held = await holding.__aenter__()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # 3.12: a fork with threads, here the agent's
                child = os.fork()
            if child == 0:
                wrong = 1
                try:
                    throw_away(holding)
                    wrong = in_the_child(factory, locker, lease)
                finally:
                    os._exit(wrong)
            _, status = os.waitpid(child, 0)
            assert os.waitstatus_to_exitcode(status) == 0
            assert lease.valid
            assert held.valid
            await holding.__aexit__(None, None, None)

    run(main)


# ------------------------------------------------------------------------------- what is left, and who runs it

LIVING = """
import asyncio, sys
from consul_locker import signals
from consul_locker.aio import LockerFactory
from consul_locker.embedded import Agent

async def stuck(sender, id, **facts):
    if id == "observed":
        await asyncio.Event().wait()

async def holding(locker):
    async with locker.hold("held"):
        await asyncio.Event().wait()

async def within(address):
    async with LockerFactory(address) as factory, factory.create("within") as locker, locker.hold_many(["a", "b"]):
        entered.set()
        await asyncio.Event().wait()

async def main():
    locker = LockerFactory(agent.address).create("living")
    lease = await locker.lock("a")
    signals.lock_acquired.connect(stuck, sender=locker)
    for left in (
        holding(locker), within(agent.address), locker.wait_for_state("paused"), lease.wait_lost(),
        locker.lock("held", wait=None), locker.lock("observed"),
    ):
        tasks.append(asyncio.ensure_future(left))
    await entered.wait()
    while len(locker.held) < 3 or agent.requests["GET", "/v1/session/info/"] < 2:  # the watches are under way too
        await asyncio.sleep(0)

tasks = []
entered = asyncio.Event()
with Agent() as agent:
    if sys.argv[1] == "run":
        asyncio.run(main())
    else:
        loop = asyncio.new_event_loop()
        loop.run_until_complete(main())
        loop.close()
        del loop
    tasks.clear()
    import gc; gc.collect()
"""


@pytest.mark.parametrize("how", ["run", "close"])
def test_a_loop_that_ends_with_a_living_locker(how: str) -> None:
    """One ResourceWarning of each factory that was not closed, no traceback, whatever was under way."""
    done = a_program("-W", "always::ResourceWarning", "-c", LIVING, how)
    assert done.returncode == 0, done.stderr
    # At the end of `asyncio.run` every ``async with`` is left; of a loop that is just closed none is.
    assert done.stderr.count("LockerFactory http://127.0.0.1") == {"run": 1, "close": 2}[how]
    assert "was not closed" in done.stderr
    assert "Traceback" not in done.stderr


INTERRUPTED = """
import asyncio, signal, sys
from consul_locker.aio import LockerFactory

# A shell that starts the tests in the background lets them ignore it.
signal.signal(signal.SIGINT, signal.default_int_handler)

async def main():
    async with LockerFactory(sys.argv[1]) as factory:
        async with factory.create("interrupted") as locker, factory.create("interrupted") as other:
            async with locker.hold("a"):
                await other.lock("a", wait=None)

asyncio.run(main())
"""


def test_an_interrupted_program_leaves_no_session(embedded: Agent) -> None:
    """KeyboardInterrupt while one of its tasks holds a lock and waits for another one."""
    program = [sys.executable, "-W", "default", "-c", INTERRUPTED, embedded.address]
    running = subprocess.Popen(program, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        until(lambda: embedded.requests["GET", "/v1/kv/"])  # it watches the key
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=LIMIT)
    finally:
        running.kill()
    assert said.rstrip().endswith("KeyboardInterrupt")
    # Before 3.11 asyncio lets it come between any two lines, also of a coroutine's making and its being awaited.
    assert "ResourceWarning" not in said
    assert sys.version_info < (3, 11) or "Warning" not in said
    requests = embedded.requests
    assert requests["PUT", "/v1/session/create"] == requests["PUT", "/v1/session/destroy/"] == 2


PYTEST_ASYNCIO = """
import pytest, pytest_asyncio
from consul_locker.aio import LockerFactory

@pytest_asyncio.fixture
async def locker():
    async with LockerFactory.embedded() as factory, factory.create("users") as locker:
        yield locker

@pytest_asyncio.fixture
async def held(locker):
    async with locker.hold("fixture") as lease:
        yield lease

@pytest.mark.asyncio
async def test_with_a_lock(locker, held):
    assert held.valid
    async with locker.hold("1", wait=5) as lease:
        lease.check()
"""

ANYIO = """
import anyio, pytest
from consul_locker import AlreadyLocked
from consul_locker.aio import LockerFactory

pytestmark = pytest.mark.anyio

@pytest.fixture
def anyio_backend():
    return "asyncio"

@pytest.fixture
async def locker(anyio_backend):
    async with LockerFactory.embedded() as factory, factory.create("users") as locker:
        yield locker

async def test_a_scope_that_is_cancelled(locker):
    other = locker._factory.create("users")
    async with locker.hold("1", wait=5) as lease:
        with anyio.move_on_after(0.02) as scope:
            async with other.hold("1", wait=None):
                raise AssertionError("unreachable")
        assert scope.cancelled_caught
        with anyio.move_on_after(0.02) as scope:  # leaving a hold in a scope that is cancelled again and again
            async with locker.hold("2"):
                await anyio.sleep_forever()
        assert scope.cancelled_caught
    async with other.hold_many(["1", "2"], wait=5):
        pass

async def test_task_groups(locker):
    order = []

    async def work(number):
        async with locker.hold("1", wait=5):
            order.append(number)
            await anyio.sleep(0)
            order.append(number)

    async with anyio.create_task_group() as tasks:
        for number in range(3):
            tasks.start_soon(work, number)
    assert order == [0, 0, 1, 1, 2, 2]
"""


@pytest.mark.parametrize(
    ("plugin", "source"), [("pytest_asyncio", PYTEST_ASYNCIO), ("anyio", ANYIO)], ids=["pytest-asyncio", "anyio"]
)
def test_as_users_test(tmp_path: Path, plugin: str, source: str) -> None:
    """Fixtures are entered and left in tasks of the plugin's, which need not be the test's."""
    pytest.importorskip(plugin)
    (tmp_path / "test_users.py").write_text(source, encoding="utf-8")
    options = ["-p", "no:asyncio"]
    if plugin == "pytest_asyncio":
        options = ["-o", "asyncio_default_fixture_loop_scope=function"]
    run_it = ["-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", *options, "test_users.py"]
    done = a_program(*run_it, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout
