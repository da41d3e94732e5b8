"""One key, and the works that are wanted of it."""

from __future__ import annotations

from typing import Any

import pytest

from consul_locker.core.calls import Lock
from consul_locker.core.key import CHANGES, KeyNews, KeyState, Progress, Stage
from consul_locker.core.ledger import Ledger
from consul_locker.lease import BaseLease, SessionLife

from .works import want_lock, want_release


def make() -> Ledger:
    return Ledger("svc")


def lease(id: str = "a") -> BaseLease:
    return BaseLease(id, SessionLife(1, "S1", 10.0, "svc", lambda: 0.0), 7, 0.0, False)


@pytest.mark.parametrize(
    ("change", "state"),
    [
        (lambda ledger, slot: None, KeyState.FREE),
        (lambda ledger, slot: want_lock(ledger, slot), KeyState.ACQUIRING),
        (lambda ledger, slot: want_release(ledger, slot), KeyState.RELEASING),
        (lambda ledger, slot: ledger.grant(slot, lease()), KeyState.HELD),
        (lambda ledger, slot: slot.doubt(1, 1), KeyState.UNKNOWN),
        (lambda ledger, slot: setattr(slot, "leftover", True), KeyState.UNKNOWN),
    ],
)
def test_a_slot_that_says_something_is_kept(change: Any, state: KeyState) -> None:
    ledger = make()
    slot = ledger.slot("a")
    change(ledger, slot)
    assert slot.state is state
    ledger.tidy(slot)
    assert ("a" in ledger.slots) == (state is not KeyState.FREE)


def test_an_idle_slot_has_no_collections_of_its_own() -> None:
    ledger = make()
    slot, other = ledger.slot("a"), ledger.slot("b")
    first, second = Lock(("a",)), Lock(("a",))
    first.order, second.order = 1, 2
    for call in (second, first):
        slot.add_waiter(call)
    assert slot.waiters == [first, second]
    work = want_lock(ledger, slot)
    slot.doubt(1, 1)
    slot.doubt(1, 2)
    slot.doubt(2, 1)
    assert slot.doubts == {1: 3, 2: 1}
    slot.saw(b'{"tenure":2}')
    assert slot.doubts == {1: 3}
    for call in (first, second):
        slot.remove_waiter(call)
    ledger.finish(work)
    slot.forget_doubts()
    for name in ("works", "waiters", "doubts"):
        assert not getattr(slot, name)
        assert getattr(slot, name) is getattr(other, name)


def test_only_calls_that_want_an_answer_are_live() -> None:
    ledger = make()
    call, gone = Lock(("a",)), Lock(("a",))
    gone.settled = True
    assert want_lock(ledger, ledger.slot("a"), calls=[call, gone]).live() == [call]


def test_a_work_is_started_sent_and_perhaps_sent_again() -> None:
    ledger = make()
    work = want_lock(ledger, ledger.slot("a"))
    stages = [work.stage]
    for progress in (Progress.FIRST, Progress.PACKED, Progress.AGAIN, Progress.PACKED):
        work.go_on(progress)
        stages.append(work.stage)
    assert stages == [Stage.IN_LINE, Stage.WANTED, Stage.SENT, Stage.WANTED, Stage.SENT]


@pytest.mark.parametrize("progress", [Progress.PACKED, Progress.AGAIN])
def test_what_cannot_happen_to_a_work_is_an_error(progress: Progress) -> None:
    ledger = make()
    with pytest.raises(KeyError):
        want_lock(ledger, ledger.slot("a")).go_on(progress)


def test_a_lease_comes_only_from_an_acquire() -> None:
    assert [pair for pair, then in CHANGES.items() if then is KeyState.HELD] == [(KeyState.ACQUIRING, KeyNews.GRANTED)]
