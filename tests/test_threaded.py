"""threaded: what only threads have: carrying, interruption, observers in a thread, the end of a factory."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from consul_locker import ConsulUnavailable, Locker, LockerFactory, SessionEnded, signals
from consul_locker.core.messages import Call
from consul_locker.embedded import Agent, ManualClock
from consul_locker.threads import factory as factory_module

from .behaviour.tools import WAIT, Consul, Gate, until


@pytest.fixture
def agent() -> Iterator[Agent]:
    with Agent() as agent:
        yield agent


@pytest.fixture
def gate(agent: Agent) -> Iterator[Gate]:
    with Gate(agent.address) as gate:
        yield gate


@pytest.fixture
def factory(gate: Gate) -> Iterator[LockerFactory]:
    with LockerFactory(gate.address) as factory:
        yield factory


@pytest.fixture
def locker(factory: LockerFactory) -> Locker:
    locker = factory.create("n")
    assert locker.wait_for_state("ready", WAIT)
    return locker


def in_thread(work: Callable[[], Any]) -> Future[Any]:
    """Run something in a thread of its own."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def test_interrupted_while_carrying(locker: Locker, gate: Gate, agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    transport = locker._factory._transport
    send = transport.send

    def interrupted(*args: Any, **options: Any) -> Any:
        send(*args, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(transport, "send", interrupted)
        locker.lock("a")
    until(lambda: (key := Consul(agent.address).key("n/a/lock")) is not None and key.session is None)
    assert locker.lock("a").valid


def test_interrupted_while_waiting(locker: Locker, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    held = gate.hold("PUT /v1/txn", 1)
    first = locker.submit_lock("a")
    held.wait()

    def interrupted(waiter: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("consul_locker.threads.waiter.Waiter.sleep", interrupted)
        locker.lock("a")
    held.let_go()
    assert first.result(WAIT).valid


@pytest.mark.parametrize("many", [False, True])
def test_a_hold_interrupted_after_its_grant(locker: Locker, many: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    heard = threading.Event()

    def observe(sender: Any, **facts: Any) -> None:
        heard.wait(WAIT)

    def interrupted(timeout: Any = None) -> bool:
        raise KeyboardInterrupt

    with signals.lock_acquired.connected_to(observe, sender=locker), monkeypatch.context() as patched:
        patched.setattr(locker._factory._delivery, "flush", interrupted)
        with pytest.raises(KeyboardInterrupt), locker.hold_many(["a", "b"]) if many else locker.hold("a"):
            raise AssertionError("its body is not run")
    heard.set()
    until(lambda: not locker.held)
    assert locker.submit_lock("a", wait=WAIT).result(WAIT).valid


def test_another_caller_carries(locker: Locker, gate: Gate) -> None:
    """Callers who come while a transaction is in flight are sent together, by one of them."""
    held = gate.hold("PUT /v1/txn", 1)
    first = in_thread(lambda: locker.lock("first"))
    held.wait()
    others = [in_thread(lambda id=id: locker.lock(id)) for id in range(10)]
    until(lambda: locker.stats()["requests"] == 11)
    held.let_go()
    assert all(future.result(WAIT).valid for future in [first, *others])
    assert locker.stats()["transactions"] == 2


def test_who_has_little_time_does_not_carry(locker: Locker, gate: Gate) -> None:
    assert locker.lock("a", timeout=5).valid  # less than a request may take: the I/O thread carries
    assert locker.lock("b", timeout=100).valid
    assert locker.lock("c", timeout=100, wait=3).valid


def test_inside_an_observer(locker: Locker) -> None:
    locker.lock("cached")
    said: list[Any] = []

    def observe(sender: Locker, **facts: Any) -> None:
        said.append(sender.lock("cached").valid)
        said.append((sender.state, dict(sender.held).keys() >= {"cached"}, sender.stats()["granted"] > 0))
        said.append(sender.submit_lock("from inside"))
        for call in (
            lambda: sender.lock("b"), lambda: sender.release("cached"), lambda: sender.info("a"), sender.stop,
            lambda: sender.wait_for_state("stopped"), sender._factory.close, facts["lease"].wait_lost,
        ):  # fmt: skip
            try:
                call()
            except RuntimeError as error:
                said.append(str(error))

    with signals.lock_acquired.connected_to(observe, sender=locker):
        locker.lock("a")
    assert said[0] is True
    assert said[1] == ("ready", True, True)
    assert said[2].result(WAIT).valid
    assert [("inside an observer" in text) for text in said[3:10]] == [True] * 7


def test_a_stuck_observer(locker: Locker, monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds a call for PATIENCE and no longer, and other Lockers' calls not at all."""
    monkeypatch.setattr("consul_locker.runtime.delivery.DELIVERY_LIMIT", 0.02)
    other = locker._factory.create("other")
    go, entered = threading.Event(), threading.Event()

    def stuck(sender: Any, **facts: Any) -> None:
        entered.set()
        assert go.wait(WAIT)

    with signals.lock_acquired.connected_to(stuck, sender=locker):
        assert locker.lock("a").valid
        assert entered.wait(WAIT)
        assert other.lock("a").valid
        assert locker.release("a") is True
        go.set()
    assert locker.submit_lock("b").result(WAIT).valid


def test_a_coroutine_observer_is_refused(locker: Locker, caplog: pytest.LogCaptureFixture) -> None:
    async def observe(sender: Any, **facts: Any) -> None:
        raise AssertionError("it is never run")

    with caplog.at_level(logging.ERROR, "consul_locker"), signals.lock_acquired.connected_to(observe, sender=locker):
        assert locker.lock("a").valid
    assert "use consul_locker.aio" in caplog.text


def test_a_hold_within_a_hold(locker: Locker) -> None:
    with locker.hold("a"):
        with pytest.raises(RuntimeError, match="hold within a hold"), locker.hold("a"):
            pass
        with pytest.raises(RuntimeError, match="hold within a hold"), locker.hold_many(["b", "a"]):
            pass
        other = locker.hold("a", wait=WAIT)
        waiting = in_thread(other.__enter__)
        with locker.hold("b"):
            pass
    assert waiting.result(WAIT).valid
    other.__exit__(None, None, None)


def test_wait_for_state(locker: Locker) -> None:
    waiting = in_thread(lambda: locker.wait_for_state("stopped", WAIT))
    locker.stop()
    assert waiting.result(WAIT) is True
    assert repr(locker) == "<consul_locker.Locker 'n' stopped held=0>"


def test_nobody_hangs_when_the_factory_is_closed(locker: Locker, gate: Gate) -> None:
    held = gate.hold("PUT /v1/txn")
    asking = in_thread(lambda: locker.info("a"))
    held.wait()
    locker._factory.close()
    assert isinstance(asking.exception(WAIT), ConsulUnavailable)
    late = locker._runtime.submit(Call("info", ("a",)))  # of a thread that had looked just before
    assert isinstance(late.exception(WAIT), ConsulUnavailable)
    locker._factory.close()
    with pytest.raises(SessionEnded):
        locker.submit_lock("a").result(WAIT)
    for call in (locker.start, locker.reboot, lambda: locker.info("a"), lambda: locker._factory.create("n")):
        with pytest.raises(RuntimeError, match="closed"):
            call()
    assert locker.stop() is None
    assert "LockerFactory http://" in repr(locker._factory)


def test_closing_with_a_caller_who_waits_for_a_state(locker: Locker) -> None:
    waiting = in_thread(lambda: locker.wait_for_state("paused"))
    until(lambda: len(locker._runtime.state_waits._sleepers))
    locker._factory.close()
    assert "closed" in str(waiting.exception(WAIT))


def test_closing_with_a_silent_agent(locker: Locker, gate: Gate) -> None:
    gate.hold("PUT /v1/session/destroy/")
    locker.lock("a")
    begun = time.monotonic()
    locker._factory.close(timeout=0.05)
    assert time.monotonic() - begun < WAIT / 2
    assert locker.state == "stopped"


def test_closing_on_a_clock_that_stands_still() -> None:
    with Agent(clock=ManualClock()) as agent:
        factory = LockerFactory.embedded(agent)
        locker = factory.create("n")
        locker.lock("a")
        with agent.pause():
            factory.close(timeout=0.05)
        assert locker.state == "stopped"


def test_an_agent_of_its_own() -> None:
    with LockerFactory.embedded() as factory:
        assert factory.create("n").lock("a").valid
    with LockerFactory.embedded():
        pass


def test_the_view(locker: Locker) -> None:
    assert locker.fsm.handle("lock", "a").result(WAIT).valid
    assert locker.fsm.state == "ready"
    assert locker.fsm.handle("release", "a").result(WAIT) is True
    locker.fsm.handle("start")
    heard: list[str] = []
    locker.fsm.on("transition", lambda data: heard.append(data["to_state"]))
    locker.fsm.handle("stop").result(WAIT)
    assert heard[-1] == "stopped"


def test_a_factory_that_cannot_be_closed_at_exit_holds_nobody_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Stuck:
        def close(self, timeout: float) -> None:
            raise OSError("no more threads")

    monkeypatch.setattr(factory_module, "living", lambda face: [Stuck()])
    with caplog.at_level("DEBUG", "consul_locker"):
        factory_module._at_exit()
    assert "was not closed at exit" in caplog.text
