"""Whether a session is gone: two witnesses must say so, and every way in which one of them lies loses nothing."""

from __future__ import annotations

import itertools

import pytest

from consul_locker.core.gone import Evidence, Inquiry, Sign
from consul_locker.core.requests import (
    DestroySession,
    Gone,
    Outcome,
    ReadKey,
    ReadPrefix,
    ReadSession,
    Refusal,
    Refused,
    Renewed,
    RenewSession,
    RolledBack,
    SessionRead,
    Transact,
    Watch,
)
from consul_locker.core.session import READ_EVERY, TRUST_AFTER_READ
from consul_locker.core.session_watch import WATCH_PAUSE, WATCH_PAUSE_MAX
from consul_locker.errors import AccessDenied

from .helpers import STRANGER, Driver, failure, session_info

TTL = 15.0
NOTHING = SessionRead(None, 42)
ALIVE = SessionRead(session_info("S1"), 42)
#: What a renewal is answered that says nothing.
UNKNOWN = (failure("500"), failure("timed out"), failure(str(AccessDenied("renew", 403, "Permission denied"))))


# --------------------------------------------------------------------------------------------- the inquiry alone


@pytest.mark.parametrize("first", Sign)
def test_it_is_proven_by_a_404_and_a_read_after_it_and_nothing_else(first: Sign) -> None:
    for signs in itertools.product(Sign, repeat=4):
        inquiry, refused = Inquiry(), False
        for sign in (first, *signs):
            doubt = inquiry.hear(sign)
            assert (doubt is Evidence.PROVEN) == (refused and sign is Sign.READ_EMPTY)
            if doubt is Evidence.PROVEN:
                break  # the session is given up
            if sign in (Sign.LIVES, Sign.RENEWAL_404, Sign.RENEWAL_SILENT):
                refused = sign is Sign.RENEWAL_404  # what the last renewal said


# ------------------------------------------------------------------------------------------ a renewal's 404


def test_a_404_of_a_server_that_has_just_started_loses_nothing() -> None:
    driver = Driver().ready()
    lease = driver.locked("a")
    driver.fire("renew")
    deadline = driver.timers[("deadline",)]
    driver.answer(driver.one(RenewSession), Gone())
    assert (lease.valid, driver.timers[("deadline",)]) == (True, deadline)
    read = driver.one(ReadSession)
    driver.fire("renew", "again")  # renewals go on meanwhile
    driver.answer(driver.one(RenewSession), Gone())
    assert driver.one(ReadSession) is read  # it is asked once
    driver.answer(read, ALIVE)
    driver.fire("renew", "again")
    driver.answer(driver.one(RenewSession), Renewed(TTL))
    assert driver.core.state == "ready" and lease.valid
    assert driver.timers[("deadline",)] == driver.now + TTL
    assert driver.emitted("lock_lost", "session_ended") == []
    assert driver.all(DestroySession) == []


def test_a_read_that_fails_is_asked_again_with_the_next_404() -> None:
    driver = Driver().ready()
    driver.fire("renew")
    driver.answer(driver.one(RenewSession), Gone())
    driver.answer(driver.one(ReadSession), failure("500"))
    assert driver.core.state == "ready" and driver.all(ReadSession) == []
    driver.fire("renew", "again")
    driver.gone()
    assert driver.core.state == "acquiring"


def test_the_deadline_does_not_wait_for_the_read() -> None:
    driver = Driver().ready()
    lease = driver.locked("a")
    driver.fire("renew")
    driver.answer(driver.one(RenewSession), Gone())
    driver.fire("deadline")
    assert lease.reason == "deadline passed"
    driver.answer(driver.one(ReadSession), NOTHING)  # of a session that is over
    assert driver.core.state == "acquiring"


# ------------------------------------------------------------------------------------- reads that find nothing


def _watch_finds_nothing(driver: Driver) -> None:
    if not driver.all(Watch):
        driver.fire("watch", "session")
    driver.answer(driver.one(Watch), NOTHING)
    driver.answer(driver.one(ReadSession), NOTHING)


@pytest.mark.parametrize("renewal", UNKNOWN)
def test_filtered_reads_lose_nothing(renewal: Outcome) -> None:
    """A policy is narrowed for seconds: reads are empty, consistent ones too, and renewals refused."""
    driver = Driver().ready()
    lease = driver.locked("a")
    for _ in range(4):
        _watch_finds_nothing(driver)
        for request in driver.all(RenewSession):
            driver.answer(request, renewal)
        assert driver.core.state == "ready"
    driver.fire("renew", "again")
    driver.answer(driver.one(RenewSession), Renewed(TTL))  # the policy is mended
    driver.fire("watch", "session")
    driver.answer(driver.one(Watch), ALIVE)
    assert lease.valid and driver.emitted("lock_lost") == []
    driver.fire("renew")  # nothing of it is left: a single 404 is one witness again
    driver.answer(driver.one(RenewSession), Gone())
    assert lease.valid


def test_a_renewal_is_asked_at_once_when_a_read_finds_nothing() -> None:
    driver = Driver().ready()
    _watch_finds_nothing(driver)
    assert driver.timers[("renew",)] > driver.now
    driver.gone()
    assert driver.core.state == "acquiring"
    assert driver.one(DestroySession).session_id == "S1"


