"""Sets in the queue of a fair Locker, and what happens between two steps."""

from __future__ import annotations

import pytest

from consul_locker.core.messages import TimerFired
from consul_locker.core.requests import (
    Committed,
    Entry,
    KeysRead,
    Transact,
    Verb,
    Watch,
)
from consul_locker.errors import SessionEnded

from .fair import FREE, KEY, TAKEN, fair, look, place, take_place, waiting
from .helpers import PENDING, STRANGER, entry, failure

# ------------------------------------------------------------------------------------------------- sets


def test_a_set_takes_all_its_places_at_once_and_waits_for_all_its_turns() -> None:
    driver = fair()
    call = driver.call("hold_many", "a", "b", wait=None)
    other = "svc/b/lock"
    look(driver, TAKEN)
    request = driver.commit()
    assert [op.verb for op in request.operations] == [Verb.LOCK, Verb.LOCK, Verb.GET_TREE, Verb.GET_TREE]
    own = [Entry(op.key, 0, 300, 300, 1, b"", "S1") for op in request.operations[:2]]
    before = place("B", 1, 200, other)
    driver.answer(request, Committed((*own, TAKEN, own[0], before, own[1])))
    assert driver.all(Watch)[-1].name == before.key
    driver.answer(driver.all(Watch)[-1], KeysRead((), 310))
    look(driver, TAKEN, *own)
    driver.answer(driver.all(Watch)[-1], KeysRead((FREE,), 320))
    look(driver, FREE, *own)
    assert [op.verb for op in driver.commit().operations] == [Verb.LOCK] * 2
    driver.grant()
    assert [lease.id for lease in driver.result(call)] == ["a", "b"]


def test_a_set_does_not_wait_behind_who_waits_for_a_lock_that_it_shares_already() -> None:
    """They wait for this Locker to give it back, so each would wait for the other."""
    driver = fair()
    first = driver.call("lock", "a")
    look(driver)
    driver.grant()
    lease = driver.result(first)
    call = driver.call("lock_many", "a", "b", wait=None)
    look(driver, entry(KEY, "S1", lease.fence), place("B", 1, 200))
    assert [(op.verb, op.key) for op in driver.commit().operations] == [
        (Verb.CHECK_INDEX, KEY),
        (Verb.LOCK, "svc/b/lock"),
    ]
    driver.grant()
    assert driver.result(call)[0] is lease


def test_which_of_a_set_are_refused() -> None:
    driver = fair()
    call = driver.call("lock_many", "a", "b", "c")
    look(driver, TAKEN, place("B", 1, 200, "svc/c/lock"))
    assert driver.result(call).ids == ("a", "c")
    assert driver.emitted("lock_denied") == [("lock_denied", "a"), ("lock_denied", "c")]
    assert driver.core.counters()["denied"] == 2


def test_a_set_behind_a_place_of_this_locker_watches_nothing() -> None:
    """When that place is given up, the Locker knows it by itself."""
    driver = fair()
    _, before = waiting(driver, TAKEN)
    driver.call("hold_many", "a", "b", wait=None)
    request, watches = driver.commit(), driver.all(Watch)
    own = [Entry(op.key, 0, 400, 400, 1, op.value, "S1") for op in request.operations]
    driver.answer(request, Committed(tuple(own)))
    look(driver, TAKEN, before, *own)  # first at "b", and so it looks
    assert driver.all(Watch) == watches


def test_a_set_whose_locks_came_while_it_looked_is_answered_from_the_cache() -> None:
    driver = fair()
    both = driver.call("lock_many", "a", "b")
    one, other = driver.call("lock", "a"), driver.call("lock", "b")
    first, *later = [each for each in driver.all(Transact) if driver.purpose(each) == "turn"]
    for each in later:
        driver.answer(each, Committed(()))
        driver.grant()
    driver.answer(first, Committed(()))
    assert driver.result(both) == [driver.result(one), driver.result(other)]


# ------------------------------------------------------------------------------------------ in between


@pytest.mark.parametrize("how", ["stop", "reboot"])
def test_the_session_ends_while_a_place_is_taken(how: str) -> None:
    driver = fair()
    call = driver.call("hold", "a", wait=None)
    look(driver, TAKEN)
    taking = driver.commit()
    driver.call(how)
    assert driver.result(call) == PENDING if how == "reboot" else isinstance(driver.result(call), SessionEnded)
    driver.answer(taking, failure())
    assert driver.result(call) == PENDING if how == "reboot" else driver.core.state == "ready"
    assert driver.emitted("lock_lost", "released", "lock_denied") == []


def test_release_all_leaves_the_line_alone() -> None:
    driver = fair()
    call, _ = waiting(driver, TAKEN)
    assert driver.result(driver.call("release_all")) == 0
    assert driver.result(call) == PENDING


