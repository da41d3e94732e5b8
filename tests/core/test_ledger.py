"""The ledger: slots, the order of operations, and what is forgotten when."""

from __future__ import annotations

from typing import Any

import pytest

from consul_locker.core.calls import Lock
from consul_locker.core.key import Progress
from consul_locker.core.ledger import Ledger
from consul_locker.lease import BaseLease, SessionLife

from .works import want_lock, want_release


def make() -> Ledger:
    return Ledger("svc")


def lease(id: str = "a") -> BaseLease:
    return BaseLease(id, f"svc/{id}/lock", SessionLife(1, "S1", 10.0), 7, 0.0, lambda: 0.0, False)


def test_a_slot_has_the_key_of_its_id() -> None:
    ledger = make()
    assert ledger.slot("a").key == "svc/a/lock"
    assert ledger.slot("a") is ledger.slot("a")


@pytest.mark.parametrize(
    ("change", "state"),
    [
        (lambda ledger, slot: None, "free"),
        (lambda ledger, slot: want_lock(ledger, slot), "acquiring"),
        (lambda ledger, slot: want_release(ledger, slot), "releasing"),
        (lambda ledger, slot: ledger.grant(slot, lease()), "held"),
        (lambda ledger, slot: slot.doubt(1, 1), "unknown"),
        (lambda ledger, slot: setattr(slot, "leftover", True), "unknown"),
    ],
)
def test_a_slot_that_says_something_is_kept(change: Any, state: str) -> None:
    ledger = make()
    slot = ledger.slot("a")
    change(ledger, slot)
    assert slot.state == state
    ledger.tidy(slot)
    assert ("a" in ledger.slots) == (state != "free")


def test_a_forgotten_slot_takes_no_other_with_it() -> None:
    ledger = make()
    old = ledger.slot("a")
    ledger.tidy(old)
    new = ledger.slot("a")
    ledger.tidy(old)
    assert ledger.slots["a"] is new


def test_operations_of_a_key_come_one_after_another() -> None:
    ledger = make()
    a, b = ledger.slot("a"), ledger.slot("b")
    first = want_lock(ledger, a)
    both = want_lock(ledger, a, b)
    last = want_release(ledger, b)
    assert [ledger.startable(work) for work in (first, both, last)] == [True, False, False]
    assert list(ledger.works()) == [first, both, last]
    first.go_on(Progress.FIRST)
    assert not ledger.startable(first)
    assert ledger.finish(first) == [both]
    assert ledger.finish(both) == [last]
    assert ledger.finish(both) == [last]  # off its lines already
    assert ledger.finish(last) == []
    assert ledger.slots == {}


def test_a_set_that_is_not_first_everywhere_does_not_start() -> None:
    ledger = make()
    a, b = ledger.slot("a"), ledger.slot("b")
    first, other = want_lock(ledger, a), want_lock(ledger, b)
    both = want_lock(ledger, a, b)
    assert ledger.finish(first) == []
    assert ledger.finish(other) == [both]


def test_a_dropped_lease_is_given_to_nobody() -> None:
    ledger = make()
    slot = ledger.slot("a")
    granted = lease()
    ledger.grant(slot, granted)
    assert ledger.leases == {"a": granted}
    ledger.drop(slot)
    ledger.drop(slot)
    assert (slot.lease, ledger.leases) == (None, {})


def test_tenures_are_never_given_twice() -> None:
    ledger = make()
    assert len({ledger.next_tenure() for _ in range(100)}) == 100


def test_only_calls_that_want_an_answer_are_live() -> None:
    ledger = make()
    call, gone = Lock(("a",)), Lock(("a",))
    gone.settled = True
    assert want_lock(ledger, ledger.slot("a"), calls=[call, gone]).live() == [call]


def test_an_idle_slot_has_no_collections_of_its_own() -> None:
    ledger = make()
    slot, other = ledger.slot("a"), ledger.slot("b")
    first, second = Lock(("a",)), Lock(("a",))
    first.order, second.order = 1, 2
    for call in (second, first):
        slot.add_waiter(call)
    assert slot.waiters == [first, second]
    work = want_lock(ledger, slot)
    slot.doubt(1, 1)
    slot.doubt(1, 2)
    slot.doubt(2, 1)
    assert slot.doubts == {1: 3, 2: 1}
    slot.saw(b'{"tenure":2}')
    assert slot.doubts == {1: 3}
    for call in (first, second):
        slot.remove_waiter(call)
    ledger.finish(work)
    slot.forget_doubts()
    for name in ("works", "waiters", "doubts"):
        assert not getattr(slot, name)
        assert getattr(slot, name) is getattr(other, name)
