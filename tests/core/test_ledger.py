"""The ledger: slots, the order of operations, and what is forgotten when."""

from __future__ import annotations

from consul_locker.core.key import Progress
from consul_locker.core.ledger import Ledger
from consul_locker.lease import BaseLease, SessionLife

from .works import want_lock, want_release


def make() -> Ledger:
    return Ledger("svc")


def lease(id: str = "a") -> BaseLease:
    return BaseLease(id, SessionLife(1, "S1", 10.0, "svc", lambda: 0.0), 7, 0.0, False)


def test_a_slot_has_the_key_of_its_id() -> None:
    ledger = make()
    assert ledger.slot("a").key == "svc/a/lock"
    assert ledger.slot("a") is ledger.slot("a")


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
