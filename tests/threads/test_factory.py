"""The end of a factory on threads, and an agent of its own."""

from __future__ import annotations

import time

import pytest

from consul_locker import ConsulUnavailable, Locker, LockerFactory, SessionEnded
from consul_locker.core.calls import Info
from consul_locker.embedded import Agent, ManualClock
from consul_locker.threads import factory as factory_module

from ..behaviour.tools import WAIT, Gate, until
from .tools import in_thread


def test_nobody_hangs_when_the_factory_is_closed(locker: Locker, gate: Gate) -> None:
    held = gate.hold("PUT /v1/txn")
    asking = in_thread(lambda: locker.info("a"))
    held.wait()
    locker._factory.close()
    assert isinstance(asking.exception(WAIT), ConsulUnavailable)
    late = locker._runtime.submit(Info("a"))  # of a thread that had looked just before
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


def test_of_two_threads_that_use_it_first_after_a_fork_one_begins_anew(locker: Locker) -> None:
    """The other comes when that is done."""
    factory, runtime = locker._factory, locker._runtime
    lease = locker.lock("a")
    factory._begin_anew()
    locker._begin_anew()
    assert locker._runtime is runtime
    assert lease.valid


def test_an_agent_of_its_own() -> None:
    with LockerFactory.embedded() as factory:
        assert factory.create("n").lock("a").valid
    with LockerFactory.embedded():
        pass


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
