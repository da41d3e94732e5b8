"""The queue of a fair Locker, step by step. What any order of events does to it, tests/walk shows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from consul_locker.core.fair_places import Contender, Turn, queue_of, turn_of
from consul_locker.core.ledger import Slot
from consul_locker.core.messages import Call, TimerFired
from consul_locker.core.requests import (
    Committed,
    Entry,
    KeysRead,
    NamesRead,
    ReadKey,
    ReadPrefix,
    Refusal,
    Refused,
    RolledBack,
    Transact,
    Verb,
    Watch,
)
from consul_locker.errors import AlreadyLocked, ConsulUnavailable, LockTimeout, SessionEnded
from consul_locker.keys import place_key, place_number

from .helpers import PENDING, STRANGER, Driver, entry, failure, held

KEY = "svc/a/lock"


def fair(**options: Any) -> Driver:
    """A fair Locker, ready; its locks are given one after another, so that requests can be told apart."""
    return Driver(fair=True, **options).ready()


def place(session: str | None, number: int, created: int, lock: str = KEY) -> Entry:
    """A place in the queue; it says by itself whose it was, the session holds it as long as it lives."""
    return Entry(place_key(lock, session or "dead", number), b"", 0, session, created, created, 1)


def asked(driver: Driver, purpose: str) -> Transact:
    """The only request of that purpose that was not answered."""
    (request,) = (each for each in driver.all(Transact) if each.purpose == purpose)
    return request


def look(driver: Driver, *entries: Entry) -> None:
    """The look that was asked for is answered."""
    driver.answer(asked(driver, "turn"), Committed(entries))


def take_place(driver: Driver, *others: Entry, created: int = 300) -> Entry:
    """Consul gives the place that was asked for, and shows the queue with it."""
    request = asked(driver, "commit")
    lock, *trees = request.operations
    assert lock.verb is Verb.LOCK
    assert [(tree.verb, tree.key) for tree in trees] in ([(Verb.GET_TREE, KEY)], [])
    own = Entry(lock.key, lock.value, 0, "S1", created, created, 1)
    driver.answer(request, Committed((own, *others, own) if trees else (own,)))
    return own


def waiting(driver: Driver, *others: Entry, created: int = 300, **limits: Any) -> tuple[Call, Entry]:
    """A hold that waits in the queue, behind these."""
    limits.setdefault("wait", None)
    call = driver.call("hold", "a", **limits)
    look(driver, *others)
    return call, take_place(driver, *others, created=created)


TAKEN = entry(KEY, STRANGER, 200)
FREE = entry(KEY, None, 201)


# -------------------------------------------------------------------------------------- whoever comes


def test_where_nobody_waits_a_lock_is_asked_for_after_one_look() -> None:
    driver = fair()
    call = driver.call("lock", "a")
    assert [(op.verb, op.key) for op in asked(driver, "turn").operations] == [(Verb.GET_TREE, KEY)]
    assert asked(driver, "turn").calls == (call,)  # who is blocked may carry it
    look(driver)
    assert [op.verb for op in driver.commit().operations] == [Verb.LOCK]
    driver.grant()
    assert driver.result(call).id == "a"
    assert driver.result(driver.call("lock", "a")) is driver.result(call)  # from the cache: no look


def test_who_does_not_wait_is_refused_while_others_wait_even_for_a_free_lock() -> None:
    driver = fair()
    call = driver.call("lock", "a")
    look(driver, FREE, place(STRANGER, 1, 150))
    refused = driver.result(call)
    assert isinstance(refused, AlreadyLocked) and refused.reason == "held" and refused.holder is None
    assert driver.all(Transact) == []
    assert driver.emitted("lock_requested", "lock_denied") == [("lock_denied", "a")]


@pytest.mark.parametrize("named", [True, False])
def test_who_is_refused_hears_of_the_holder_without_another_read(named: bool) -> None:
    driver = fair(identify_holder=named)
    call = driver.call("lock", "a")
    look(driver, TAKEN)
    holder = driver.result(call).holder
    assert (holder.session_id if named else holder) == (STRANGER if named else None)
    assert driver.open == [driver.one(Watch)]  # that on the session


def test_a_look_that_fails_is_told_to_who_does_not_wait() -> None:
    driver = fair()
    call = driver.call("lock", "a")
    driver.answer(asked(driver, "turn"), failure())
    assert isinstance(driver.result(call), ConsulUnavailable)
    assert driver.emitted("lock_denied") == [("lock_denied", "a")]


def test_many_callers_look_in_one_transaction_of_at_most_64() -> None:
    driver = fair()
    driver.call("hold", "first", wait=None)
    driver.call("lock_many", *(str(number) for number in range(63)), wait=None)
    looks = [each for each in driver.all(Transact) if each.purpose == "turn"]
    assert [len(each.operations) for each in looks] == [1, 63]


# --------------------------------------------------------------------------------------- the line


def test_who_waits_takes_a_place_and_watches_the_one_before_it() -> None:
    driver = fair()
    call, _ = waiting(driver, TAKEN, place("B", 1, 150), place("C", 1, 160))
    watch = driver.all(Watch)[-1]
    assert (watch.name, watch.index) == (place_key(KEY, "C", 1), 160)
    assert driver.result(call) == PENDING
    assert driver.emitted("lock_requested", "lock_acquired") == []  # of places nobody hears
    assert driver.core.ledger.leases == {}


def test_places_of_others_behind_ones_own_are_none_of_its_business() -> None:
    driver = fair()
    waiting(driver, TAKEN, place("B", 1, 400))
    assert (driver.all(Watch)[-1].name, driver.all(Watch)[-1].index) == (KEY, 200)


def test_the_first_watches_the_lock_and_takes_it_with_its_place() -> None:
    driver = fair()
    call, own = waiting(driver, TAKEN)
    watch = driver.all(Watch)[-1]
    driver.answer(watch, KeysRead((entry(KEY, STRANGER, 205),), 205))  # overwritten, or its wait was over
    assert driver.all(Watch)[-1].index == 205
    driver.answer(driver.all(Watch)[-1], KeysRead((FREE,), 206))
    assert [(op.verb, op.key) for op in driver.commit().operations] == [(Verb.LOCK, KEY), (Verb.DELETE, own.key)]
    driver.grant()
    assert driver.result(call).exclusive
    assert driver.core.ledger.slots.keys() == {"a"}  # the place is gone
    assert driver.emitted("lock_requested", "lock_acquired") == [("lock_requested", "a"), ("lock_acquired", "a")]


def test_after_an_index_that_falls_it_looks_again() -> None:
    driver = fair()
    call, own = waiting(driver, TAKEN)
    driver.answer(driver.all(Watch)[-1], KeysRead((entry(KEY, STRANGER, 90),), 90))
    driver.fire("pause", call)
    look(driver, entry(KEY, STRANGER, 90), own)
    assert (driver.all(Watch)[-1].name, driver.all(Watch)[-1].index) == (KEY, 90)


@pytest.mark.parametrize("gone", [(), (place(None, 1, 150),)], ids=["deleted", "its session ended"])
def test_when_the_place_before_is_gone_it_looks_whose_turn_it_is(gone: tuple[Entry, ...]) -> None:
    driver = fair()
    _, own = waiting(driver, TAKEN, place("B", 1, 150))
    driver.answer(driver.all(Watch)[-1], KeysRead(gone, 310))
    look(driver, entry(KEY, "B", 310), own)
    assert (driver.all(Watch)[-1].name, driver.all(Watch)[-1].index) == (KEY, 310)


def test_places_of_dead_waiters_are_passed_over_and_taken_away() -> None:
    driver = fair()
    driver.call("lock", "a")
    dead = place(None, 7, 120)
    look(driver, FREE, dead)
    tidy = asked(driver, "tidy")
    assert [(op.verb, op.key, op.index) for op in tidy.operations] == [(Verb.DELETE_CAS, dead.key, 120)]
    assert driver.answer(tidy, Committed(())) == []
    assert [op.verb for op in driver.commit().operations] == [Verb.LOCK]


def test_a_place_of_our_own_that_nobody_stands_in_is_given_back() -> None:
    """One whose taking was not answered, and that came all the same."""
    driver = fair()
    driver.call("lock", "a")
    ghost = place("S1", 99, 120)
    look(driver, FREE, ghost)
    assert [(op.verb, op.key) for op in driver.commit().operations] == [
        (Verb.CHECK_SESSION, ghost.key),
        (Verb.DELETE_CAS, ghost.key),
    ]


def test_a_lock_delay_is_waited_out_at_the_head_of_the_queue() -> None:
    driver = fair()
    call, own = waiting(driver, TAKEN)
    driver.answer(driver.all(Watch)[-1], KeysRead((FREE,), 206))
    driver.answer(driver.commit(), RolledBack((Refused(0, Refusal.LOCK_DELAY, "lock delay"),)))
    assert driver.result(call) == PENDING
    driver.fire("pause", call)
    look(driver, FREE, own)
    driver.grant()
    assert driver.result(call).id == "a"


def test_the_pauses_double_until_a_watch_is_answered() -> None:
    driver = fair(random=1.0)
    call, own = waiting(driver, TAKEN)
    lengths = []
    driver.answer(driver.all(Watch)[-1], failure())
    for delayed in (False, True, True, True, True, False):
        lengths.append(round(driver.timers["pause", call] - driver.now, 6))
        driver.fire("pause", call)
        look(driver, FREE if delayed else TAKEN, own)
        if delayed:
            driver.answer(driver.commit(), RolledBack((Refused(0, Refusal.LOCK_DELAY, "lock delay"),)))
        else:
            driver.answer(driver.all(Watch)[-1], failure())
    assert lengths == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    driver.fire("pause", call)
    look(driver, TAKEN, own)
    driver.answer(driver.all(Watch)[-1], KeysRead((TAKEN,), 400))
    driver.answer(driver.all(Watch)[-1], failure())
    assert driver.timers["pause", call] - driver.now == pytest.approx(0.1)


def test_one_who_does_not_queue_may_be_faster() -> None:
    driver = fair()
    call, own = waiting(driver, TAKEN)
    driver.answer(driver.all(Watch)[-1], KeysRead((FREE,), 206))
    driver.answer(driver.commit(), held())
    look(driver, entry(KEY, STRANGER, 207), own)
    assert driver.all(Watch)[-1].index == 207
    assert driver.result(call) == PENDING


# ---------------------------------------------------------------------------------- callers of one Locker


def asks(driver: Driver) -> list[Transact]:
    """What is asked besides audits: these tests' indexes fall, as if a snapshot were restored."""
    return [each for each in driver.all(Transact) if each.purpose != "audit"]


