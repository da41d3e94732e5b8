"""The sweep: keys of our session that a restored snapshot brought back are found, in little pieces."""

from __future__ import annotations

from itertools import pairwise

import pytest

from consul_locker.core.messages import TimerFired
from consul_locker.core.requests import (
    Committed,
    KeysRead,
    NamesRead,
    ReadKey,
    ReadPrefix,
    ReadSession,
    Refusal,
    Refused,
    RolledBack,
    SessionRead,
    Transact,
    Verb,
    Watch,
)
from consul_locker.core.session_watch import WATCH_WAIT
from consul_locker.core.sweep import FIRST_PAUSE, LONGEST_PAUSE, REST, REST_EACH
from consul_locker.keys import place_key

from .helpers import STRANGER, Driver, entry, failure, not_ours, session_info

ALIVE = SessionRead(session_info("S1"), 50)
LONG = 86_400.0


def sweeping(**options: object) -> Driver:
    """A Locker that has the lock a, and whose watch on the session came back with nothing new."""
    driver = Driver(**{"ttl": LONG, **options}).ready()
    driver.locked("a")
    driver.answer(driver.one(Watch), ALIVE)
    driver.answer(driver.one(Watch), ALIVE)
    return driver


def listed(driver: Driver, *ids: str) -> None:
    """The names of all keys are read: the locks of these ids."""
    driver.answer(driver.one(ReadPrefix), NamesRead(tuple(f"svc/{id}/lock" for id in ids)))


def checks(driver: Driver) -> list[Transact]:
    return [each for each in driver.all(Transact) if driver.purpose(each) == "sweep"]


def check(driver: Driver) -> Transact:
    """The only transaction of the sweep under way."""
    (request,) = checks(driver)
    assert request.consistent
    return request


def next_audit(driver: Driver) -> None:
    """The next audit is due, and sent; Consul answers that all is well."""
    driver.fire("audit")
    for request in [each for each in driver.all(Transact) if driver.purpose(each) == "audit"]:
        driver.answer(request, Committed(()))


def test_a_sweep_audits_what_is_held_at_once() -> None:
    driver = sweeping()
    (request,) = (each for each in driver.all(Transact) if driver.purpose(each) == "audit")
    assert {op.key for op in request.operations} == {"svc/a/lock"}


def test_a_sweep_checks_what_is_not_held_and_gives_back_what_nobody_knows_of() -> None:
    driver = sweeping()
    assert driver.one(ReadPrefix).prefix == "svc/"
    driver.answer(driver.one(ReadPrefix), NamesRead(("svc/a/lock", "svc/b/lock", "svc/c/lock", "svc/x")))
    request = check(driver)
    assert [(op.verb, op.key, op.session) for op in request.operations] == [
        (Verb.CHECK_SESSION, "svc/b/lock", "S1"),
        (Verb.CHECK_SESSION, "svc/c/lock", "S1"),
    ]
    driver.answer(request, not_ours(1))
    driver.found(driver.one(ReadKey), "S1", 40)
    assert [(op.verb, op.key, op.index) for op in driver.commit().operations] == [
        (Verb.CHECK_INDEX, "svc/b/lock", 40),
        (Verb.UNLOCK, "svc/b/lock", None),
    ]
    driver.grant()
    assert driver.all(ReadKey) == []
    assert checks(driver) == []
    assert driver.core.ledger.slots == {}


def test_of_the_places_in_queues_only_those_of_the_session_are_checked() -> None:
    driver = sweeping()
    own, other = place_key("svc/a/lock", "S1", 5), place_key("svc/a/lock", STRANGER, 6)
    driver.answer(driver.one(ReadPrefix), NamesRead((own, other, "svc/a/S1.5", "svc/S1.5")))
    assert [op.key for op in check(driver).operations] == [own]


def test_a_place_in_a_queue_of_no_lock_is_left_alone() -> None:
    driver = sweeping()
    driver.answer(driver.one(ReadPrefix), NamesRead((place_key("svc/lock", "S1", 5),)))
    driver.answer(check(driver), Committed(()))
    assert driver.all(ReadKey) == []


def test_many_keys_are_checked_in_small_transactions_one_after_another() -> None:
    driver = sweeping()
    listed(driver, *map(str, range(150)))
    sizes = []
    while checks(driver):
        request = check(driver)
        sizes.append(len(request.operations))
        driver.answer(request, not_ours(*range(len(request.operations))))
    assert sizes == [64, 64, 22]
    assert driver.core.ledger.slots == {}


