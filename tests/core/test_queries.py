"""Calls that neither lock nor release: questions, and what a transaction shows besides."""

from __future__ import annotations

from typing import Any

import pytest

from consul_locker.core.requests import (
    Committed,
    KeysRead,
    RawTransact,
    ReadKey,
    ReadSession,
    Refusal,
    Refused,
    RefusedWhole,
    RolledBack,
    SessionRead,
    Transact,
)
from consul_locker.errors import (
    AccessDenied,
    AlreadyLocked,
    ConsulUnavailable,
    InvalidLockId,
)

from .fair import place
from .helpers import PENDING, STRANGER, Driver, away, entry, failure, held, not_ours, session_info


def test_release_all_and_leave() -> None:
    driver = Driver()
    assert driver.result(driver.call("release_all")) == 0
    lock = driver.call("lock", "a")
    behind = driver.call("release_all")
    assert driver.result(behind) is PENDING
    driver.ready()
    driver.grant()
    assert driver.result(lock) is not PENDING
    while driver.result(behind) is PENDING:
        driver.grant()
    hold = driver.call("hold", "h")
    driver.grant()
    leave = driver.call("leave", [driver.result(hold)])
    driver.grant()
    assert driver.result(leave) == 1
    assert driver.result(driver.call("leave", [driver.result(hold)])) == 0


def test_questions_are_answered_in_every_state() -> None:
    driver = Driver()
    info, holder, nobody, none = (
        driver.call("info", "a"),
        driver.call("holder", "a"),
        driver.call("holder", "b"),
        driver.call("session_info", None),
    )
    assert driver.result(none) is None
    reads = driver.all(ReadKey)
    driver.answer(reads[0], KeysRead((entry("svc/a/lock", STRANGER, 7),), 7))
    assert (driver.result(info).session_id, driver.result(info).fence) == (STRANGER, 7)
    driver.answer(reads[1], KeysRead((entry("svc/a/lock", STRANGER, 7),), 7))
    assert driver.result(holder) is PENDING  # its session is read as well
    driver.answer(driver.one(ReadSession), SessionRead(session_info(STRANGER), 8))
    assert driver.result(holder).session.id == STRANGER
    driver.answer(reads[2], KeysRead((entry("svc/b/lock", None, 7),), 7))
    assert driver.result(nobody) is None
    missing = driver.call("info", "c")
    driver.answer(driver.one(ReadKey), KeysRead((), 7))
    assert driver.result(missing) is None
    session = driver.call("session_info", "S9")
    driver.answer(driver.one(ReadSession), SessionRead(session_info("S9"), 8))
    assert driver.result(session).id == "S9"
    failed = driver.call("info", "d")
    driver.answer(driver.one(ReadKey), failure())
    assert isinstance(driver.result(failed), ConsulUnavailable)


def test_the_waiters_of_a_lock_in_their_order() -> None:
    driver = Driver()
    queue = [place(STRANGER, 2, 9), place(None, 1, 4), place(STRANGER, 1, 7)]
    call = driver.call("waiters", "a")
    read = driver.one(RawTransact)
    assert read.operations == ({"KV": {"Verb": "get-tree", "Key": "svc/a/lock"}},)
    driver.answer(read, Committed((entry("svc/a/lock", STRANGER, 7), *queue)))
    assert [(one.id, one.key) for one in driver.result(call)] == [("a", queue[2].key), ("a", queue[0].key)]


@pytest.mark.parametrize(
    "outcome, error, words",
    [
        (failure(), ConsulUnavailable, "connection refused"),
        (RefusedWhole(400, "Invalid key in transaction: invalid key name"), InvalidLockId, "invalid key name"),
        (RolledBack((Refused(0, Refusal.DENIED, "Permission denied"),)), AccessDenied, "key:read"),
    ],
)
def test_waiters_that_cannot_be_read(outcome: Any, error: type[Exception], words: str) -> None:
    driver = Driver()
    call = driver.call("waiters", "1")
    driver.answer(driver.one(RawTransact), outcome)
    assert isinstance(driver.result(call), error)
    assert words in str(driver.result(call))


def test_waiters_are_asked_for_again_after_an_outage() -> None:
    driver = Driver()
    call = driver.call("waiters", "1")
    driver.answer(driver.one(RawTransact), away())
    assert driver.result(call) is PENDING
    driver.fire("ask", call)
    driver.answer(driver.one(RawTransact), Committed(()))
    assert driver.result(call) == []


def _refused(position: int, refusal: Refusal) -> RolledBack:
    return RolledBack((Refused(position, refusal, "words of Consul's"),))


def test_a_denied_call_with_a_name_for_its_holder() -> None:
    driver = Driver(identify_holder=True).ready()
    call = driver.call("lock", "a")
    driver.answer(driver.commit(), held())
    read = driver.one(Transact)
    assert driver.purpose(read) == "holder"
    driver.answer(read, Committed((entry("svc/a/lock", STRANGER, 7),)))
    error = driver.result(call)
    assert isinstance(error, AlreadyLocked)
    assert error.holder is not None and error.holder.session_id == STRANGER


def test_the_audit_and_what_it_looks_into() -> None:
    driver = Driver().ready()
    lease = driver.locked("a")
    unknown = driver.call("lock", "b")
    driver.answer(driver.commit(), failure("timed out"))
    assert isinstance(driver.result(unknown), ConsulUnavailable)
    driver.answer(driver.look(), not_ours(0))
    driver.fire("audit")
    audit = next(each for each in driver.all(Transact) if driver.purpose(each) == "audit")
    driver.answer(audit, _refused(0, Refusal.SESSION))
    verdict = next(each for each in driver.all(ReadKey) if driver.purpose(each) == "verdict")
    driver.found(verdict, STRANGER)
    driver.answer(driver.one(ReadSession), SessionRead(session_info("S1"), 8))
    assert lease.reason == "key taken over"


def test_pauses_at_a_key_in_its_lock_delay() -> None:
    driver = Driver().ready()
    call = driver.call("lock", "a", wait=5.0)
    driver.answer(driver.commit(), _refused(0, Refusal.LOCK_DELAY))
    driver.fire("pause", "a")
    driver.answer(driver.commit(), _refused(0, Refusal.LOCK_DELAY))
    driver.fire("wait", call)
    assert isinstance(driver.result(call), AlreadyLocked)
    assert driver.result(call).reason == "lock-delay"