def test_the_next_caller_of_the_same_locker_needs_no_watch() -> None:
    driver = fair()
    first, _ = waiting(driver, TAKEN)
    second = driver.call("hold", "a", wait=None)
    assert [op.verb for op in driver.commit().operations] == [Verb.LOCK]  # nor does it need to see the queue
    later = take_place(driver, created=310)
    assert [watch.name for watch in driver.all(Watch) if watch.target == "key"] == [KEY]
    driver.answer(driver.all(Watch)[-1], KeysRead((FREE,), 320))
    driver.grant()
    lease = driver.result(first)
    assert asks(driver) == []  # the other caller's end is known here: there is nothing to look for
    assert driver.result(second) == PENDING
    driver.call("leave", "a", argument=[lease])
    driver.grant()
    look(driver, entry(KEY, None, 330), later)
    driver.grant()
    assert driver.result(second).fence > lease.fence


def test_callers_of_lock_share_a_place_and_a_grant() -> None:
    driver = fair()
    first = driver.call("lock", "a", wait=None)
    look(driver, TAKEN)
    second = driver.call("lock", "a", wait=None)
    take_place(driver, TAKEN)
    assert [each.purpose for each in driver.all(Transact)] == []
    driver.answer(driver.all(Watch)[-1], KeysRead((FREE,), 320))
    driver.grant()
    assert driver.result(first) is driver.result(second)


