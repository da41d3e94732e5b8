"""Threads of ours and what a user's code raises on them: nothing ends them, and one that is dead hangs nobody."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from consul_locker import ConsulUnavailable, Locker, LockerFactory, signals
from consul_locker.embedded import Agent
from consul_locker.lease import BaseLease
from consul_locker.threads.observers import ObserverThread
from consul_locker.threads.users_code import GuardedStrategy, on_threads

from ..behaviour.tools import WAIT, Gate, until


@pytest.fixture
def agent() -> Iterator[Agent]:
    with Agent() as agent:
        yield agent


@pytest.fixture
def factory(agent: Agent) -> Iterator[LockerFactory]:
    with LockerFactory(agent.address) as factory:
        yield factory


class Leaving:
    """A strategy that ends the thread which asks it, if it can."""

    def __init__(self, method: str) -> None:
        self._method = method

    @property
    def shares_in_flight(self) -> bool:
        return self._answer("shares_in_flight")

    def keeps(self, lease: BaseLease) -> bool:
        return self._answer("keeps")

    def serves(self, lease: BaseLease, now: float) -> bool:
        return self._answer("serves")

    def _answer(self, method: str) -> bool:
        if method == self._method:
            raise SystemExit(method)
        return True


def elsewhere(work: Callable[[], Any]) -> Any:
    """Do something in a thread that is not the main one, where signal handlers run; what comes of it."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future.result(WAIT)


# ------------------------------------------------------------------------------------ a user's code ends no thread


@pytest.mark.parametrize("method", ["keeps", "serves"])
@pytest.mark.parametrize("who", ["the I/O thread", "a thread of the user's"])
def test_a_strategy_that_raises_system_exit(
    factory: LockerFactory, method: str, who: str, caplog: pytest.LogCaptureFixture
) -> None:
    locker = factory.create("n", strategy=Leaving(method))
    ask = (lambda: locker.submit_lock("a").result(WAIT)) if who == "the I/O thread" else lambda: locker.lock("a")
    first, second = elsewhere(ask), elsewhere(ask)
    assert second.fence > first.fence  # nothing is remembered
    assert second.valid
    assert locker.stats()["lost"] == 1  # "taken again"; the session goes on
    assert locker.lock("b", timeout=2.0).valid if method == "keeps" else True
    until(lambda: f"strategy.{method} raised RuntimeError" in caplog.text)
    assert factory._io_thread.dead is None


def test_calls_share_nothing_in_flight_where_the_strategy_raises() -> None:
    assert GuardedStrategy(Leaving("keeps")).shares_in_flight
    assert not elsewhere(lambda: GuardedStrategy(Leaving("shares_in_flight")).shares_in_flight)


