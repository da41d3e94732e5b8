"""Waiting: the line at a key, and what wakes it."""

from __future__ import annotations

import pytest

from consul_locker.core.messages import Call, CancelRequest, TimerFired
from consul_locker.core.requests import KeysRead, ReadKey, Refusal, Refused, RolledBack, Transact
from consul_locker.errors import ConsulUnavailable, LockTimeout

from .helpers import PENDING, STRANGER, Driver, away, entry, failure, held
from .waiters import taken, watch, watches

DELAYED = RolledBack((Refused(0, Refusal.LOCK_DELAY, "lock delay"),))


def test_a_refused_waiter_watches_and_does_not_ask_again() -> None:
    driver = Driver().ready()
    driver.call("lock", "a", wait=5.0)
    driver.answer(driver.commit(), held())
    assert watch(driver).index == 0  # a look at the present state: no wake-up is missed
    assert driver.all(Transact) == []
    driver.answer(watch(driver), taken(200))
    assert watch(driver).index == 200
    assert driver.all(Transact) == []


def test_a_freed_key_is_tried_at_once() -> None:
    driver = Driver().ready()
    call = driver.call("lock", "a", wait=5.0)
    driver.answer(driver.commit(), held())
    driver.answer(watch(driver), taken(session=None))
    driver.grant()
    assert driver.result(call).valid
    assert watches(driver) == 0


def _races(driver: Driver, count: int) -> list[float]:
    """A watch is under way: so often it shows the key free, and somebody else is faster. The longest pauses after."""
    lengths = []
    for _ in range(count):
        driver.answer(watch(driver), taken(session=None))
        driver.answer(driver.commit(), held())
        assert (watches(driver), driver.all(Transact)) == (0, [])
        lengths.append(round(driver.timers["pause", "a"] - driver.now, 6))
        driver.fire("pause", "a")
        assert watch(driver).index == 0  # what happened in the pause is not missed
    return lengths


def test_who_loses_races_pauses_longer_and_longer_until_it_has_the_lock() -> None:
    driver = Driver(random=1.0).ready()
    first = driver.call("hold", "a", wait=None)
    driver.answer(driver.commit(), held())
    assert _races(driver, 6) == [0.01, 0.02, 0.04, 0.08, 0.1, 0.1]
    driver.answer(watch(driver), taken(200))
    driver.answer(watch(driver), taken(201, session=None))
    driver.grant()
    driver.call("leave", [driver.result(first)])
    driver.grant()
    driver.call("hold", "a", wait=None)
    driver.answer(driver.commit(), held())  # it was not woken: this was no race
    assert _races(driver, 2) == [0.01, 0.02]


def test_the_races_of_a_waiter_that_has_gone_do_not_count() -> None:
    driver = Driver(random=1.0).ready()
    call = driver.call("hold", "a", wait=None)
    driver.answer(driver.commit(), held())
    assert _races(driver, 2) == [0.01, 0.02]
    driver.abandon(call)
    driver.call("hold", "a", wait=None)
    driver.answer(driver.commit(), held())
    assert _races(driver, 1) == [0.01]


def test_a_race_that_is_lost_beside_a_pause_makes_no_other() -> None:
    driver = Driver(strategy=None).ready()
    driver.call("lock", "a", wait=None)
    driver.call("lock", "a", wait=None)
    driver.answer(driver.commit(), held())
    driver.answer(driver.commit(), held())
    driver.answer(watch(driver), taken(session=None))
    driver.answer(driver.commit(), DELAYED)
    until = driver.timers["pause", "a"]
    driver.answer(driver.commit(), held(), driver.now + 0.01)
    assert watches(driver) == 1
    assert driver.timers["pause", "a"] == until


def test_an_index_that_falls_begins_at_nought() -> None:
    driver = Driver().ready()
    driver.call("lock", "a", wait=None)
    driver.answer(driver.commit(), held())
    driver.answer(watch(driver), taken(200))
    driver.answer(watch(driver), taken(150))
    driver.fire("pause", "a")
    assert watch(driver).index == 0


def test_those_who_wait_share_a_watch_and_a_grant() -> None:
    driver = Driver().ready()
    first = driver.call("lock", "a", wait=5.0)
    driver.answer(driver.commit(), held())
    second, third = driver.call("lock", "a", wait=None), driver.call("lock", "a", wait=1.0)
    assert watches(driver) == 1
    assert driver.all(Transact) == []
    driver.answer(watch(driver), KeysRead((), 300))
    driver.grant()
    assert driver.result(first) is driver.result(second) is driver.result(third)


def test_a_timer_of_a_settled_call_means_nothing() -> None:
    driver = Driver().ready()
    call = driver.call("lock", "a", wait=5.0)
    driver.answer(driver.commit(), held())
    driver.abandon(call)
    assert driver.step(TimerFired(("wait", call)), driver.now + 5.0) == []  # it was due already
    assert watches(driver) == 0


