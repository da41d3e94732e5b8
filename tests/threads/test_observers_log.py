"""The log is written by the thread of the observers: a slow handler costs no lock and delays no call."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from consul_locker import ConsulUnavailable, LockerFactory, signals
from consul_locker.embedded import Agent, ManualClock
from consul_locker.lease import BaseLease
from consul_locker.strategies import PermanentStrategy

from ..behaviour.tools import WAIT, until


class Failing(PermanentStrategy):
    """Each grant writes a line to the log, in the thread that carries out the step."""

    def keeps(self, lease: BaseLease) -> bool:
        raise ValueError(lease.id)


class Handler(logging.Handler):
    """A handler that is slow: it ends with the test."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()
        self.began = threading.Event()
        self.seen: list[str] = []

    def handle(self, record: logging.LogRecord) -> bool:
        self.seen.append(f"{threading.current_thread().name}: {record.getMessage()}")
        self.began.set()
        return self.go.wait(WAIT)


@pytest.fixture
def handler() -> Iterator[Handler]:
    handler = Handler()
    logger = logging.getLogger("consul_locker")
    logger.addHandler(handler)
    yield handler
    handler.go.set()
    logger.removeHandler(handler)


def test_a_slow_log_handler_costs_no_locker_its_lock(handler: Handler) -> None:
    """The I/O thread goes on: a session is renewed while the handler is at work, far past its time to live."""
    clock = ManualClock()
    with Agent(clock=clock) as agent, LockerFactory.embedded(agent) as factory:
        logs, other = factory.create("logs", strategy=Failing()), factory.create("other", ttl=10.0)
        lease = other.lock("a")
        logs.submit_lock("b")  # carried out by the I/O thread
        assert logs.lock("c").valid
        assert handler.began.wait(WAIT)
        for _ in range(9):
            before = other.stats()["renewals"]
            clock.advance(4.0)
            until(lambda: other.stats()["renewals"] > before)  # noqa: B023 - it is called here
        assert lease.valid
        assert logs.lock("d").valid
        assert other.release("a")
        assert not handler.go.is_set()
        handler.go.set()  # a factory is closed once its observers have heard of that


def test_lines_and_signals_are_in_order_in_one_thread(handler: Handler) -> None:
    order: list[str] = handler.seen
    handler.go.set()

    def granted(sender: Any, *, id: str, **facts: Any) -> None:
        order.append(f"{threading.current_thread().name}: granted {id}")

    with LockerFactory.embedded() as factory:
        locker = factory.create("n", strategy=Failing())
        with signals.lock_acquired.connected_to(granted, sender=locker):
            for number in range(3):
                locker.lock(number)
            until(lambda: len(order) == 6)
    thread = "consul_locker-signals: "
    lines = [f"strategy.keeps raised ValueError('{n}'); the lease answers nobody else" for n in range(3)]
    assert order == [thread + what for n in range(3) for what in (lines[n], f"granted {n}")]


def test_what_goes_wrong_on_the_io_thread_is_written_by_that_of_the_observers(
    handler: Handler, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler.go.set()

    def fail(request: Any) -> Any:
        raise KeyError("a fault of ours")

    with LockerFactory.embedded() as factory:
        locker = factory.create("n")
        assert locker.wait_for_state("ready", WAIT)
        with monkeypatch.context() as patched:
            patched.setattr(factory._encoder, "encode", fail)
            assert isinstance(locker.submit_lock("a").exception(WAIT), ConsulUnavailable)
        until(lambda: "consul_locker-signals: a request failed unexpectedly" in handler.seen)


def test_lines_are_written_before_a_factory_is_closed(handler: Handler) -> None:
    handler.go.set()
    with LockerFactory.embedded() as factory:
        factory.create("n", strategy=Failing()).lock("a")
    assert len(handler.seen) == 1
