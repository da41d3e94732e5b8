"""may_wait: what Python runs in the middle of a call may call the Locker, and nothing hangs for it.

Signal handlers run in the middle of the main thread's code, finalizers in the middle of any. Where in the middle, each
test decides: it puts the stranger's call into a step of the core, into the sending of a transaction, or sends a signal.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import multiprocessing.util
import os
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import pytest

from consul_locker import AlreadyLocked, ConsulLockerError, Lease, Locker, LockerFactory, LockLost, aio
from consul_locker.core.calls import LeaveHold, Lock
from consul_locker.core.requests import Transact
from consul_locker.embedded import Agent
from consul_locker.may_wait import THIS_THREAD
from consul_locker.threads.waiter import Waiter
from consul_locker.threads.wakeups import Sleepers

from .behaviour.tools import WAIT, Consul, until

pytestmark = pytest.mark.xdist_group("processes and signals")


@pytest.fixture
def agent() -> Iterator[Agent]:
    with Agent() as agent:
        yield agent


@pytest.fixture
def factory(agent: Agent) -> Iterator[LockerFactory]:
    with LockerFactory(agent.address) as factory:
        yield factory


@pytest.fixture
def locker(factory: LockerFactory) -> Locker:
    locker = factory.create("n")
    assert locker.wait_for_state("ready", WAIT)
    return locker


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    yield
    assert (THIS_THREAD.must_not_wait, THIS_THREAD.sleeps_in, len(THIS_THREAD.after_step)) == (False, None, 0)


@contextmanager
def in_between(owner: Any, method: str, work: Callable[[], object]) -> Iterator[list[Any]]:
    """Once, do something in the middle of a method; what came of it is in the list."""
    came: list[Any] = []
    original = getattr(owner, method)

    def interrupted(*args: Any, **more: Any) -> Any:
        if threading.current_thread() is here and not came:
            came.append(None)
            try:
                came[0] = work()
            except BaseException as error:
                came[0] = error
        return original(*args, **more)

    here = threading.current_thread()
    setattr(owner, method, interrupted)
    try:
        yield came
    finally:
        setattr(owner, method, original)
    assert came


def holding(locker: Locker, id: str) -> Iterator[Lease]:
    """A generator that holds a lock: thrown away, it gives it back, wherever that happens."""
    with locker.hold(id) as lease:
        yield lease


# -------------------------------------------------------------------------------------- in a step of the core


def test_what_need_not_wait_is_done_after_the_step(locker: Locker) -> None:
    locker.lock("x")
    with in_between(locker._core, "step", lambda: locker.submit_release("x")) as came:
        locker.lock("a")
    assert came[0].result(WAIT) is True
    assert set(locker.held) == {"a"}


@pytest.mark.parametrize(
    ("call", "advice"),
    [
        (lambda locker: locker.release("x"), "use submit_release there"),
        (lambda locker: locker.lock("y"), "use submit_lock there"),
        (lambda locker: locker.stop(), "let another thread do it"),
        (lambda locker: locker.wait_for_state("stopped"), "let another thread do it"),
        (lambda locker: locker._factory.close(), "cannot be closed"),
    ],
)
def test_what_would_wait_is_refused(locker: Locker, call: Callable[[Locker], object], advice: str) -> None:
    with in_between(locker._core, "step", lambda: call(locker)) as came:
        assert locker.lock("a").valid
    assert isinstance(came[0], RuntimeError)
    assert advice in str(came[0])


def test_waiting_for_the_end_of_a_lease_is_refused(locker: Locker) -> None:
    """The step that it came in between has the mutex, so nobody could end the lease."""
    lease = locker.lock("x")
    with in_between(locker._core, "step", lease.wait_lost) as came:
        locker.lock("a")
    assert isinstance(came[0], RuntimeError)
    assert "another thread wait" in str(came[0])


def test_a_hold_of_a_generator_that_is_thrown_away_is_left_without_waiting(locker: Locker) -> None:
    generator = holding(locker, "x")
    lease = next(generator)
    with in_between(locker._core, "step", generator.close) as came:
        locker.lock("a")
    assert came == [None]
    assert lease.wait_lost(WAIT) == "released"
    until(lambda: "x" not in locker.held)


# ------------------------------------------------------------------------------- while it carries a transaction


def test_what_waits_for_the_transaction_that_is_carried_is_refused(locker: Locker) -> None:
    locker.lock("x")
    with in_between(locker._factory._transport, "send", lambda: locker.release("x")) as came:
        assert locker.lock("a").valid
    assert isinstance(came[0], RuntimeError)
    with in_between(locker._factory._transport, "send", lambda: locker.submit_release("x")) as came:
        assert locker.lock("b").valid
    assert came[0].result(WAIT) is True


def test_a_hold_is_left_while_another_call_carries(locker: Locker) -> None:
    generator = holding(locker, "x")
    lease = next(generator)
    with in_between(locker._factory._transport, "send", generator.close):
        locker.lock("a")
    assert lease.wait_lost(WAIT) == "released"


def test_what_waits_for_something_else_is_done(locker: Locker) -> None:
    with in_between(locker._factory._transport, "send", lambda: locker.info("a")) as came:
        locker.lock("a")
    assert came == [None]  # there was no such key yet
    with in_between(locker._factory._transport, "send", locker.stop), pytest.raises(ConsulLockerError):
        locker.lock("b")
    assert locker.state == "stopped"


# ------------------------------------------------------------------------------------- in a thread of the library


@pytest.mark.parametrize("where", ["the I/O thread", "the agent's"])
def test_in_a_thread_that_others_wait_for_nothing_waits(agent: Agent, locker: Locker, where: str) -> None:
    loop: Any = locker._factory._io_thread._loop if where == "the I/O thread" else agent._loop
    generator = holding(locker, "x")
    lease = next(generator)
    came: Future[BaseException] = Future()

    def finalizer() -> None:
        generator.close()
        try:
            locker.lock("a")
        except BaseException as error:
            came.set_result(error)

    loop.call_soon_threadsafe(finalizer)
    assert isinstance(came.result(WAIT), RuntimeError)
    assert lease.wait_lost(WAIT) == "released"


# ------------------------------------------------------------------------------------------ in a signal handler


def test_a_handler_that_comes_while_a_call_sleeps_may_call_the_locker(locker: Locker, agent: Agent) -> None:
    """SIGTERM, say, while the main thread waits for a lock."""
    done: list[object] = []

    def handler(number: int, frame: object) -> None:
        done.append(locker.lock("b").valid)
        done.append(locker.release("b"))

    with LockerFactory(agent.address) as elsewhere:
        rival = elsewhere.create("n")
        rival.lock("a")
        before = signal.signal(signal.SIGUSR1, handler)
        main = threading.main_thread().ident
        assert main is not None and main == threading.get_ident()

        def stranger() -> None:
            until(lambda: locker.stats()["denied"] and sys._current_frames()[main].f_code is Waiter.sleep.__code__)
            signal.pthread_kill(main, signal.SIGUSR1)
            until(lambda: len(done) == 2)
            rival.release("a")

        thread = threading.Thread(target=stranger)
        thread.start()
        try:
            assert locker.lock("a", wait=WAIT).valid
        finally:
            thread.join(WAIT)
            signal.signal(signal.SIGUSR1, before)
    assert done == [True, True]


def test_who_is_interrupted_carries_nothing_until_that_is_over(locker: Locker) -> None:
    """Else what is offered to him would wait for him, and the call that interrupts him for that."""
    waiter = Waiter()
    first, second = Transact(1, (), calls=(Lock(("x",)),)), Transact(1, ())
    assert waiter.offer(first)
    handed_over: list[object] = []
    locker._runtime._carriers.hand_to_io = handed_over.append  # what it does is not asked here
    THIS_THREAD.sleeps_in = waiter
    try:
        assert locker.holder("x") is None
        assert handed_over == [first]
        assert THIS_THREAD.sleeps_in is waiter
        assert not waiter.closed
    finally:
        THIS_THREAD.sleeps_in = None
    waiter.closed = True
    assert not waiter.offer(second)


# ------------------------------------------------------------------------------------------------------ asyncio


def test_on_a_loop_what_comes_in_between_is_done_after_the_step(agent: Agent) -> None:
    async def go() -> None:
        async with aio.LockerFactory(agent.address) as factory:
            locker = factory.create("n")
            await locker.lock("x")
            with in_between(locker._core, "step", locker.reboot) as came:
                lease = await locker.lock("a", timeout=WAIT)
            assert came == [None]
            assert lease.session_id == locker.session_id
            assert set(locker.held) == {"a"}

    asyncio.run(go())


# ------------------------------------------------------------------------------- whose hold is a hold within a hold


def test_a_thread_of_a_pool_is_free_for_others_while_one_of_them_holds(locker: Locker) -> None:
    """As with a web framework that enters a ``with`` in some thread of a pool, and leaves it in another."""
    first = contextvars.copy_context()
    manager = locker.hold("a")
    lease = first.run(manager.__enter__)
    with pytest.raises(AlreadyLocked, match="another caller of this Locker"):
        locker.hold("a").__enter__()
    with pytest.raises(RuntimeError, match="within a hold"):
        first.run(locker.hold("a").__enter__)
    second = locker.hold("a", wait=WAIT)
    waiting = threading.Thread(target=contextvars.copy_context().run, args=(second.__enter__,))
    waiting.start()
    first.run(manager.__exit__, None, None, None)
    waiting.join(WAIT)
    assert not lease.valid
    assert locker.holder("a") is not None
    second.__exit__(None, None, None)
    assert not locker._holds


def test_a_new_thread_with_the_number_of_an_old_one_holds_nothing(
    locker: Locker, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = locker.hold("a")
    old = threading.Thread(target=manager.__enter__)
    old.start()
    old.join(WAIT)
    number = next(iter(locker._holds))[0]
    monkeypatch.setattr(threading, "get_ident", lambda: number)
    with pytest.raises(AlreadyLocked):
        locker.hold("a").__enter__()
    manager.__exit__(None, None, None)
    with locker.hold("a") as lease:
        assert lease.valid


# ------------------------------------------------------------------------------------------- forks and children


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=WAIT, check=False)


@pytest.mark.parametrize(("ends", "code"), [("sys.exit(7)", 7), ("raise ValueError('its own')", 1)])
def test_a_forked_child_leaves_the_parent_s_with_as_it_wants(agent: Agent, ends: str, code: int) -> None:
    ended = run(f"""