def too_late(driver: Driver, call: Call) -> LockTimeout:
    """The call's own limit is over."""
    driver.fire("call", call)
    error = driver.result(call)
    assert isinstance(error, LockTimeout)
    return error


@pytest.mark.parametrize("named", [True, False])
def test_who_is_out_of_time_is_told_who_has_the_lock(named: bool) -> None:
    driver = Driver(identify_holder=named).ready()
    call = driver.call("lock_many", "b", "a", wait=None, timeout=1.0)
    driver.answer(driver.commit(), held(1))
    driver.answer(watch(driver), KeysRead((entry("svc/a/lock", STRANGER, 200, b'{"pid":7,"host":"h"}'),), 200))
    error = too_late(driver, call)
    assert (error.id, error.reason, error.timeout, error.state) == ("a", "held", 1.0, "ready")
    assert (error.holder is not None) == named
    who = f"process 7 on h (session {STRANGER})" if named else "another session"
    assert f"lock_many of 'a' was not granted within 1 s: it is still held by {who}; " in str(error)
    assert watches(driver) == 0


def test_who_is_out_of_time_before_the_watch_was_answered() -> None:
    driver = Driver(identify_holder=True).ready()
    call = driver.call("lock", "a", wait=5.0, timeout=1.0)
    driver.answer(driver.commit(), held())
    error = too_late(driver, call)
    assert (error.reason, error.holder) == ("held", None)


def _two_who_see_the_holder() -> tuple[Driver, Call]:
    """Two wait, and a watch showed who has the key. Returns the second, which stays in line while the first tries."""
    driver = Driver(identify_holder=True, strategy=None).ready()
    driver.call("lock_many", "a", wait=None)
    second = driver.call("lock_many", "a", wait=None, timeout=1.0)
    driver.answer(driver.commit(), held())
    driver.answer(driver.commit(), held())
    driver.answer(watch(driver), taken())
    return driver, second


def test_who_is_out_of_time_behind_another_waiter_is_told_who_has_the_lock() -> None:
    driver, second = _two_who_see_the_holder()
    holder = too_late(driver, second).holder
    assert holder is not None
    assert holder.session_id == STRANGER


def test_a_holder_that_has_gone_is_not_named() -> None:
    driver, second = _two_who_see_the_holder()
    driver.answer(watch(driver), taken(session=None))
    driver.commit()  # the first tries
    error = too_late(driver, second)
    assert (error.reason, error.holder) == ("held", None)


def test_a_holder_is_not_named_once_a_failed_watch_is_followed_by_an_attempt() -> None:
    driver, second = _two_who_see_the_holder()
    driver.answer(watch(driver), failure())
    driver.fire("pause", "a")
    error = too_late(driver, second)
    assert (error.reason, error.holder) == ("held", None)


def test_a_holder_is_not_named_once_the_lock_was_granted_here() -> None:
    driver, second = _two_who_see_the_holder()
    driver.call("lock", "a")  # does not wait, so it asks, and the key is free by now
    driver.grant()
    error = too_late(driver, second)
    assert (error.reason, error.holder) == ("held", None)


def test_a_holder_is_not_named_once_nobody_watches() -> None:
    driver = Driver(identify_holder=True).ready()
    driver.call("lock", "a")
    driver.answer(driver.commit(), failure())  # a doubt: the key is remembered after the waiter has gone
    first = driver.call("lock", "a", wait=None)
    driver.answer(driver.commit(), held())
    driver.answer(watch(driver), taken())
    driver.abandon(first)
    second = driver.call("lock", "a", wait=None, timeout=1.0)
    driver.answer(driver.commit(), held())
    error = too_late(driver, second)
    assert (error.reason, error.holder) == ("held", None)


def test_who_is_out_of_time_in_a_lock_delay() -> None:
    driver = Driver(identify_holder=True).ready()
    call = driver.call("lock", "a", wait=None, timeout=0.01)
    driver.answer(driver.commit(), DELAYED)
    assert too_late(driver, call).reason == "lock-delay"


def test_who_is_out_of_time_behind_another_caller_of_this_locker() -> None:
    driver = Driver().ready()
    driver.locked("a")
    assert too_late(driver, driver.call("hold", "a", wait=None, timeout=1.0)).reason == "local"


def test_who_is_out_of_time_in_an_attempt_has_no_answer_from_consul() -> None:
    """It was refused before, but what it waits for now is Consul."""
    driver = Driver().ready()
    call = driver.call("lock", "a", wait=None, timeout=1.0)
    driver.answer(driver.commit(), held())
    driver.answer(watch(driver), taken(session=None))
    error = too_late(driver, call)
    assert error.reason is None
    assert "Consul did not answer in time" in str(error)


