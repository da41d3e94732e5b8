"""The ledger: slots, the order of operations, and what is forgotten when."""

from __future__ import annotations

from consul_locker.core.key import Progress, Slot
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


def test_a_key_that_is_held_and_idle_has_no_slot_from_the_end_of_the_step() -> None:
    ledger = make()
    work = want_lock(ledger, ledger.slot("a"))
    slot, granted = ledger.slot("a"), lease()
    ledger.grant(slot, granted)
    assert not ledger.idle(granted)  # something is wanted of it
    ledger.finish(work)
    assert ledger.idle(granted)
    assert ledger.slots == {"a": slot}
    ledger.rest()
    assert ledger.slots == {}
    assert slot.lease is None  # it is the key's no more
    assert ledger.held() == [granted]
    assert ledger.idle(granted)
    assert not ledger.idle(lease())  # another one of the key
    again = ledger.slot("a")
    assert (again.lease, again.fence) == (granted, 7)
    again.leftover = True
    ledger.rest()
    assert ledger.slots == {"a": again}  # there is more to know of it
    assert ledger.slot_again(slot) is again


def test_a_slot_that_was_forgotten_does_not_end_the_present_one() -> None:
    ledger = make()
    old = ledger.slot("a")
    ledger.grant(old, lease())
    ledger.tidy(old)
    ledger.rest()
    new = ledger.slot("a")
    want_release(ledger, new)
    old.lease = new.lease
    ledger.tidy(old)
    ledger.rest()
    assert ledger.slots == {"a": new}


def test_leases_that_part_are_known_until_observers_are_told() -> None:
    ledger = make()
    granted = {id: lease(id) for id in "abc"}
    for id in granted:
        slot = ledger.slot(id)
        ledger.grant(slot, granted[id])
        ledger.tidy(slot)
    ledger.rest()
    known = ledger.slot("c")
    ledger.part()
    assert ledger.held() == []
    assert ledger.slots == {"c": known}
    assert ledger.slot_again(Slot("b", "svc/b/lock")).lease is granted["b"]
    ledger.rest()
    assert list(ledger.slots) == ["c", "b"]
    assert ledger.clear() == [granted["a"]]
    assert ledger.slots == ledger.leases == ledger.parting == {}