def test_an_empty_list_proves_nothing() -> None:
    """An ACL makes hidden keys look like none."""
    driver = sweeping()
    lease = driver.core.ledger.leases["a"]
    driver.answer(driver.one(ReadPrefix), NamesRead(()))
    assert checks(driver) == []
    assert driver.all(ReadKey) == []
    assert lease.valid


def test_a_key_with_an_operation_under_way_is_looked_into_afterwards() -> None:
    driver = sweeping()
    driver.call("lock", "b")
    listed(driver, "b")
    driver.answer(check(driver), Committed(()))
    assert driver.all(ReadKey) == []
    driver.answer(driver.commit(), failure(sent=False))
    assert [op.key for op in driver.look().operations] == ["svc/b/lock"]


def test_a_key_that_was_granted_meanwhile_is_no_surprise() -> None:
    driver = sweeping()
    listed(driver, "b")
    driver.locked("b")
    driver.answer(check(driver), Committed(()))
    assert driver.all(ReadKey) == []
    assert driver.core.ledger.slots == {}


# ----------------------------------------------------------------------------------------- what goes wrong


def test_a_list_that_fails_is_asked_for_again_after_growing_pauses() -> None:
    driver = sweeping()
    asked = []
    for _ in range(14):
        asked.append(driver.now)
        driver.answer(driver.one(ReadPrefix), failure())
        while not driver.all(ReadPrefix):
            next_audit(driver)
    pauses = [after - before for before, after in pairwise(asked)]
    assert pauses[0] == 60.0  # the next audit
    assert pauses[-1] >= LONGEST_PAUSE > pauses[0]
    assert pauses == sorted(pauses)
    assert driver.logged().count("cannot be listed") == 1
    listed(driver)
    next_audit(driver)
    assert driver.all(ReadPrefix) == []


def test_a_check_that_fails_is_repeated_after_a_pause_and_the_sweep_goes_on() -> None:
    driver = sweeping(ttl=15.0)
    listed(driver, *map(str, range(100)))
    first = check(driver)
    driver.answer(first, failure())
    assert checks(driver) == []
    next_audit(driver)
    second = check(driver)
    assert second.operations == first.operations
    driver.answer(second, not_ours(*range(64)))
    assert len(check(driver).operations) == 36


def test_pauses_grow_while_checks_fail_and_no_longer() -> None:
    driver = sweeping()
    listed(driver, *map(str, range(100)))
    for _ in range(3):
        driver.answer(check(driver), failure())
        assert driver.core.audit._sweep._not_before >= driver.now + FIRST_PAUSE
        next_audit(driver)
    assert driver.core.audit._sweep._failures == 3
    driver.answer(check(driver), not_ours(*range(64)))
    assert driver.core.audit._sweep._failures == 0


def test_keys_that_may_not_be_read_are_left_out() -> None:
    driver = sweeping()
    listed(driver, "b", "c", "d")
    driver.answer(check(driver), RolledBack((Refused(1, Refusal.DENIED, "Permission denied"),)))
    assert [op.key for op in check(driver).operations] == ["svc/b/lock", "svc/d/lock"]
    denied = tuple(Refused(place, Refusal.DENIED, "Permission denied") for place in (0, 1))
    driver.answer(check(driver), RolledBack(denied))
    assert checks(driver) == []


def test_a_refusal_without_a_reason_is_a_failure() -> None:
    driver = sweeping()
    listed(driver, "b")
    driver.answer(check(driver), RolledBack(()))
    assert checks(driver) == []
    next_audit(driver)
    assert [op.key for op in check(driver).operations] == ["svc/b/lock"]


def test_answers_that_come_twice_change_nothing() -> None:
    driver = sweeping()
    names = driver.one(ReadPrefix)
    listed(driver, *map(str, range(100)))
    assert driver.answer(names, NamesRead(("svc/b/lock",))) == []
    first = check(driver)
    driver.answer(first, not_ours(*range(64)))
    assert driver.answer(first, not_ours(*range(64))) == []
    assert len(checks(driver)) == 1


# ------------------------------------------------------------------------------- never two, and not too often


