"""Turn reads: which calls read in one request, what it reads, and what a failure means."""

from __future__ import annotations

from consul_locker.core.batch import MAX_OPS
from consul_locker.core.calls import LockMany
from consul_locker.core.fair_places import Contender, Move, Standing
from consul_locker.core.key import Slot
from consul_locker.core.requests import Operation, Transact, Verb
from consul_locker.core.turn_reads import packed, turn_read_of
from consul_locker.errors import ConsulUnavailable

from .fair import asked, fair
from .helpers import failure


def contender(*ids: str) -> Contender:
    """A call that waits for locks."""
    waits = Contender(LockMany(ids), tuple(Slot(id, f"svc/{id}/lock") for id in ids))
    waits.go(Move.READ)
    return waits


def test_as_many_calls_read_together_as_fit_into_a_transaction() -> None:
    small = [contender("a") for _ in range(MAX_OPS + 1)]
    assert packed(small) == [small[:MAX_OPS], small[MAX_OPS:]]
    large = contender(*map(str, range(MAX_OPS)))
    assert packed([large]) == [[large]]
    assert packed([small[0], large, small[1], small[2]]) == [[small[0]], [large], [small[1], small[2]]]
    assert packed([]) == []


def test_a_lock_that_several_want_is_read_once() -> None:
    part = [contender("a", "b"), contender("b", "c")]
    request = turn_read_of(part, 3, 10.0)
    assert request.operations == tuple(Operation(Verb.GET_TREE, f"svc/{id}/lock") for id in "abc")
    assert request.calls == tuple(one.call for one in part)
    assert (request.generation, request.timeout) == (3, 10.0)
    for one in part:
        assert one.turn_read is request
        assert one.standing is Standing.READING


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
    looks = [each for each in driver.all(Transact) if driver.purpose(each) == "turn"]
    assert [len(each.operations) for each in looks] == [1, 63]