def test_who_is_out_of_time_is_told_of_the_queue() -> None:
    driver = fair()
    call, _ = waiting(driver, TAKEN, wait=None, timeout=0.5)
    driver.fire("call", call)
    error = driver.result(call)
    assert isinstance(error, LockTimeout)
    assert (error.id, error.reason, error.holder) == ("a", "held", None)
    assert "it is still held by another session, or others wait before it in its queue; try again later" in str(error)


def test_who_is_out_of_time_before_the_first_look_has_no_answer_from_consul() -> None:
    driver = fair()
    call = driver.call("lock", "a", wait=None, timeout=0.5)
    driver.fire("call", call)
    assert driver.result(call).reason is None


def test_a_place_passes_to_who_shares_it() -> None:
    driver = fair()
    first = driver.call("lock", "a", wait=None)
    look(driver, TAKEN)
    second = driver.call("lock", "a", wait=None)
    own = take_place(driver, TAKEN)
    driver.abandon(first)
    look(driver, TAKEN, own)
    assert driver.all(Watch)[-1].name == KEY
    driver.answer(driver.all(Watch)[-1], KeysRead((FREE,), 320))
    driver.grant()
    assert driver.result(second).id == "a"


def test_who_shares_a_place_that_is_not_taken_yet_takes_one_of_its_own() -> None:
    driver = fair()
    first = driver.call("lock", "a", wait=None)
    look(driver, TAKEN)
    driver.call("lock", "a", wait=None)
    taking = driver.commit()
    driver.abandon(first)
    driver.answer(taking, Committed((Entry(taking.operations[0].key, b"", 0, "S1", 300, 300, 1),)))
    # what came for nobody is given back, and the other one queues up
    verbs = [op.verb for each in driver.all(Transact) for op in each.operations]
    assert sorted(verb.value for verb in verbs) == ["check-session", "delete-cas", "get-tree", "lock"]