def test_who_is_out_of_time_after_a_failure_is_told_of_it() -> None:
    driver = Driver().ready()
    call = driver.call("lock", "a", wait=None, timeout=1.0)
    driver.answer(driver.commit(), held())
    driver.answer(watch(driver), taken(session=None))
    failed = away()
    driver.answer(driver.commit(), failed)
    error = too_late(driver, call)
    assert (error.reason, error.cause) == (None, failed.error)
    assert f"the last attempt failed ({failed.error}); " in str(error)


def test_who_is_out_of_time_after_a_failure_that_is_over_is_told_who_has_the_lock() -> None:
    driver = Driver().ready()
    call = driver.call("lock", "a", wait=None, timeout=9.0)
    driver.answer(driver.commit(), held())
    driver.answer(watch(driver), taken(session=None))
    driver.answer(driver.commit(), away())
    driver.fire("pause")
    driver.answer(driver.commit(), held())
    error = too_late(driver, call)
    assert (error.reason, error.cause) == ("held", None)


def test_holds_are_served_first_come_first_served() -> None:
    driver = Driver().ready()
    first = driver.call("hold", "a", wait=None)
    driver.answer(driver.commit(), held())
    second = driver.call("hold", "a", wait=None)
    assert driver.result(driver.call("hold", "a")).reason == "local"
    driver.answer(watch(driver), taken(session=None))
    driver.grant()
    assert driver.result(second) is PENDING
    driver.call("leave", [driver.result(first)])
    driver.grant()
    driver.grant()
    assert driver.result(second).valid


def test_a_lock_between_holds_waits_for_neither_lease() -> None:
    driver = Driver().ready()
    hold = driver.call("hold", "a")
    driver.grant()
    lock, after = driver.call("lock", "a", wait=None), driver.call("hold", "a", wait=None)
    driver.call("leave", [driver.result(hold)])
    driver.grant()
    driver.grant()
    assert driver.result(lock).valid
    assert driver.result(after) is PENDING


def test_who_stands_behind_a_waiter_that_leaves_is_served() -> None:
    driver = Driver().ready()
    first = driver.call("hold", "a", wait=1.0)
    driver.answer(driver.commit(), held())
    second = driver.call("hold", "a", wait=None)
    driver.fire("wait", first)
    driver.grant()
    assert driver.result(second).valid


def test_who_stands_behind_a_pausing_waiter_that_leaves_is_served() -> None:
    driver = Driver().ready()
    first = driver.call("hold", "a", wait=None)
    driver.answer(driver.commit(), DELAYED)
    second = driver.call("hold", "a", wait=None)
    driver.abandon(first)
    assert ("pause", "a") not in driver.timers
    driver.grant()
    assert driver.result(second).valid


def test_a_lock_delay_is_waited_out_with_pauses() -> None:
    driver = Driver().ready()
    call = driver.call("lock", "a", wait=None)
    for _ in range(3):
        driver.answer(driver.commit(), DELAYED)
        assert watches(driver) == 0
        assert driver.timers["pause", "a"] > driver.now
        driver.fire("pause", "a")
    driver.grant()
    assert driver.result(call).valid


def _pauses(driver: Driver, count: int) -> list[float]:
    """An attempt is under way: it and those that follow are refused for a lock-delay. The pauses, without jitter."""
    lengths = []
    for _ in range(count):
        driver.answer(driver.commit(), DELAYED)
        lengths.append(round(driver.timers["pause", "a"] - driver.now, 6))
        driver.fire("pause", "a")
    return lengths


def test_the_pauses_in_a_lock_delay_double_until_the_wait_is_over() -> None:
    driver = Driver(random=1.0).ready()
    first = driver.call("hold", "a", wait=None)
    assert _pauses(driver, 6) == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    driver.answer(driver.commit(), held())  # somebody else was faster
    driver.answer(watch(driver), taken(session=None))
    assert _pauses(driver, 2) == [0.1, 0.2]
    driver.grant()
    driver.call("leave", [driver.result(first)])
    driver.grant()
    driver.call("hold", "a", wait=None)
    assert _pauses(driver, 2) == [0.1, 0.2]


def test_the_pauses_of_a_waiter_that_has_gone_do_not_count() -> None:
    driver = Driver(random=1.0).ready()
    call = driver.call("hold", "a", wait=None)
    assert _pauses(driver, 3) == [0.1, 0.2, 0.4]
    driver.abandon(call)
    driver.answer(driver.commit(), DELAYED)
    driver.call("hold", "a", wait=None)
    assert _pauses(driver, 1) == [0.1]


