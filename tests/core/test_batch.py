"""Group commit: what goes together, and what an answer means for each."""

from __future__ import annotations

from consul_locker.core.batch import MAX_BYTES, Batch
from consul_locker.core.key import LockWork, Progress
from consul_locker.core.ledger import Ledger
from consul_locker.core.requests import Operation, Refusal, Refused, RefusedWhole, RolledBack, Transact, Verb

from .helpers import Driver, failure, held
from .works import want_lock, want_release


class Wanted:
    """A batch and works for it."""

    def __init__(self, max_ops: int = 64, max_in_flight: int | None = 1) -> None:
        self.ledger = Ledger("svc")
        self.batch = Batch(max_ops, max_in_flight)

    def lock(self, *ids: str, value: str = '{"tenure":') -> LockWork:
        work = want_lock(self.ledger, *map(self.ledger.slot, ids))
        work.go_on(Progress.FIRST)
        work.tenures = self.ledger.tenures_of(work)
        self.batch.want(work, Batch.locking(work, "S1", value, 0))
        return work

    def pack(self) -> Transact | None:
        return self.batch.pack(1, 10.0)


def keys(request: Transact | None) -> list[str]:
    assert request is not None
    return [op.key.split("/")[1] for op in request.operations]


def test_what_is_wanted_meanwhile_goes_together() -> None:
    wanted = Wanted()
    wanted.lock("a")
    first = wanted.pack()
    assert keys(first) == ["a"]
    wanted.lock("b")
    wanted.lock("c")
    assert wanted.pack() is None  # one in flight is enough
    assert first is not None
    assert wanted.batch.take(first) is not None
    assert keys(wanted.pack()) == ["b", "c"]
    assert wanted.pack() is None


def test_without_a_limit_many_are_in_flight() -> None:
    wanted = Wanted(max_in_flight=None)
    for id in "abc":
        wanted.lock(id)
        assert keys(wanted.pack()) == [id]


def test_a_transaction_has_at_most_so_many_operations() -> None:
    wanted = Wanted(max_ops=3, max_in_flight=None)
    for id in "abcde":
        wanted.lock(id)
    assert [keys(wanted.pack()), keys(wanted.pack())] == [["a", "b", "c"], ["d", "e"]]


def test_a_transaction_has_at_most_so_many_bytes() -> None:
    wanted = Wanted(max_in_flight=None)
    for id in "abc":
        wanted.lock(id, value="x" * (MAX_BYTES // 3))
    assert [keys(wanted.pack()), keys(wanted.pack())] == [["a", "b"], ["c"]]


def test_a_set_is_alone() -> None:
    wanted = Wanted(max_in_flight=None)
    wanted.lock("a")
    wanted.lock("b", "c")
    wanted.lock("d")
    assert [keys(wanted.pack()) for _ in range(3)] == [["a"], ["b", "c"], ["d"]]


def test_what_was_not_sent_can_be_taken_back() -> None:
    wanted = Wanted()
    a, b = wanted.lock("a"), wanted.lock("b")
    assert wanted.batch.unwant(b)
    assert not wanted.batch.unwant(b)
    request = wanted.pack()
    assert keys(request) == ["a"]
    assert not wanted.batch.unwant(a)
    wanted.lock("c")
    wanted.batch.clear()
    assert wanted.pack() is None


def test_losers_come_out_and_the_rest_goes_again_first() -> None:
    wanted = Wanted()
    works = [wanted.lock(id) for id in "abcdef"]
    for loser in works[:2]:
        request = wanted.pack()
        assert request is not None
        items = wanted.batch.take(request)
        losers = wanted.batch.rolled_back(items, held(0))
        assert [work for work, _ in losers] == [loser]
    # After two rounds the four that are left go in halves.
    halves = wanted.pack()
    assert keys(halves) == ["c", "d"]
    assert halves is not None
    wanted.batch.take(halves)
    assert keys(wanted.pack()) == ["e", "f"]


def test_too_large_goes_in_halves_and_a_single_one_fails() -> None:
    driver = Driver().ready()
    driver.call("lock", "0")
    calls = [driver.call("lock", id) for id in "abcd"]
    driver.grant()
    driver.answer(driver.commit(), RefusedWhole(413, ""))
    assert len(driver.commit().operations) == 2
    driver.grant()
    driver.answer(driver.commit(), RefusedWhole(413, ""))
    driver.answer(driver.commit(), RefusedWhole(413, ""))
    assert "413" in str(driver.result(calls[2]))
    driver.grant()
    assert [driver.result(call).id for call in (calls[0], calls[1], calls[3])] == ["a", "b", "d"]


def test_the_operations_of_a_release_are_guarded_by_the_index() -> None:
    ledger = Ledger("svc")
    work = want_release(ledger, ledger.slot("a"))
    work.index = 7
    assert Batch.releasing(work, "S1", 3, False) == [
        Operation(Verb.CHECK_INDEX, "svc/a/lock", index=7),
        Operation(Verb.UNLOCK, "svc/a/lock", b"", 3, "S1"),
    ]
    assert Batch.releasing(work, "S1", 3, True) == [
        Operation(Verb.CHECK_SESSION, "svc/a/lock", session="S1"),
        Operation(Verb.DELETE_CAS, "svc/a/lock", index=7),
    ]


def test_a_set_checks_what_is_held_and_locks_the_rest() -> None:
    driver = Driver().ready()
    lease = driver.locked("a")
    call = driver.call("lock_many", "a", "b")
    assert [(op.verb, op.key) for op in driver.commit().operations] == [
        (Verb.CHECK_INDEX, "svc/a/lock"),
        (Verb.LOCK, "svc/b/lock"),
    ]
    driver.grant()
    assert driver.result(call)[0] is lease
    assert driver.result(call)[1].id == "b"


def test_answers_of_an_older_transaction_mean_nothing() -> None:
    driver = Driver().ready()
    driver.call("lock", "a")
    request = driver.commit()
    driver.grant()
    assert driver.answer(request, failure()) == []


def test_a_refusal_without_a_reason_is_an_unknown_outcome() -> None:
    driver = Driver().ready()
    call = driver.call("lock", "a")
    driver.answer(driver.commit(), RolledBack(()))
    assert "without a reason" in str(driver.result(call))
    assert driver.core.ledger.slots["a"].doubts == {1: 1}


def test_an_invalid_session_is_a_lost_one() -> None:
    driver = Driver().ready()
    call = driver.call("lock", "a")
    driver.answer(driver.commit(), RolledBack((Refused(0, Refusal.INVALID_SESSION, 'invalid session "S1"'),)))
    assert driver.core.state == "acquiring"
    driver.ready("S2")
    driver.grant()
    assert driver.result(call).session_id == "S2"


def test_each_of_two_in_flight_has_half_of_what_is_wanted() -> None:
    """Else one of them would have a single lock for ever: who gets it comes alone, and the others come together."""
    wanted = Wanted(max_in_flight=2)
    for number in range(20):
        wanted.lock(str(number))
    first, second = wanted.pack(), wanted.pack()
    assert [len(keys(first)), len(keys(second))] == [10, 10]
    for number in range(20, 26):
        wanted.lock(str(number))
    assert second is not None
    wanted.batch.take(second)
    third = wanted.pack()
    assert len(keys(third)) == 6  # of 16 all in all a half would be 8


def test_a_few_go_together_whatever_their_share() -> None:
    wanted = Wanted(max_in_flight=2)
    for id in "abcd":
        wanted.lock(id)
    assert keys(wanted.pack()) == ["a", "b", "c", "d"]
