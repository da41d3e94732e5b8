"""Places in the queues of a fair Locker: taken, not taken, taken late, given back."""

from __future__ import annotations

from consul_locker.core.requests import (
    Committed,
    KeysRead,
    ReadKey,
    Refusal,
    Refused,
    RolledBack,
)
from consul_locker.errors import ConsulUnavailable, SessionEnded

from .fair import TAKEN, fair, look, waiting
from .helpers import PENDING, away, failure, held


def test_a_place_whose_end_is_unknown_is_looked_after() -> None:
    driver = fair()
    call, own = waiting(driver, TAKEN)
    driver.abandon(call)
    driver.answer(driver.commit(), failure())
    driver.answer(driver.look(), Committed(()))
    driver.answer(driver.one(ReadKey), KeysRead((own,), 320))
    assert driver.commit().operations[-1].key == own.key
    assert driver.emitted("lock_lost") == []


def test_a_place_that_may_come_late_is_asked_for_again_and_looked_after() -> None:
    driver = fair()
    call = driver.call("hold", "a", wait=None)
    look(driver, TAKEN)
    first = driver.commit()
    driver.answer(first, away())
    assert driver.result(call) == PENDING  # an outage does not end the wait
    driver.fire("pause")
    second = driver.commit()
    assert second.operations == first.operations
    driver.abandon(call)
    driver.answer(second, held())
    assert [op.key for op in driver.look().operations] == [first.operations[0].key]


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


def test_a_place_of_a_call_that_has_gone_could_not_be_taken() -> None:
    driver = fair()
    call = driver.call("hold", "a", wait=None)
    look(driver, TAKEN)
    driver.abandon(call)
    driver.answer(driver.commit(), failure(sent=False))
    assert driver.core.ledger.slots == {}


def test_an_outage_while_places_are_taken_for_a_call_that_has_gone() -> None:
    driver = fair()
    call = driver.call("hold", "a", wait=None)
    look(driver, TAKEN)
    taking = driver.commit()
    driver.abandon(call)
    driver.answer(taking, away())
    driver.fire("pause")
    assert [op.key for op in driver.look().operations] == [taking.operations[0].key]