def test_a_watch_that_fails_beside_a_pause_makes_no_other() -> None:
    driver = Driver(strategy=None).ready()
    driver.call("lock_many", "a", wait=None)
    driver.call("lock_many", "a", wait=None)
    driver.answer(driver.commit(), held())
    driver.answer(driver.commit(), DELAYED)
    due = driver.timers["pause", "a"]
    driver.answer(watch(driver), failure(), driver.now + 0.01)
    assert driver.timers["pause", "a"] == due


def test_two_who_meet_a_lock_delay_share_a_pause() -> None:
    driver = Driver(strategy=None).ready()
    first = driver.call("lock_many", "a", wait=None)
    second = driver.call("lock_many", "a", wait=None)
    driver.answer(driver.commit(), DELAYED)
    due = driver.timers["pause", "a"]
    driver.answer(driver.commit(), DELAYED)
    assert driver.timers["pause", "a"] == due
    driver.fire("pause", "a")
    driver.grant()
    driver.grant()
    assert driver.result(first)[0].fence < driver.result(second)[0].fence


def test_a_watch_that_fails_is_tried_again_after_growing_pauses() -> None:
    driver = Driver().ready()
    call = driver.call("lock", "a", wait=None)
    driver.answer(driver.commit(), held())
    pauses = []
    for _ in range(3):
        driver.answer(watch(driver), failure())
        pauses.append(driver.timers["pause", "a"] - driver.now)
        driver.fire("pause", "a")
        driver.answer(driver.commit(), held())
    assert pauses == sorted(pauses)
    assert pauses[0] < pauses[-1]
    driver.answer(watch(driver), KeysRead((), 300))
    driver.grant()
    assert driver.result(call).valid


def test_a_waiter_whose_attempt_fails_is_told() -> None:
    driver = Driver().ready()
    call = driver.call("lock", "a", wait=5.0)
    driver.answer(driver.commit(), held())
    driver.answer(watch(driver), KeysRead((), 300))
    driver.answer(driver.commit(), failure("an answer that is not Consul's"))  # time alone does not mend it
    assert isinstance(driver.result(call), ConsulUnavailable)


def test_a_key_that_turns_out_ours_is_asked_for() -> None:
    driver = Driver().ready()
    call = driver.call("lock", "a", wait=None)
    driver.answer(driver.commit(), held())
    driver.answer(watch(driver), taken(session="S1"))
    driver.grant()
    assert driver.result(call).valid


def test_a_watch_that_was_given_up_means_nothing() -> None:
    driver = Driver().ready()
    call = driver.call("lock", "a", wait=None)
    driver.answer(driver.commit(), held())
    old = watch(driver)
    driver.abandon(call)
    assert CancelRequest(old) in driver.commands
    assert driver.answer(old, KeysRead((), 300)) == []


def test_a_pause_that_was_cancelled_means_nothing() -> None:
    driver = Driver().ready()
    assert driver.step(TimerFired(("pause", "a"))) == []
    call = driver.call("lock", "a", wait=None)
    driver.answer(driver.commit(), DELAYED)
    driver.core.ledger.slots.clear()  # nobody knows of the key any more
    driver.fire("pause", "a")
    assert driver.all(Transact) == []
    assert driver.result(call) is PENDING


def test_a_key_that_is_busy_is_served_when_it_is_idle() -> None:
    driver = Driver().ready()
    call = driver.call("lock", "a", wait=None)
    driver.answer(driver.commit(), held())
    driver.call("release", "a")
    driver.answer(watch(driver), KeysRead((), 300))
    assert driver.all(Transact) == []
    driver.found(driver.one(ReadKey), None)
    driver.grant()
    assert driver.result(call).valid


def test_a_set_waits_at_the_first_key_that_was_refused() -> None:
    driver = Driver().ready()
    call = driver.call("lock_many", "b", "a", wait=None)
    driver.answer(driver.commit(), held(1))
    assert watch(driver).name == "svc/a/lock"
    driver.answer(watch(driver), KeysRead((), 300))
    driver.grant()
    assert [lease.id for lease in driver.result(call)] == ["b", "a"]


def test_without_a_cache_a_waiter_for_a_lost_lock_is_no_hot_loop() -> None:
    driver = Driver(strategy=None).ready()
    lease = driver.locked("a")
    call = driver.call("lock", "a", wait=None)
    driver.answer(driver.commit(), held())
    assert lease.live
    assert driver.all(Transact) == []
    driver.answer(watch(driver), KeysRead((), 300))
    driver.grant()
    assert driver.result(call).valid


def test_the_end_of_the_session_ends_watches_and_pauses() -> None:
    driver = Driver().ready()
    driver.call("lock", "a", wait=None)
    driver.answer(driver.commit(), held())
    driver.call("lock", "b", wait=None)
    driver.answer(driver.commit(), DELAYED)
    driver.call("reboot")
    assert watches(driver) == 0
    assert ("pause", "b") not in driver.timers
    driver.fire("retry")
    driver.ready("S2")
    assert len(driver.commit().operations) == 2