def test_retry_interval_that_raises_system_exit(gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
    def leave(number: int) -> float:
        raise SystemExit

    gate.shut()
    with LockerFactory(gate.address) as factory:
        locker = factory.create("n", retry_interval=leave)
        assert locker.wait_for_state("stopped", WAIT)
        until(lambda: "retry_interval raised" in caplog.text)
        assert factory._io_thread.dead is None


@pytest.fixture
def gate(agent: Agent) -> Iterator[Gate]:
    with Gate(agent.address) as gate:
        yield gate


def test_whoever_interrupts_the_main_thread_in_a_strategy_is_not_kept_from_it() -> None:
    """What a signal handler raises there ends the program, as it should."""

    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        on_threads(interrupted)
    with pytest.raises(RuntimeError, match="it does not end this thread"):
        elsewhere(lambda: on_threads(interrupted))


def test_what_a_callback_raises_on_the_io_thread_does_not_end_it(
    factory: LockerFactory, caplog: pytest.LogCaptureFixture
) -> None:
    locker = factory.create("n")
    loop = factory._io_thread._loop
    assert loop is not None

    def leave(error: BaseException) -> None:
        raise error

    for error in (SystemExit("one"), KeyboardInterrupt("two"), ValueError("three")):
        loop.call_soon_threadsafe(leave, error)
    assert locker.lock("a", timeout=WAIT).valid
    until(lambda: caplog.text.count("tried to end it") == 2)
    until(lambda: "ValueError: three" in caplog.text)
    assert factory._io_thread.dead is None


class Handler(logging.Handler):
    """A handler of the log that raises; notes in which thread."""

    def __init__(self, error: BaseException | None = None) -> None:
        super().__init__()
        self.error = error
        self.threads: list[str] = []

    def handle(self, record: logging.LogRecord) -> bool:
        self.threads.append(threading.current_thread().name)
        if self.error is not None:
            raise self.error
        return True


@pytest.fixture
def handler() -> Iterator[Handler]:
    handler = Handler(SystemExit("of the log"))
    logger = logging.getLogger("consul_locker")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


def test_a_log_handler_that_raises_system_exit(
    factory: LockerFactory, handler: Handler, capfd: pytest.CaptureFixture[str]
) -> None:
    def bad(sender: object, **facts: Any) -> None:
        raise ValueError("bad")

    locker = factory.create("n", strategy=Leaving("keeps"))
    assert locker.wait_for_state("ready", WAIT)
    with signals.lock_acquired.connected_to(bad, sender=locker):
        futures = [locker.submit_lock(number) for number in range(3)]
        futures[0].add_done_callback(bad)
        for future in futures:
            assert future.result(WAIT).valid
    until(lambda: len(handler.threads) >= 6)
    assert set(handler.threads) == {"consul_locker-signals"}
    until(lambda: "SystemExit: of the log" in capfd.readouterr().err)
    assert locker.release(0) is True


# ---------------------------------------------------------------------------------- the I/O thread is dead all the same


def kill(factory: LockerFactory) -> None:
    """End the thread behind the library's back."""
    loop, thread = factory._io_thread._loop, factory._io_thread._thread
    assert loop is not None and thread is not None
    loop.call_soon_threadsafe(loop.stop)
    thread.join(WAIT)
    assert not thread.is_alive()


#: The interpreter says on stderr of what the thread died.
dies = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


class Calls:
    """Calls that wait, each in a thread of its own, and how they ended."""

    def __init__(self, *calls: Callable[[], object]) -> None:
        self.ended: list[BaseException | object] = []
        self._threads = [threading.Thread(target=self._run, args=(call,), daemon=True) for call in calls]
        for thread in self._threads:
            thread.start()

    def _run(self, call: Callable[[], object]) -> None:
        try:
            self.ended.append(call())
        except BaseException as error:
            self.ended.append(error)

    def join(self) -> list[BaseException | object]:
        """How they ended."""
        for thread in self._threads:
            thread.join(WAIT)
        assert len(self.ended) == len(self._threads)
        return self.ended


def is_told(ended: object) -> bool:
    """Whether a call was told what has happened."""
    return isinstance(ended, ConsulUnavailable) and "I/O thread of this factory has died" in str(ended)


def held(locker: Locker, **options: Any) -> None:
    with locker.hold("taken", **options):
        pass


@dies
@pytest.mark.parametrize("where", ["acquiring", "ready"])
def test_calls_that_wait_end_when_the_io_thread_dies(gate: Gate, agent: Agent, where: str) -> None:
    with LockerFactory(agent.address) as another, LockerFactory(gate.address) as factory:
        another.create("n").lock("taken")
        if where == "acquiring":
            gate.hold("PUT /v1/session/create")
        locker = factory.create("n")
        calls = [
            lambda: locker.lock("taken", wait=None),
            lambda: locker.lock("taken", wait=None, timeout=3600.0),
            lambda: locker.submit_lock("taken", wait=None).result(WAIT),
            lambda: held(locker, wait=None),
        ]
        waiting = Calls(*calls, lambda: locker.wait_for_state("paused"))
        until(lambda: len(locker._runtime._fail_stop.calls) == len(calls) and locker.state == where)
        if where == "ready":
            until(lambda: locker.stats()["denied"])
        kill(factory)
        assert all(map(is_told, waiting.join()))
        assert locker.state == "stopped"


@dies
def test_calls_whose_requests_are_under_way_end_when_the_io_thread_dies(gate: Gate) -> None:
    with LockerFactory(gate.address, timeout=WAIT) as factory:
        locker = factory.create("n")
        assert locker.wait_for_state("ready", WAIT)
        back = gate.hold("PUT /v1/txn")
        waiting = Calls(lambda: locker.submit_lock("a").result(WAIT), lambda: locker.submit_release("b").result(WAIT))
        back.wait()
        kill(factory)
        assert all(map(is_told, waiting.join()))
        back.let_go()


@dies
def test_what_a_caller_carries_when_the_io_thread_dies_ends_with_its_request(gate: Gate) -> None:
    with LockerFactory(gate.address, timeout=WAIT) as factory:
        locker = factory.create("n")
        assert locker.wait_for_state("ready", WAIT)
        back = gate.hold("PUT /v1/txn")
        waiting = Calls(lambda: locker.lock("a"))
        back.wait()
        kill(factory)
        back.let_go()
        (ended,) = waiting.join()
        assert is_told(ended)
        assert not locker.held


@dies
def test_later_calls_are_told_that_the_io_thread_is_dead(
    factory: LockerFactory, caplog: pytest.LogCaptureFixture
) -> None:
    locker = factory.create("n")
    lease = locker.lock("a")
    kill(factory)
    until(lambda: not lease.valid)
    calls: list[Callable[[], object]] = [
        lambda: locker.lock("a", timeout=2.0),
        lambda: locker.lock("b", wait=None),
        lambda: locker.submit_lock("b").result(WAIT),
        lambda: held(locker),
        lambda: locker.lock_many(["a", "b"]),
        lambda: locker.release("a"),
        lambda: locker.release_all(),
        lambda: locker.info("a"),
        lambda: locker.session_info(),
        lambda: locker.wait_for_state("ready"),
        locker.start,
        locker.reboot,
        lambda: factory.create("another"),
    ]
    assert all(map(is_told, Calls(*calls).join()))
    locker.stop()
    assert locker.state == "stopped"
    assert caplog.text.count("I/O thread of this factory has died") == 1
    factory.close()
    with pytest.raises(RuntimeError, match="closed"):
        locker.start()


@dies
def test_leases_end_and_observers_hear_of_it_when_the_io_thread_dies(factory: LockerFactory) -> None:
    locker = factory.create("n")
    heard: list[str] = []
    done = threading.Event()

    def lost(sender: Locker, *, lease: Any, reason: str, **facts: Any) -> None:
        heard.append(f"{lease.id}: {reason}")

    def ended(sender: Locker, **facts: Any) -> None:
        done.set()

    with (
        signals.lock_lost.connected_to(lost, sender=locker),
        signals.session_ended.connected_to(ended, sender=locker),
    ):
        leases = locker.lock_many(["a", "b"])
        waiting = Calls(leases[0].wait_lost)
        kill(factory)
        assert waiting.join() == ["stopped"]
        assert done.wait(WAIT)
    assert sorted(heard) == ["a: stopped", "b: stopped"]


@dies
def test_what_ends_something_raises_nothing_when_the_io_thread_dies(gate: Gate) -> None:
    with LockerFactory(gate.address, timeout=WAIT) as factory:
        leaves, stops = factory.create("leaves"), factory.create("stops")
        assert stops.wait_for_state("ready", WAIT)
        manager = leaves.hold("a")
        manager.__enter__()
        destroys, releases = gate.hold("PUT /v1/session/destroy"), gate.hold("PUT /v1/txn")
        waiting = Calls(stops.stop, lambda: manager.__exit__(None, None, None) or None)
        destroys.wait()
        releases.wait()
        kill(factory)
        releases.let_go()
        assert waiting.join().count(None) == 2
        destroys.let_go()


@dies
@pytest.mark.parametrize("error", [OSError("too many open files"), SystemExit("at its beginning")])
def test_a_thread_that_cannot_begin_is_told(
    agent: Agent, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def fail() -> None:
        raise error

    with LockerFactory(agent.address) as factory:
        monkeypatch.setattr(factory._io_thread, "_make_io_loop", fail)
        try:
            locker = factory.create("n")
            ended: object = Calls(lambda: locker.lock("a", timeout=WAIT)).join()[0]
        except ConsulUnavailable as early:  # it died before `create` was done
            ended = early
        assert is_told(ended)
        assert str(error) in str(ended)


@dies
def test_a_locker_that_cannot_be_stopped_keeps_no_other_from_it(
    factory: LockerFactory, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lockers = [factory.create(name) for name in ("one", "two", "three")]
    leases = [locker.lock("a") for locker in lockers]

    def fail(error: ConsulUnavailable) -> None:
        raise SystemExit

    monkeypatch.setattr(lockers[1]._runtime, "io_thread_died", fail)
    kill(factory)
    until(lambda: "could not be stopped" in caplog.text)
    until(lambda: [lease.valid for lease in leases] == [False, True, False])


def test_what_is_left_when_the_thread_ends_is_done_whatever_fails(
    agent: Agent, caplog: pytest.LogCaptureFixture
) -> None:
    factory = LockerFactory(agent.address)
    locker = factory.create("n")
    assert locker.wait_for_state("ready", WAIT)
    thread, done = factory._io_thread, threading.Event()
    loop: Any = thread._loop

    def fail() -> None:
        raise SystemExit

    close = loop.close

    def closing() -> None:
        close()
        thread._jobs.extend([fail, done.set])

    loop.close = closing
    factory.close()
    assert done.is_set()


# ---------------------------------------------------------------------------------------- the thread of the observers


@dies
def test_a_dead_thread_of_observers_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    delivery = ObserverThread("test-signals")
    do = ObserverThread._do
    died: list[threading.Thread] = []

    def fail(job: Any) -> None:
        if not died:
            died.append(threading.current_thread())
            raise SystemExit
        do(job)

    monkeypatch.setattr(delivery, "_do", fail)
    done = threading.Event()
    delivery.put(lambda: None)
    delivery.put(lambda: done.set() if delivery.here else None)
    delivery.wake()
    assert done.wait(WAIT)
    died[0].join(WAIT)
    assert delivery._thread not in (None, died[0])
    assert delivery.flush(WAIT)
    delivery.close(WAIT)
