"""Which observers a signal of a sender has."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from consul_locker import signals
from consul_locker.runtime.delivery import has_receivers, log_failure, receivers


class Sender:
    def __init__(self, **own: Any) -> None:
        self._observers = {signal: tuple(observers) for signal, observers in own.items()}


def first(sender: Any, **facts: Any) -> None: ...


def second(sender: Any, **facts: Any) -> None: ...


@pytest.fixture
def sender() -> Iterator[Sender]:
    sender = Sender()
    yield sender
    for receiver in (first, second):
        signals.released.disconnect(receiver)


def test_only_the_observers_of_this_sender_count(sender: Sender) -> None:
    signals.released.connect(first, sender=Sender())
    assert not has_receivers("released", sender)
    signals.released.connect(first, sender=sender)
    assert has_receivers("released", sender)
    assert not has_receivers("lock_lost", sender)


def test_an_observer_of_every_sender_counts_for_each(sender: Sender) -> None:
    signals.released.connect(first)
    assert list(receivers("released", sender)) == [first]
    assert has_receivers("released", sender)


def test_those_that_a_locker_holds_come_first_and_are_never_muted() -> None:
    sender = Sender(released=[second])
    signals.released.connect(first, sender=sender)
    try:
        assert list(receivers("released", sender)) == [second, first]
        with signals.released.muted():
            assert has_receivers("released", sender)
            assert not has_receivers("released", Sender())
    finally:
        signals.released.disconnect(first)


def test_an_exception_of_an_observer_is_logged_with_its_signal(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "consul_locker"):
        try:
            raise ValueError("no")
        except ValueError:
            log_failure("lock_lost", first)
    assert "an observer of lock-lost failed" in caplog.text
    assert "ValueError: no" in caplog.text


def test_of_a_locker_that_was_thrown_away_nobody_hears() -> None:
    """An observer of all Lockers would be called without one."""
    with signals.released.connected_to(first):
        assert has_receivers("released", Sender())
        assert not has_receivers("released", None)
        assert list(receivers("released", None)) == []
