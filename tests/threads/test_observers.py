"""threads/observers: observers are strangers; they are called in order, one by one, in a thread of their own."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from consul_locker import signals
from consul_locker.threads.observers import ObserverThread

WAIT = 30.0


@pytest.fixture
def delivery() -> Iterator[ObserverThread]:
    delivery = ObserverThread("test-signals")
    yield delivery
    delivery.close(WAIT)


def test_in_order_in_a_thread_of_its_own(delivery: ObserverThread) -> None:
    order: list[int] = []
    assert not delivery.here
    for number in range(100):
        delivery.put(lambda number=number: order.append(number))
    delivery.put(lambda: order.append(delivery.here))
    assert not order  # nothing starts it under a mutex
    delivery.wake()
    delivery.wake()
    assert delivery.flush(WAIT)
    assert order == [*range(100), True]


def test_nothing_to_do_starts_no_thread(delivery: ObserverThread) -> None:
    delivery.wake()
    assert delivery._thread is None


def test_a_stuck_job_does_not_hold_callers(delivery: ObserverThread) -> None:
    go = threading.Event()
    delivery.settle(lambda: assert_(go.wait(WAIT)))
    assert not delivery.flush(0.01)
    go.set()
    assert delivery.flush(WAIT)


def assert_(value: bool) -> None:
    assert value


@pytest.mark.parametrize("error", [AssertionError, SystemExit])
def test_a_job_that_raises(
    delivery: ObserverThread, caplog: pytest.LogCaptureFixture, error: type[BaseException]
) -> None:
    def job() -> None:
        raise error

    delivery.settle(job)
    assert delivery.flush(WAIT)
    assert "a callback failed" in caplog.text


def test_observers_are_called_one_by_one(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[Any] = []

    def bad(sender: Any, **facts: Any) -> None:
        raise KeyError("bad")

    def worse(sender: Any, **facts: Any) -> None:
        raise SystemExit

    async def coroutine(sender: Any, **facts: Any) -> None:
        raise AssertionError("it is never run")

    def in_disguise(sender: Any, **facts: Any) -> Any:
        return coroutine(sender, **facts)

    def good(sender: Any, **facts: Any) -> None:
        heard.append((sender, facts))

    sender = object()
    with (
        caplog.at_level(logging.ERROR, "consul_locker"),
        signals.released.connected_to(bad, sender=sender),
        signals.released.connected_to(worse, sender=sender),
        signals.released.connected_to(coroutine, sender=sender),
        signals.released.connected_to(in_disguise, sender=sender),
        signals.released.connected_to(good, sender=sender),
    ):
        ObserverThread.tell("released", sender, {"id": "a"})
    assert heard == [(sender, {"id": "a"})]
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 4
    assert all("an observer of released failed" in message for message in messages)
    raised = [record.exc_info[1] for record in caplog.records if record.exc_info]
    assert ["use consul_locker.aio" in str(error) for error in raised].count(True) == 2


def test_closed(delivery: ObserverThread) -> None:
    done: list[str] = []
    delivery.put(lambda: done.append("before"))
    delivery.wake()
    delivery.close(WAIT)
    assert done == ["before"]
    delivery.settle(lambda: done.append("after"))  # here and now
    assert done == ["before", "after"]
    assert delivery.flush()
    ObserverThread("never-started").close(WAIT)


def test_no_thread_at_the_end_of_the_interpreter(
    delivery: ObserverThread, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    caplog.set_level(logging.DEBUG, "consul_locker")
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        delivery.put(lambda: None)
        delivery.wake()
        done: list[int] = []
        delivery.settle(lambda: done.append(1))  # here and now
        assert done == [1]
    assert "the last signals are not delivered" in caplog.text