# --------------------------------------------------------------------------------------------- leaving


@pytest.mark.parametrize("how", ["its time is over", "its limit is over", "abandoned"])
def test_who_leaves_gives_the_place_back(how: str) -> None:
    driver = fair()
    call, own = waiting(driver, TAKEN, wait=1.0, timeout=2.0 if how != "its limit is over" else 0.5)
    watch = driver.all(Watch)[-1]
    if how == "abandoned":
        driver.abandon(call)
        assert driver.result(call) == PENDING
    else:
        driver.fire("wait" if how == "its time is over" else "call", call)
        assert isinstance(driver.result(call), AlreadyLocked if how == "its time is over" else LockTimeout)
    assert watch not in driver.open
    leaving = driver.commit()
    assert [(op.verb, op.key) for op in leaving.operations] == [
        (Verb.CHECK_SESSION, own.key),
        (Verb.DELETE_CAS, own.key),
    ]
    driver.grant(leaving)
    assert driver.core.ledger.slots == {}
    assert driver.emitted("released", "lock_lost") == []
    assert driver.core.counters().get("released", 0) == 0


def test_a_place_whose_end_is_unknown_is_looked_after() -> None:
    driver = fair()
    call, own = waiting(driver, TAKEN)
    driver.abandon(call)
    driver.answer(driver.commit(), failure())
    driver.answer(driver.look(), Committed(()))
    driver.answer(driver.one(ReadKey), KeysRead((own,), 320))
    assert driver.commit().operations[-1].key == own.key
    assert driver.emitted("lock_lost") == []


def test_a_place_that_may_come_late_is_looked_after() -> None:
    driver = fair()
    call = driver.call("hold", "a", wait=None)
    look(driver, TAKEN)
    first = driver.commit()
    driver.answer(first, failure())
    assert driver.result(call) == PENDING  # a failure does not end the wait
    assert [op.key for op in driver.look().operations] == [first.operations[0].key]
    driver.fire("pause", call)
    assert place_number(driver.commit().operations[0].key) > place_number(first.operations[0].key)


def test_who_has_no_time_left_is_told_why_it_has_no_place() -> None:
    driver = fair()
    call = driver.call("hold", "a", wait=1.0)
    look(driver, TAKEN)
    request = driver.commit()
    driver.answer(request, RolledBack((Refused(0, Refusal.OTHER, "no"),)), driver.now + 2.0)
    assert isinstance(driver.result(call), ConsulUnavailable)
    assert driver.core.ledger.slots == {}


def test_a_stop_gives_the_places_back_before_the_session_ends() -> None:
    driver = fair()
    call, own = waiting(driver, TAKEN)
    stop = driver.call("stop")
    assert isinstance(driver.result(call), SessionEnded)
    assert [op.key for op in driver.commit().operations] == [own.key, own.key]
    driver.grant()
    driver.destroyed()
    assert driver.result(stop) is None


