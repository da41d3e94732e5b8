"""Calls: until when one waits, what it is about, and how it is shown."""

from __future__ import annotations

from math import inf

import pytest

from consul_locker.core.calls import LeaveHold, Lock, LockMany, Stop, Wait
from consul_locker.lease import BaseLease, SessionLife


@pytest.mark.parametrize(
    ("deadline", "until", "limit"),
    [(None, None, inf), (None, 5.0, 5.0), (7.0, None, 7.0), (7.0, 5.0, 5.0), (7.0, 9.0, 7.0), (7.0, inf, 7.0)],
)
def test_a_call_waits_until_the_first_of_its_limits(deadline: float | None, until: float | None, limit: float) -> None:
    call = Lock(("a",))
    call.deadline = deadline
    call.waiting = None if until is None else Wait(until)
    assert call.limit == limit


def test_a_call_that_asks_for_no_lock_has_its_timeout_alone() -> None:
    call = Stop()
    assert call.limit == inf
    call.deadline = 7.0
    assert call.limit == 7.0


def test_the_end_of_a_hold_is_about_the_ids_of_its_leases() -> None:
    life = SessionLife(1, "s", inf, "n", lambda: 0.0)
    leases = [BaseLease(id, life, 7, 0.0, False) for id in ("a", "b")]
    assert LeaveHold(iter(leases)).ids == ("a", "b")


def test_what_it_shows() -> None:
    call = LockMany(iter(["a", "b"]))
    assert repr(call) == "<Call lock_many a b>"
    call.settled = True
    assert repr(call) == "<Call lock_many a b settled>"
