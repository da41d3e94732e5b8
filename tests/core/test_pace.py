"""The pace of requests: when they go out, what ends a pause, and what waits that is not urgent."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from consul_locker.core.messages import CancelTimer, SetTimer
from consul_locker.core.pace import Flow, Pace
from consul_locker.core.step import Outbox

PAUSE = 0.25


class Paced:
    """A `Pace`, with the time in the test's hands.

    Attributes:
        closed: how often requests went out no longer as they come.
        done: what was done that was not urgent.
    """

    def __init__(self) -> None:
        self.out = Outbox(lambda: 0.5)
        self.out.now = 1000.0
        outage: Any = SimpleNamespace(pause=lambda: PAUSE)
        self.pace = Pace(self.out, outage)
        self.pace.on_closed = self._closed
        self.closed = 0
        self.done: list[str] = []

    def _closed(self) -> None:
        self.closed += 1

    def pause_over(self) -> None:
        self.out.now += PAUSE
        self.out.fired(("pause",))

    def look(self) -> None:
        """Something that is not urgent."""
        self.done.append("look")


def test_as_long_as_consul_answers_all_goes_out() -> None:
    paced = Paced()
    for _ in range(3):
        assert paced.pace.may_send
        paced.pace.sent()
    paced.pace.answered()
    paced.pace.renewed()
    paced.pace.settle()
    assert not paced.pace.pausing
    assert (paced.closed, list(paced.out.commands)) == (0, [])


def test_after_a_failure_there_is_a_pause_and_then_one_attempt() -> None:
    paced = Paced()
    for number in range(3):
        paced.pace.failed()
        paced.pace.failed()  # another that was sent before changes nothing
        assert paced.pace.due == paced.out.now + PAUSE
        assert paced.out.commands.pop() == SetTimer(("pause",), paced.pace.due)
        assert paced.pace.pausing and not paced.pace.may_send
        paced.pause_over()
        assert paced.pace.due is None
        assert paced.pace.may_send
        paced.pace.sent()
        assert (paced.pace.flow, paced.pace.may_send) == (Flow.TRYING, False), number
    assert paced.closed == 1
    paced.pace.answered()
    assert paced.pace.may_send and not paced.pace.pausing


@pytest.mark.parametrize("news", ["answered", "renewed", "end"])
def test_what_ends_a_pause(news: str) -> None:
    paced = Paced()
    paced.pace.failed()
    getattr(paced.pace, news)()
    assert (paced.pace.flow, paced.pace.due) == (Flow.OPEN, None)
    assert paced.out.commands[-1] == CancelTimer(("pause",))


@pytest.mark.parametrize("before", [Flow.OPEN, Flow.PAUSING, Flow.NEXT, Flow.TRYING])
def test_a_refused_renewal_holds_all_else_until_one_is_answered(before: Flow) -> None:
    paced = Paced()
    if before is not Flow.OPEN:
        paced.pace.failed()
    if before in (Flow.NEXT, Flow.TRYING):
        paced.pause_over()
    if before is Flow.TRYING:
        paced.pace.sent()
    assert paced.pace.flow is before
    paced.pace.hold_for_renewal()
    paced.pace.answered()
    paced.pace.failed()
    paced.pause_over()
    paced.pace.settle()
    assert (paced.pace.flow, paced.pace.may_send, paced.pace.due) == (Flow.HELD, False, None)
    paced.pace.renewed()
    assert paced.pace.flow is Flow.OPEN


def test_what_is_not_urgent_is_done_at_once_only_while_requests_go_out_as_they_come() -> None:
    paced = Paced()
    assert paced.pace.when_open(paced.look)
    assert paced.done == []  # whoever asks does it
    paced.pace.failed()
    for _ in range(2):
        assert not paced.pace.when_open(paced.look)
    paced.pace.answered()
    assert paced.done == ["look"]  # once


def test_what_is_not_urgent_goes_on_after_a_pause_that_nothing_urgent_waited_for() -> None:
    paced = Paced()
    paced.pace.failed()
    assert not paced.pace.when_open(paced.look)
    paced.pace.settle()
    assert paced.done == []
    paced.pause_over()
    paced.pace.settle()
    assert (paced.pace.flow, paced.done) == (Flow.OPEN, ["look"])


def test_after_a_pause_without_anything_at_all_it_is_open_for_what_comes() -> None:
    paced = Paced()
    paced.pace.failed()
    paced.pause_over()
    paced.pace.settle()
    assert paced.pace.flow is Flow.NEXT  # what is urgent is an attempt
    assert paced.pace.when_open(paced.look)
    assert paced.pace.flow is Flow.OPEN


def test_at_the_end_nothing_that_waited_is_done() -> None:
    paced = Paced()
    paced.pace.failed()
    assert not paced.pace.when_open(paced.look)
    paced.pace.end()
    assert (paced.pace.flow, paced.done) == (Flow.OPEN, [])
