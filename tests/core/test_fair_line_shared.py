"""A set in the queue of a fair Locker, and a lock of it that the Locker has, or believes to have."""

from __future__ import annotations

import pytest

from consul_locker.core.calls import Lock
from consul_locker.core.fair_places import Contender, Turn, turn_of
from consul_locker.core.key import Slot
from consul_locker.core.messages import Call
from consul_locker.core.requests import Committed, Entry, KeysRead, ReadKey, Transact, Verb, Watch
from consul_locker.errors import AlreadyLocked
from consul_locker.lease import BaseLease

from .fair import FREE, KEY, TAKEN, look, place, take_place
from .helpers import PENDING, STRANGER, Driver, entry, held

OTHER = "svc/b/lock"
#: Somebody else waits for the lock that this Locker has.
BEFORE = place("B", 1, 200)


def fair() -> Driver:
    """A fair Locker that asks Consul again for what it has."""
    return Driver(fair=True, strategy=None).ready()


def sharing(driver: Driver) -> BaseLease:
    """A lock that this Locker has."""
    call = driver.call("lock", "a")
    look(driver)
    driver.grant()
    lease: BaseLease = driver.result(call)
    return lease


def queued(driver: Driver, lease: BaseLease) -> tuple[Call, list[Entry]]:
    """A set that waits for its other lock, and its places: the one at the lock of its own stands behind another's."""
    call = driver.call("lock_many", "a", "b", wait=None)
    shown = [entry(KEY, "S1", lease.fence), BEFORE, entry(OTHER, STRANGER, 210)]
    look(driver, *shown)
    taking = driver.commit()
    own = [Entry(op.key, 0, 300, 300, 1, b"", "S1") for op in taking.operations[:2]]
    driver.answer(taking, Committed((*own, *shown, *own)))
    watch = driver.all(Watch)[-1]
    assert watch.name == OTHER  # who waits for this Locker's own lock is not in its way
    driver.answer(watch, KeysRead((entry(OTHER, None, 310),), 310))
    return call, own


def test_a_set_overtakes_nobody_at_a_lock_that_somebody_deleted() -> None:
    """The Locker has not noticed the loss yet: the set must not take the lock anew before who waits for it."""
    driver = fair()
    lease = sharing(driver)
    call, own = queued(driver, lease)
    look(driver, BEFORE, entry(OTHER, None, 310), *own)
    assert [driver.purpose(each) for each in driver.all(Transact)] == []
    driver.answer(driver.one(ReadKey), KeysRead((), 320))
    assert not lease.valid
    driver.fire("pause", call)
    look(driver, BEFORE, entry(OTHER, None, 310), *own)
    assert driver.all(Watch)[-1].name == BEFORE.key
    driver.answer(driver.all(Watch)[-1], KeysRead((), 330))
    look(driver, *own)
    assert [op.verb for op in driver.commit().operations] == [Verb.LOCK] * 2
    driver.grant()
    assert [lease.id for lease in driver.result(call)] == ["a", "b"]


def test_a_set_goes_on_when_only_the_server_was_behind() -> None:
    driver = fair()
    lease = sharing(driver)
    call, own = queued(driver, lease)
    look(driver, BEFORE, entry(OTHER, None, 310), *own)
    driver.found(driver.one(ReadKey), "S1", lease.fence)
    assert lease.valid
    driver.fire("pause", call)
    look(driver, entry(KEY, "S1", lease.fence), BEFORE, entry(OTHER, None, 310), *own)
    driver.grant()
    assert [lease.id for lease in driver.result(call)] == ["a", "b"]


def test_a_set_that_does_not_wait_overtakes_nobody_either() -> None:
    driver = fair()
    sharing(driver)
    call = driver.call("lock_many", "a", "b")
    look(driver, FREE, BEFORE)
    refused = driver.result(call)
    assert isinstance(refused, AlreadyLocked)
    assert refused.ids == ("a",)


def test_a_set_that_finds_its_own_lock_free_and_nobody_waiting_takes_it() -> None:
    driver = fair()
    sharing(driver)
    call = driver.call("lock_many", "a", "b")
    look(driver, FREE)
    assert driver.result(call) == PENDING
    assert [op.key for op in driver.commit().operations] == [KEY, OTHER]


@pytest.mark.parametrize("found", [(), (FREE,), (TAKEN,)], ids=["deleted", "free", "another's"])
def test_whose_turn_it_is_at_a_lock_that_is_not_shown_as_this_locker_s(found: tuple[Entry, ...]) -> None:
    driver = fair()
    sharing(driver)
    slot = driver.core.ledger.slot("a")
    standing = Contender(Lock(("a",)), (slot,))
    own = place("S1", 3, 300)
    standing.places = {"a": Slot("place", own.key, "a")}
    queue = [BEFORE, own]
    assert turn_of(standing, {each.key: each for each in found}, [queue], "S1") == Turn(slot, [], None)
    mine = {KEY: entry(KEY, "S1", 200)}
    assert turn_of(standing, mine, [queue], "S1") == Turn(None, [], None)


def test_nobody_shares_a_lock_for_which_consul_has_refused_another_call() -> None:
    """The other call does not wait; what Consul has told it of the lease holds for all the same (found by the walk)."""
    driver = fair()
    sharing(driver)
    other = driver.call("lock", "a")
    attempt = driver.commit()
    waits = driver.call("lock", "a", wait=None)
    look(driver, entry(KEY, STRANGER, 250), BEFORE)
    driver.answer(attempt, held())
    assert isinstance(driver.result(other), AlreadyLocked)
    assert driver.result(waits) is PENDING
    assert [op.key for op in driver.commit().operations if op.verb is Verb.LOCK] != [KEY]  # a place, and not the lock


def test_who_shares_what_was_asked_for_may_leave() -> None:
    driver = Driver(fair=True).ready()
    first = driver.call("lock", "a")
    look(driver)
    second = driver.call("lock", "a")
    driver.abandon(second)
    driver.grant()
    assert driver.result(first).valid
    assert driver.result(second) is PENDING


@pytest.mark.parametrize("lost", [False, True])
def test_a_place_stands_until_the_lock_that_its_call_shares_is_given_back(lost: bool) -> None:
    """A call without a place has asked for the lock (found by the walk)."""
    driver = Driver(fair=True).ready()  # whose callers share what is asked for
    hold = driver.call("hold", "a")
    look(driver)
    driver.grant()
    first = driver.call("lock", "a", wait=None, timeout=2.0)
    own = take_place(driver, entry(KEY, "S1", 101))
    driver.call("leave", [driver.result(hold)])
    release = driver.commit()
    shares = driver.call("lock", "a", wait=None)
    comer = driver.call("lock", "a")
    look(driver)  # a server that is behind shows no queue: it asks for the lock, after the release
    driver.fire("call", first)
    look(driver, entry(KEY, "S1", 101), own)  # who has the place now is first, and shares what was asked for
    assert driver.result(shares) is driver.result(comer) is PENDING
    driver.grant(release)
    assert [op.key for op in driver.commit().operations] == [KEY]
    if lost:
        driver.core.releases.lose(driver.core.ledger.slots[f"\0{own.key}"], "key deleted")
    driver.grant()
    assert driver.result(shares) is driver.result(comer)
    driver.call("release", "a")
    assert [op.key for op in driver.commit().operations if op.verb is Verb.DELETE] == ([] if lost else [own.key])