def test_a_404_of_before_counts_no_more_after_a_renewal_that_says_nothing() -> None:
    driver = Driver().ready()
    driver.fire("renew")
    driver.answer(driver.one(RenewSession), Gone())
    read = driver.one(ReadSession)
    driver.fire("renew", "again")
    driver.answer(driver.one(RenewSession), failure("403"))
    driver.answer(read, NOTHING)
    assert driver.core.state == "ready"
    driver.gone()
    assert driver.core.state == "acquiring"


def test_without_a_ttl_filtered_reads_alone_end_nothing() -> None:
    driver = Driver(ttl=None).ready()
    lease = driver.locked("a")
    for _ in range(5):
        driver.fire("renew")
        driver.answer(driver.one(ReadSession), NOTHING)
        request = driver.one(RenewSession)
        assert request.timeout == min(10.0, TRUST_AFTER_READ / 6)
        driver.answer(request, Renewed(None))  # which is as good as a read that finds it
        assert driver.timers[("deadline",)] == driver.now + TRUST_AFTER_READ
        assert driver.timers[("renew",)] == driver.now + READ_EVERY
    assert lease.valid and driver.core.state == "ready"


def test_without_a_ttl_a_renewal_that_says_nothing_is_asked_again() -> None:
    driver = Driver(ttl=None).ready()
    driver.fire("renew")
    driver.answer(driver.one(ReadSession), NOTHING)
    driver.answer(driver.one(RenewSession), failure("403"))
    driver.fire("renew", "again")
    driver.gone()
    assert driver.core.state == "acquiring"


def test_an_audit_that_finds_the_key_with_others_asks_both_for_the_session() -> None:
    driver = Driver().ready()
    lease = driver.locked("a")
    driver.fire("audit")
    refused = RolledBack((Refused(0, Refusal.SESSION, "failed session check"),))
    driver.answer(next(each for each in driver.all(Transact) if driver.purpose(each) == "audit"), refused)
    driver.found(driver.one(ReadKey), STRANGER)
    driver.answer(driver.one(ReadSession), NOTHING)
    assert lease.valid
    driver.answer(driver.one(RenewSession), Renewed(TTL))
    assert lease.valid  # the next audit asks again
    driver.fire("audit")
    driver.answer(next(each for each in driver.all(Transact) if driver.purpose(each) == "audit"), refused)
    driver.found(driver.one(ReadKey), STRANGER)
    driver.answer(driver.one(ReadSession), ALIVE)
    assert lease.reason == "key taken over"


def test_an_invalid_session_of_a_transaction_is_proof() -> None:
    """A transaction that locks goes through the log: what it says is true of the whole state at its place there."""
    driver = Driver().ready()
    driver.call("lock", "a")
    driver.answer(driver.commit(), RolledBack((Refused(0, Refusal.INVALID_SESSION, "invalid session"),)))
    assert driver.core.state == "acquiring"
    assert driver.emitted("session_ended") == [("session_ended", "session destroyed")]
    assert driver.one(DestroySession).session_id == "S1"


# ------------------------------------------------------------------------------------- the floor under watches


def test_watches_that_are_answered_at_once_make_pauses_that_grow() -> None:
    """An intermediary that ignores the index answers each of them at once: 740 a second were measured."""
    driver = Driver(random=0.0).ready()
    began, count, pauses = driver.now, 0, []
    while driver.now < began + 60.0:
        if not driver.all(Watch):
            pauses.append(driver.timers[("watch", "session")] - driver.now)
            driver.fire("watch", "session")
        driver.answer(driver.one(Watch), ALIVE, now=driver.now + 0.001)
        driver.timers[("deadline",)] = driver.core.session.current.deadline = driver.now + 1000.0
        count += 1
    assert pauses[:5] == pytest.approx([pause / 2 for pause in (WATCH_PAUSE, 1.0, 2.0, 4.0, WATCH_PAUSE_MAX)])
    assert max(pauses) == pytest.approx(WATCH_PAUSE_MAX / 2)
    assert count <= 60.0 / (WATCH_PAUSE_MAX / 2) + 6


def test_a_watch_that_lasted_sets_the_pauses_back() -> None:
    driver = Driver().ready()
    for _ in range(3):
        driver.answer(driver.one(Watch), ALIVE)
    driver.fire("watch", "session")
    driver.answer(driver.one(Watch), SessionRead(ALIVE.session, 43), now=driver.now + 2.0)
    assert driver.one(Watch).index == 43
    driver.answer(driver.one(Watch), ALIVE)
    assert driver.one(Watch).index == 0


def test_a_session_that_was_not_found_and_lives_may_have_been_brought_back_by_a_snapshot() -> None:
    """Whoever says that it lives again: the locks that came back with it are looked for."""
    driver = Driver().ready()
    _watch_finds_nothing(driver)
    driver.answer(driver.one(RenewSession), Renewed(TTL))
    assert driver.all(ReadPrefix) == []
    driver.fire("watch", "session")
    driver.answer(driver.one(Watch), ALIVE)
    assert len(driver.all(ReadPrefix)) == 1
