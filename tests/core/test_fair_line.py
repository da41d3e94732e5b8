"""The queue of a fair Locker, step by step. What any order of events does to it, tests/walk shows."""

from __future__ import annotations

import pytest

from consul_locker.core.calls import Obstacle
from consul_locker.core.fair_places import MOST_AHEAD
from consul_locker.core.messages import Call
from consul_locker.core.requests import (
    Committed,
    Entry,
    KeysRead,
    Operation,
    ReadKey,
    Refusal,
    Refused,
    RolledBack,
    Transact,
    Verb,
    Watch,
    WatchKey,
)
from consul_locker.errors import AlreadyLocked, LockTimeout
from consul_locker.keys import place_key

from .fair import FREE, KEY, TAKEN, asked, fair, look, place, take_place, waiting
from .helpers import PENDING, STRANGER, Driver, entry, failure, held

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


def test_who_comes_again_while_others_wait_takes_a_place_without_a_look() -> None:
    driver = fair()
    first, own = waiting(driver, TAKEN)
    driver.answer(driver.all(Watch)[-1], KeysRead((FREE,), 320))
    driver.grant()
    driver.call("leave", [driver.result(first)])
    driver.grant()
    again = driver.call("hold", "a", wait=None)
    own = take_place(driver, FREE, created=340)  # by now nobody waits
    driver.grant()
    driver.call("leave", [driver.result(again)])
    driver.grant()
    driver.call("hold", "a", wait=None)
    look(driver, FREE)
    assert [op.verb for op in driver.commit().operations] == [Verb.LOCK]
    assert own.key not in driver.core.ledger.slots


def test_who_does_not_wait_looks_also_at_a_busy_lock() -> None:
    driver = fair()
    call, _ = waiting(driver, TAKEN)
    driver.abandon(call)
    driver.grant()
    refused = driver.call("lock", "a")
    look(driver, TAKEN)
    assert isinstance(driver.result(refused), AlreadyLocked)


def test_who_takes_a_place_without_a_look_was_refused_by_nothing() -> None:
    driver = fair()
    call, _ = waiting(driver, TAKEN)
    driver.abandon(call)
    driver.grant()
    late = driver.call("hold", "a", wait=1.0)
    driver.fire("wait", late)
    assert driver.result(late) == PENDING  # the answer decides
    take_place(driver, TAKEN, created=340)
    assert isinstance(driver.result(late), AlreadyLocked)


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


def test_the_first_watches_the_lock_and_gives_its_place_back_with_it() -> None:
    driver = fair()
    call, own = waiting(driver, TAKEN)
    watch = driver.all(Watch)[-1]
    driver.answer(watch, KeysRead((entry(KEY, STRANGER, 205),), 205))  # overwritten, or its wait was over
    assert driver.all(Watch)[-1].index == 205
    driver.answer(driver.all(Watch)[-1], KeysRead((FREE,), 206))
    assert [(op.verb, op.key) for op in driver.commit().operations] == [(Verb.LOCK, KEY)]
    driver.grant()
    assert driver.result(call).exclusive
    driver.call("leave", [driver.result(call)])
    assert [(op.verb, op.key) for op in driver.commit().operations] == [
        (Verb.CHECK_INDEX, KEY),
        (Verb.UNLOCK, KEY),
        (Verb.DELETE, own.key),
    ]
    driver.grant()
    assert driver.core.ledger.slots == {}  # the place is gone
    heard = driver.emitted("lock_requested", "lock_acquired", "released", "lock_lost")
    assert heard == [("lock_requested", "a"), ("lock_acquired", "a"), ("released", "a")]


def had(driver: Driver) -> tuple[Call, Entry]:
    """A hold that was got with a place. Its call, and the place."""
    call, own = waiting(driver, TAKEN)
    driver.answer(driver.all(Watch)[-1], KeysRead((FREE,), 320))
    driver.grant()
    return call, own


def place_given_back(driver: Driver, own: Entry) -> bool:
    """Whether a place is being given back by itself."""
    operations = [op for each in driver.all(Transact) for op in each.operations]
    return Operation(Verb.DELETE_CAS, own.key, index=own.modify_index) in operations


def test_the_place_of_a_lock_that_is_lost_is_given_back() -> None:
    driver = fair()
    call, own = had(driver)
    driver.core.releases.lose(driver.core.ledger.slot("a"), "key deleted")
    driver.call("info", "other")  # so that the step ends
    assert not driver.result(call).live
    assert place_given_back(driver, own)
    driver.call("reboot")  # the session ends first: the place ends with it
    driver.fire("retry")
    driver.ready("S2")
    assert {each.generation for each in driver.all(Transact)} == {1}


@pytest.mark.parametrize("found", ["not ours", "unknown"])
def test_the_place_of_a_release_that_is_not_confirmed_is_given_back(found: str) -> None:
    driver = fair()
    call, own = had(driver)
    driver.call("leave", [driver.result(call)])
    if found == "unknown":
        driver.answer(driver.commit(), failure())
    else:
        driver.answer(driver.commit(), RolledBack((Refused(0, Refusal.INDEX, "index"),)))
        assert not place_given_back(driver, own)
        driver.answer(driver.one(ReadKey), KeysRead((entry(KEY, STRANGER, 400),), 400))
    assert place_given_back(driver, own)


def test_the_place_of_a_lock_may_be_lost_before_it() -> None:
    driver = fair()
    call, own = had(driver)
    driver.core.releases.lose(driver.core.ledger.slots[f"\0{own.key}"], "key deleted")
    assert driver.result(call).live
    driver.call("leave", [driver.result(call)])
    assert [op.verb for op in driver.commit().operations] == [Verb.CHECK_INDEX, Verb.UNLOCK]