def test_a_lost_session_takes_the_places_along_and_its_callers_queue_up_with_the_next() -> None:
    driver = fair()
    call, _ = waiting(driver, TAKEN)
    driver.call("reboot")
    assert [watch for watch in driver.all(Watch) if watch.target == "key"] == []
    driver.fire("retry")
    driver.ready("S2")
    look(driver, TAKEN)
    assert driver.commit().operations[0].session == "S2"
    assert driver.result(call) == PENDING


# ------------------------------------------------------------------------------------- what others do to it


def test_who_was_robbed_of_its_place_queues_up_at_the_end() -> None:
    driver = fair()
    call, own = waiting(driver, TAKEN, place("B", 1, 150))
    driver.answer(driver.all(Watch)[-1], KeysRead((), 310))
    look(driver, TAKEN)  # a place is missing: deleted, or a server that is behind
    assert driver.result(call) == PENDING
    read = driver.one(ReadKey)
    assert (read.key, read.purpose) == (own.key, "verdict")
    driver.answer(read, KeysRead((), 311))
    again = take_place(driver, TAKEN, created=320)
    assert again.key != own.key
    assert driver.emitted("lock_lost") == []


def test_only_who_was_robbed_of_its_place_queues_up_anew() -> None:
    driver = fair()
    first, own = waiting(driver, TAKEN)
    driver.call("hold", "a", wait=None)
    robbed = take_place(driver, created=310)
    driver.core._grants.lose(driver.core.ledger.slots[f"\0{robbed.key}"], "key deleted")
    driver.call("info", "other")  # so that the step ends
    again = take_place(driver, created=320)
    assert again.key not in (own.key, robbed.key)
    assert driver.core._waiting.places(first)[0].key == own.key


def test_a_server_that_is_behind_costs_a_pause() -> None:
    driver = fair()
    call, own = waiting(driver, TAKEN, place("B", 1, 150))
    driver.answer(driver.all(Watch)[-1], KeysRead((), 310))
    look(driver, TAKEN)
    driver.answer(driver.one(ReadKey), KeysRead((own,), 311))
    driver.fire("pause", call)
    look(driver, TAKEN, own)
    assert driver.all(Watch)[-1].name == KEY


def test_a_watch_that_fails_costs_a_pause() -> None:
    driver = fair()
    call, own = waiting(driver, TAKEN)
    driver.answer(driver.all(Watch)[-1], failure())
    driver.fire("pause", call)
    driver.answer(asked(driver, "turn"), failure())
    driver.fire("pause", call)
    look(driver, TAKEN, own)
    assert driver.all(Watch)[-1].name == KEY


def test_an_answer_that_nobody_waits_for_any_more_changes_nothing() -> None:
    driver = fair()
    call, own = waiting(driver, TAKEN, place("B", 1, 150))
    watch = driver.all(Watch)[-1]
    driver.answer(watch, KeysRead((), 310))
    late = asked(driver, "turn")
    driver.abandon(call)
    assert [each for each in driver.answer(late, Committed((FREE, own))) if isinstance(each, Transact)] == []
    assert driver.answer(watch, KeysRead((), 311)) == []


def test_after_a_restored_snapshot_a_place_of_ours_that_is_unknown_is_given_back() -> None:
    driver = fair()
    driver.core._audit.sweep()
    driver.fire("audit")
    ghost = place("S1", 5, 80)
    driver.answer(driver.one(ReadPrefix), NamesRead((ghost.key, place("B", 1, 81).key)))
    (check,) = (each for each in driver.all(Transact) if each.purpose == "sweep")
    driver.answer(check, Committed(()))
    driver.found(driver.one(ReadKey), "S1", 80)
    assert [op.key for op in driver.commit().operations] == [ghost.key, ghost.key]


# ------------------------------------------------------------------------------------------------- sets