def again(driver: Driver) -> None:
    """Something asks for a sweep once more."""
    driver.core.audit.sweep()
    driver._take()


def test_there_are_never_two_sweeps_at_a_time() -> None:
    driver = sweeping(ttl=15.0)
    again(driver)
    assert len(driver.all(ReadPrefix)) == 1
    listed(driver, *map(str, range(100)))
    again(driver)
    assert driver.all(ReadPrefix) == []
    assert len(checks(driver)) == 1
    driver.answer(check(driver), not_ours(*range(64)))
    driver.answer(check(driver), not_ours(*range(36)))
    assert driver.all(ReadPrefix) == []
    next_audit(driver)
    assert len(driver.all(ReadPrefix)) == 1  # what asked may mean what the first had passed already


def test_after_a_sweep_there_is_a_rest_whatever_asks() -> None:
    driver = sweeping(ttl=LONG)
    listed(driver)
    for _ in range(100):
        again(driver)
        assert driver.all(ReadPrefix) == []
    driver.step(TimerFired(("nothing",)), driver.now + REST)
    again(driver)
    assert len(driver.all(ReadPrefix)) == 1


def test_the_larger_the_name_the_longer_the_rest() -> None:
    driver = sweeping(ttl=LONG)
    listed(driver, *map(str, range(64 * 100)))
    while checks(driver):
        driver.answer(check(driver), not_ours(*range(len(check(driver).operations))))
    driver.step(TimerFired(("nothing",)), driver.now + 100 * REST_EACH)
    again(driver)
    assert driver.all(ReadPrefix) == []
    driver.step(TimerFired(("nothing",)), driver.now + REST_EACH)
    again(driver)
    assert len(driver.all(ReadPrefix)) == 1


def test_a_new_session_has_nothing_to_sweep() -> None:
    driver = sweeping(ttl=15.0)
    listed(driver, "b")
    driver.answer(driver.one(Watch), SessionRead(None, 51))
    driver.answer(driver.one(ReadSession), SessionRead(None, 51))
    driver.gone()
    late = checks(driver)
    driver.ready("S2")
    for request in late:
        assert driver.answer(request, Committed(())) == []
    next_audit(driver)
    assert driver.all(ReadPrefix) == []


# -------------------------------------------------------------------------------------- what asks for a sweep


def test_an_index_of_a_grant_that_falls_is_followed_by_a_sweep() -> None:
    driver = Driver().ready()
    driver.locked("a")
    driver._index = 10
    driver.locked("b")
    assert len(driver.all(ReadPrefix)) == 1
    driver.locked("c")
    assert len(driver.all(ReadPrefix)) == 1


def test_a_session_that_is_back_again_is_followed_by_a_sweep() -> None:
    driver = Driver().ready()
    driver.answer(driver.one(Watch), SessionRead(None, 50))
    driver.answer(driver.one(ReadSession), ALIVE)
    assert len(driver.all(ReadPrefix)) == 1


def test_an_index_of_the_session_that_falls_is_followed_by_a_sweep_however_late() -> None:
    driver = Driver(ttl=LONG).ready()
    driver.answer(driver.one(Watch), ALIVE)
    driver.answer(driver.one(Watch), SessionRead(session_info("S1"), 49), driver.now + WATCH_WAIT)
    assert len(driver.all(ReadPrefix)) == 1
    assert driver.one(Watch).index == 0


@pytest.mark.parametrize("late", [0.0, WATCH_WAIT / 16])
def test_a_watch_that_was_idle_is_followed_by_nothing_but_the_next(late: float) -> None:
    driver = Driver(ttl=LONG).ready()
    driver.answer(driver.one(Watch), ALIVE)
    for _ in range(3):
        driver.answer(driver.one(Watch), ALIVE, driver.now + WATCH_WAIT + late)
        assert driver.all(ReadPrefix) == []
        assert driver.one(Watch).index == 50


def test_a_key_that_a_sweep_finds_is_read_before_it_is_given_back() -> None:
    driver = sweeping()
    listed(driver, "b")
    driver.answer(check(driver), Committed(()))
    driver.answer(driver.one(ReadKey), KeysRead((entry("svc/b/lock", STRANGER, 60),), 60))
    assert [each for each in driver.all(Transact) if driver.purpose(each) == "commit"] == []
    assert driver.core.ledger.slots == {}