def test_without_a_cache_who_has_the_lock_does_not_queue_for_it() -> None:
    driver = fair(strategy=None)
    first = driver.call("lock", "a")
    look(driver)
    driver.grant()
    again = driver.call("lock", "a")
    assert [op.verb for op in driver.commit().operations] == [Verb.LOCK]
    driver.grant()
    assert driver.result(again).fence > driver.result(first).fence


def test_a_pause_that_was_cut_short_is_over_once_only() -> None:
    driver = fair()
    call, _ = waiting(driver, TAKEN)
    driver.answer(driver.all(Watch)[-1], failure())
    driver.abandon(call)
    assert [each for each in driver.step(TimerFired(("pause", call))) if isinstance(each, Transact)] == []


def test_who_stands_behind_a_set_of_the_same_locker_goes_on_when_the_set_gives_up() -> None:
    driver = fair()
    driver.call("hold_many", "a", "b", wait=None)
    look(driver, entry("svc/b/lock", STRANGER, 150))
    taking = driver.commit()
    call = driver.call("lock_many", "a", wait=None)
    own = [Entry(op.key, 0, 300, 300, 1, b"", "S1") for op in taking.operations[:2]]
    driver.answer(taking, Committed((*own, entry("svc/b/lock", STRANGER, 150))))
    mine = take_place(driver, created=310)
    assert driver.result(call) == PENDING
    driver.abandon(driver.core.ledger.slots["a"].waiters[0])
    driver.grant()
    look(driver, FREE, mine)
    driver.grant()
    assert [lease.id for lease in driver.result(call)] == ["a"]


def test_who_inherits_a_place_while_the_lock_is_asked_for_gets_the_lock_with_it() -> None:
    """The caller before him left while the lock was asked for: it comes, is given back, and is taken anew."""
    driver = fair(strategy=None)
    first = driver.call("lock", "a", wait=None)
    look(driver, TAKEN)
    second = driver.call("lock", "a", wait=None)
    own = take_place(driver, TAKEN)
    driver.answer(driver.all(Watch)[-1], KeysRead((FREE,), 320))
    asking = driver.commit()
    driver.abandon(first)
    look(driver, FREE, own)
    driver.grant(asking)
    driver.grant()
    assert driver.result(second).id == "a"
    assert driver.all(Transact) == []


def test_a_set_shares_a_lock_of_this_locker_s_while_it_waits_for_another() -> None:
    """Consul refused it nothing that the Locker has, so it does not wait for that to be given back."""
    driver = fair()
    first = driver.call("lock", "a")
    look(driver)
    driver.grant()
    lease = driver.result(first)
    mine, other = entry(KEY, "S1", lease.fence), "svc/b/lock"
    driver.call("hold", "a", wait=None)  # another caller waits for this Locker's own lock
    take_place(driver, mine)
    call = driver.call("lock_many", "a", "b", wait=None)
    taking = driver.commit()
    own = [Entry(op.key, 0, 400 + at, 400 + at, 1, b"", "S1") for at, op in enumerate(taking.operations[:2])]
    shown = [*own, mine, entry(other, STRANGER, 200)] if len(taking.operations) > 2 else own
    driver.answer(taking, Committed(tuple(shown)))
    assert driver.result(call) == PENDING
    waiter = driver.core.line.contenders[call]  # only a fair Locker has it
    assert waiter.shares(driver.core.ledger.slots["a"])


def test_what_a_set_waited_for_is_told_when_its_time_is_over() -> None:
    driver = fair()
    call = driver.call("hold_many", "a", "b", wait=1.0)
    look(driver, entry("svc/b/lock", STRANGER, 200))
    driver.fire("wait", call)
    refused = driver.result(call)
    assert (refused.id, refused.ids) == ("b", ("b",))


def test_a_queue_before_a_free_lock_is_told_as_that() -> None:
    driver = fair()
    call = driver.call("lock", "a")
    look(driver, FREE, place(STRANGER, 1, 150))
    assert driver.result(call).queued
    assert "others wait in the queue of 'a'" in str(driver.result(call))
    call = driver.call("lock", "a")
    look(driver, TAKEN)
    assert not driver.result(call).queued


def test_a_place_given_back_in_the_transaction_that_shows_the_queue_counts_no_more() -> None:
    driver = fair()
    first, own = waiting(driver, TAKEN)
    driver.call("lock", "other")
    look(driver)
    busy = driver.commit()  # so what comes next goes together
    driver.abandon(first)
    call = driver.call("hold", "a", wait=None)
    driver.grant(busy)
    together = driver.commit()
    new = next(op.key for op in together.operations if op.verb is Verb.LOCK)
    fresh = Entry(new, 0, 400, 400, 1, b"", "S1")
    driver.answer(together, Committed((own, fresh, TAKEN, fresh)))
    assert driver.all(Watch)[-1].name == KEY
    assert driver.result(call) == PENDING