def test_a_set_takes_all_its_places_at_once_and_waits_for_all_its_turns() -> None:
    driver = fair()
    call = driver.call("hold_many", "a", "b", wait=None)
    other = "svc/b/lock"
    look(driver, TAKEN)
    request = driver.commit()
    assert [op.verb for op in request.operations] == [Verb.LOCK, Verb.LOCK, Verb.GET_TREE, Verb.GET_TREE]
    own = [Entry(op.key, b"", 0, "S1", 300, 300, 1) for op in request.operations[:2]]
    before = place("B", 1, 200, other)
    driver.answer(request, Committed((*own, TAKEN, own[0], before, own[1])))
    assert driver.all(Watch)[-1].name == before.key
    driver.answer(driver.all(Watch)[-1], KeysRead((), 310))
    look(driver, TAKEN, *own)
    driver.answer(driver.all(Watch)[-1], KeysRead((FREE,), 320))
    look(driver, FREE, *own)
    assert [op.verb for op in driver.commit().operations] == [Verb.LOCK] * 2 + [Verb.DELETE] * 2
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


def test_a_place_of_a_call_that_has_gone_could_not_be_taken() -> None:
    driver = fair()
    call = driver.call("hold", "a", wait=None)
    look(driver, TAKEN)
    driver.abandon(call)
    driver.answer(driver.commit(), failure(sent=False))
    assert driver.core.ledger.slots == {}


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
    own = [Entry(op.key, b"", 0, "S1", 300, 300, 1) for op in taking.operations[:2]]
    driver.answer(taking, Committed((*own, entry("svc/b/lock", STRANGER, 150))))
    mine = take_place(driver, created=310)
    assert driver.result(call) == PENDING
    driver.abandon(driver.core.ledger.slots["a"].waiters[0])
    driver.grant()
    look(driver, FREE, mine)
    driver.grant()
    assert [lease.id for lease in driver.result(call)] == ["a"]


def test_who_inherits_a_place_that_is_being_used_up_needs_it_no_more_when_it_is_his_turn() -> None:
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
    own = [Entry(op.key, b"", 0, "S1", 400 + at, 400 + at, 1) for at, op in enumerate(taking.operations[:2])]
    shown = [*own, mine, entry(other, STRANGER, 200)] if len(taking.operations) > 2 else own
    driver.answer(taking, Committed(tuple(shown)))
    assert driver.result(call) == PENDING
    waiter = driver.core._waiting._contenders[call]  # only a fair Locker has it
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
    look(driver, TAKEN, own)
    driver.grant(busy)
    together = driver.commit()
    new = next(op.key for op in together.operations if op.verb is Verb.LOCK)
    fresh = Entry(new, b"", 0, "S1", 400, 400, 1)
    driver.answer(together, Committed((own, fresh, TAKEN, fresh)))
    assert driver.all(Watch)[-1].name == KEY
    assert driver.result(call) == PENDING


# ------------------------------------------------------------------------------------- whose turn, by itself


B, C, DEAD, OWN = place("B", 1, 150), place("C", 1, 160), place(None, 2, 120), place("S1", 3, 155)


@pytest.mark.parametrize(
    ("found", "before"),
    [
        ((), None),
        ((FREE,), None),
        ((entry(KEY, "S1", 200),), None),  # by another caller of this Locker, whose end is known here
        ((TAKEN,), TAKEN),
        ((FREE, B), B),
        ((TAKEN, C, B), C),
        ((TAKEN, DEAD), TAKEN),
    ],
)
def test_whose_turn_it_is_without_a_place(found: tuple[Entry, ...], before: Entry | None) -> None:
    slot = Slot("a", KEY)
    turn = turn_of(Contender(Call("lock", ("a",)), (slot,)), {each.key: each for each in found}, [_queue(found)], "S1")
    assert turn == Turn(None, [] if before is None else [slot], before)


@pytest.mark.parametrize(
    ("found", "before"),
    [((OWN,), None), ((FREE, OWN, C), None), ((TAKEN, C, OWN), TAKEN), ((TAKEN, C, OWN, B, DEAD), B)],
)
def test_whose_turn_it_is_with_a_place(found: tuple[Entry, ...], before: Entry | None) -> None:
    slot = Slot("a", KEY)
    standing = Contender(Call("lock", ("a",)), (slot,))
    standing.places = {"a": Slot("place", OWN.key, "a")}
    turn = turn_of(standing, {each.key: each for each in found}, [_queue(found)], "S1")
    assert turn == Turn(None, [] if before is None else [slot], before)
    assert turn_of(standing, {}, [_queue([TAKEN, B])], "S1") == Turn(standing.places["a"], [], None)


def _queue(found: Iterable[Entry]) -> list[Entry]:
    return queue_of(KEY, found)
