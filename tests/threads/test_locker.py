"""What only threads have: interruption, observers in a thread, waiting for a state."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest

from consul_locker import Locker, signals

from ..behaviour.tools import WAIT, Gate
from .tools import in_thread


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


def test_wait_for_state(locker: Locker) -> None:
    waiting = in_thread(lambda: locker.wait_for_state("stopped", WAIT))
    locker.stop()
    assert waiting.result(WAIT) is True
    assert repr(locker) == "<consul_locker.Locker 'n' stopped held=0>"


def test_the_view(locker: Locker) -> None:
    assert locker.fsm.handle("lock", "a").result(WAIT).valid
    assert locker.fsm.state == "ready"
    assert locker.fsm.handle("release", "a").result(WAIT) is True
    locker.fsm.handle("start")
    heard: list[str] = []
    locker.fsm.on("transition", lambda data: heard.append(data["to_state"]))
    locker.fsm.handle("stop").result(WAIT)
    assert heard[-1] == "stopped"