def test_a_stop_gives_back_the_places_of_locks() -> None:
    driver = fair()
    _, own = had(driver)
    driver.call("stop")
    assert place_given_back(driver, own)


def test_a_stop_leaves_a_place_to_the_release_under_way() -> None:
    driver = fair()
    call, own = had(driver)
    driver.call("leave", [driver.result(call)])
    driver.call("stop")
    assert not place_given_back(driver, own)


def test_after_an_index_that_falls_it_looks_again() -> None:
    driver = fair()
    call, own = waiting(driver, TAKEN)
    driver.answer(driver.all(Watch)[-1], KeysRead((entry(KEY, STRANGER, 90),), 90))
    driver.fire("pause", call)
    look(driver, entry(KEY, STRANGER, 90), own)
    assert (driver.all(Watch)[-1].name, driver.all(Watch)[-1].index) == (KEY, 90)


def test_when_the_place_before_is_gone_it_asks_for_the_lock_unless_others_stand_before_it() -> None:
    driver = fair()
    call, own = waiting(driver, TAKEN, place("B", 1, 150), place("C", 1, 160))
    driver.answer(driver.all(Watch)[-1], KeysRead((), 310))
    asking = driver.commit()
    assert asking.operations[:2] == tuple(
        Operation(Verb.CHECK_NOT_EXISTS, place_key(KEY, other, 1)) for other in ("B", "C")
    )
    assert [(op.verb, op.key) for op in asking.operations[2:]] == [(Verb.LOCK, KEY)]
    driver.answer(asking, RolledBack((Refused(0, Refusal.EXISTS, "exists"), Refused(2, Refusal.HELD, "held"))))
    look(driver, TAKEN, place("B", 1, 150), own)  # who was directly before it has given up
    assert driver.all(Watch)[-1].name == place_key(KEY, "B", 1)
    driver.answer(driver.all(Watch)[-1], KeysRead((), 320))
    look(driver, FREE, own)
    driver.grant()
    assert driver.result(call).id == "a"


def test_with_a_second_place_it_does_not_ask_as_with_the_first() -> None:
    """Else it would overtake who stands between the two: only those before the first place are known."""
    driver = fair()
    call, own = waiting(driver, TAKEN, place("B", 1, 150))
    driver.core.releases.lose(driver.core.ledger.slots[f"\0{own.key}"], "key deleted")
    driver.call("info", "other")  # so that the step ends
    many = [place("B", number, 100 + number) for number in range(1, MOST_AHEAD + 2)]
    take_place(driver, TAKEN, *many, created=400)
    driver.answer(driver.all(Watch)[-1], KeysRead((), 410))
    assert asked(driver, "turn")
    assert driver.result(call) == PENDING


def test_the_time_of_a_call_that_is_taking_a_place_is_over() -> None:
    driver = fair()
    call, _ = waiting(driver, TAKEN)
    driver.abandon(call)
    driver.grant()
    late = driver.call("hold", "a", wait=None, timeout=2.0)  # to a busy lock, without a look
    driver.fire("call", late)
    assert isinstance(driver.result(late), LockTimeout)
    assert driver.result(late).reason is None  # nothing has refused it


def test_when_the_session_of_the_place_before_has_ended_it_looks_whose_turn_it_is() -> None:
    driver = fair()
    _, own = waiting(driver, TAKEN, place("B", 1, 150))
    driver.answer(driver.all(Watch)[-1], KeysRead((place(None, 1, 150),), 310))
    look(driver, entry(KEY, "B", 310), own)
    assert (driver.all(Watch)[-1].name, driver.all(Watch)[-1].index) == (KEY, 310)


def test_behind_very_many_it_looks() -> None:
    driver = fair()
    waiting(driver, TAKEN, *(place("B", number, 100 + number) for number in range(MOST_AHEAD + 1)))
    driver.answer(driver.all(Watch)[-1], KeysRead((), 310))
    assert asked(driver, "turn")


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
    return [each for each in driver.all(Transact) if driver.purpose(each) != "audit"]


def test_the_next_caller_of_the_same_locker_needs_no_watch() -> None:
    driver = fair()
    first, _ = waiting(driver, TAKEN)
    second = driver.call("hold", "a", wait=None)
    assert [op.verb for op in driver.commit().operations] == [Verb.LOCK]  # nor does it need to see the queue
    later = take_place(driver, created=310)
    assert [watch.name for watch in driver.all(Watch) if isinstance(watch, WatchKey)] == [KEY]
    driver.answer(driver.all(Watch)[-1], KeysRead((FREE,), 320))
    driver.grant()
    lease = driver.result(first)
    assert asks(driver) == []  # the other caller's end is known here: there is nothing to look for
    assert driver.result(second) == PENDING
    driver.call("leave", [lease])
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
    assert [driver.purpose(each) for each in driver.all(Transact)] == []
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
    driver.answer(taking, Committed((Entry(taking.operations[0].key, 0, 300, 300, 1, b"", "S1"),)))
    # what came for nobody is given back, and the other one queues up
    verbs = [op.verb for each in driver.all(Transact) for op in each.operations]
    assert sorted(verb.value for verb in verbs) == ["check-session", "delete-cas", "get-tree", "lock"]


def test_a_call_that_comes_twice_stands_once_in_the_line() -> None:
    driver = fair()
    call, _ = waiting(driver, place("B", 1, 200))
    slot = driver.core.ledger.slot("a")
    driver.core.line.wait(call, slot, Obstacle.LOCAL)
    assert slot.waiters == [call]