import os, sys
from consul_locker import LockerFactory
with LockerFactory({agent.address!r}) as factory, factory.create("n") as locker, locker.hold("a") as lease:
    child = os.fork()
    if not child:
        {ends}
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == {code}, status
    assert lease.valid
""")
    assert ended.returncode == 0, ended.stderr
    assert "RuntimeError" not in ended.stderr
    assert ended.stderr.count("Traceback") == (code == 1)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_child_of_multiprocessing_leaves_no_session(agent: Agent, method: str, tmp_path: Any) -> None:
    """It ends by os._exit, unless it was spawned: only multiprocessing's own hooks run there."""
    script = tmp_path / "script.py"
    script.write_text(f"""
import multiprocessing
from consul_locker import LockerFactory

def work():
    factory = LockerFactory({agent.address!r})
    factory.create("child").lock("a")

if __name__ == "__main__":
    process = multiprocessing.get_context({method!r}).Process(target=work)
    process.start()
    process.join({WAIT})
    assert process.exitcode == 0
""")
    ended = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=WAIT, check=False)
    assert ended.returncode == 0, ended.stderr
    consul = Consul(agent.address)
    assert consul.key("child/a/lock") is not None
    assert not consul.sessions("child")


def test_the_hooks_of_multiprocessing_close_factories(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("multiprocessing.process.parent_process", lambda: os.getppid())
    factory = LockerFactory(agent.address)
    assert factory.create("n").lock("a").valid
    multiprocessing.util._run_finalizers(0)
    assert factory._closed
    assert not Consul(agent.address).sessions("n")


# --------------------------------------------------------------------------------------------- what is forgotten


def test_a_factory_keeps_no_locker_that_is_stopped_and_forgotten(factory: LockerFactory) -> None:
    locker = factory.create("n")
    locker.lock("a")
    known = weakref.ref(locker)
    gc.collect()
    del locker
    gc.collect()
    assert known() in list(factory._lockers)  # it holds a lock
    found = known()
    assert found is not None
    found.stop()
    del found
    until(lambda: gc.collect() is not None and known() is None)


def test_a_factory_of_asyncio_keeps_none_either(agent: Agent) -> None:
    async def go() -> None:
        async with aio.LockerFactory(agent.address) as factory:
            known: list[weakref.ref[aio.Locker]] = []
            for number in range(3):
                async with factory.create("n") as locker:
                    await locker.lock(number)
                    known.append(weakref.ref(locker))
            del locker
            while any(reference() for reference in known):
                gc.collect()
                await asyncio.sleep(0)
            assert not list(factory._lockers)

    asyncio.run(asyncio.wait_for(go(), WAIT))


def test_a_hold_that_is_left_late_takes_nothing_from_a_later_one_of_that_thread(locker: Locker) -> None:
    """Both are of one thread of a pool; the first was lost, so that the second could begin."""
    first, second = locker.hold("a"), locker.hold("a", timeout=WAIT)
    lease = contextvars.copy_context().run(first.__enter__)
    session = locker.session_id
    locker.reboot()
    locker.start()
    until(lambda: locker.session_id not in (None, session))
    assert not lease.valid
    contextvars.copy_context().run(second.__enter__)
    (hold,) = locker._holds.values()
    with pytest.raises(LockLost):
        first.__exit__(None, None, None)
    assert list(locker._holds.values()) == [hold]
    second.__exit__(None, None, None)
    assert not locker._holds


class Strategy:
    """A user's, that serves or does not, or fails."""

    shares_in_flight = True

    def __init__(self, says: object) -> None:
        self.says = says

    def keeps(self, lease: object) -> bool:
        return True

    def serves(self, lease: object, now: float) -> object:
        if isinstance(self.says, Exception):
            raise self.says
        return self.says


@pytest.mark.parametrize("says", [False, ValueError("x")])
def test_a_strategy_that_does_not_serve_has_consul_asked(factory: LockerFactory, says: object) -> None:
    strategy: Any = Strategy(says)
    locker = factory.create("n", strategy=strategy)
    first, second = locker.lock("a"), locker.lock("a")
    assert second.fence > first.fence


def test_on_asyncio_a_hold_of_the_parent_is_left_alone_in_a_forked_child(agent: Agent) -> None:
    async def go() -> None:
        async with aio.LockerFactory(agent.address) as factory:
            locker = factory.create("n")
            async with locker.hold("a") as lease:
                factory._forked = True  # as in the child
            factory._forked = False
            assert lease.valid
            await locker._runtime.ask(LeaveHold([lease]))

    asyncio.run(go())


# ------------------------------------------------------------------- between the last look and the sleep of a waiter


def before_the_sleep(monkeypatch: pytest.MonkeyPatch, work: Callable[[], object]) -> None:
    """Once, do something in this thread after a waiter's first look, right before it sleeps."""
    wait = Sleepers.wait
    here = threading.current_thread()
    looks: list[None] = []

    def interrupted(self: Sleepers, over: Callable[[], bool], limit: float | None) -> bool:
        def look() -> bool:
            found = over()
            if threading.current_thread() is here and not looks:
                looks.append(None)
                work()
            return found

        return wait(self, look, limit)

    monkeypatch.setattr(Sleepers, "wait", interrupted)


def test_a_handler_that_ends_the_lease_wakes_who_waits_for_it(
    locker: Locker, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = locker.lock("a")
    before_the_sleep(monkeypatch, lambda: locker.release("a"))
    assert lease.wait_lost(WAIT) == "released"


def test_a_handler_that_changes_the_state_wakes_who_waits_for_it(
    locker: Locker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also for a state that is left again before the waiter looks."""
    locker.stop()
    before_the_sleep(monkeypatch, lambda: (locker.start(), locker.lock("a")))
    assert locker.wait_for_state("acquiring", WAIT)
    assert locker.state == "ready"
