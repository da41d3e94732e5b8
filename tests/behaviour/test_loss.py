"""Rule 2: loss is noticed, and nothing else is taken for it."""

from __future__ import annotations

from typing import Any

import pytest

from consul_locker import LockLost
from consul_locker.runtime.watches import OWN_SESSION_WATCHES

from .tools import WAIT, Consul, Ear, Gate, until

#: A destroyed session is told by the watch on it, long before the next renewal (5 s) would find out.
BEFORE_THE_RENEWAL = 4.0


def test_a_destroyed_session(locker: Any, consul: Consul, ear: Ear) -> None:
    leases = [locker.lock("a"), locker.lock("b")]
    session = locker.session_id
    consul.destroy(session)
    assert leases[0].wait_lost(BEFORE_THE_RENEWAL) == "session destroyed"
    for lease in leases:
        assert not lease.valid
        with pytest.raises(LockLost):
            lease.check()
    assert ear.wait("session_ended") == {"session_id": session, "reason": "session destroyed"}
    assert [facts["lease"].id for facts in ear.of("lock_lost")] == ["a", "b"]
    assert locker.wait_for_state("ready", WAIT)
    assert locker.session_id != session
    assert not locker.held  # nothing lost is taken again in silence
    assert locker.lock("a").fence > leases[0].fence


def test_the_sessions_of_many_lockers_are_watched_together(
    face: Any, gate: Gate, consul: Consul, name: str, ear: Ear
) -> None:
    """Their renewals are due in hours: it is the watch that tells each of its own session, and of no other."""
    with face.factory(gate.address) as factory:
        lockers = [factory.create(name, ttl=86_400) for _ in range(20)]
        leases = [locker.lock(number) for number, locker in enumerate(lockers)]
        # While sessions are created each watch comes back at once: Consul counts them all with one index (measured).
        until(lambda: gate.under_way("GET /v1/session/info/") == OWN_SESSION_WATCHES)
        until(lambda: gate.under_way("GET /v1/session/node/") == 1)  # there is a floor under how often it is asked
        for lease in leases[::2]:
            consul.destroy(lease.session_id)
        for lease in leases[::2]:
            assert lease.wait_lost(WAIT) == "session destroyed"
        assert all(lease.valid for lease in leases[1::2])
        for locker in lockers[::2]:
            assert locker.wait_for_state("ready", WAIT)
        again = [locker.lock(number) for number, locker in enumerate(lockers)]
        assert again[1::2] == leases[1::2]
        for lease in again:  # those who were told, and those who were not, are watched as before
            consul.destroy(lease.session_id)
            assert lease.wait_lost(WAIT) == "session destroyed"
    assert [facts["reason"] for facts in ear.of("lock_lost")].count("session destroyed") == 30


def test_keys_lost_are_found_within_one_renewal_period(factory: Any, consul: Consul, name: str, ear: Ear) -> None:
    locker = factory.create(name, ttl=10)
    deleted, overwritten, kept = locker.lock("deleted"), locker.lock("overwritten"), locker.lock("kept")
    consul.delete(deleted.key)
    consul.put(overwritten.key, "a stranger was here")
    assert deleted.wait_lost(WAIT)
    assert overwritten.wait_lost(WAIT)
    assert deleted.wait_lost() == deleted.reason
    assert not deleted.valid
    assert not overwritten.valid
    assert kept.valid
    ear.wait("lock_lost", 2)
    assert {facts["id"] for facts in ear.of("lock_lost")} == {"deleted", "overwritten"}
    assert "session_ended" not in ear.names()
    assert set(locker.held) == {"kept"}
    assert kept.session_id == locker.session_id
    assert locker.lock("deleted").fence > deleted.fence
    # The whole took less than two periods: the audit of the first one found both.
    assert locker.stats()["renewals"] <= 2


def test_waiting_for_the_end_of_a_lease(locker: Any) -> None:
    lease = locker.lock("a")
    assert lease.wait_lost(0.01) is None
    assert "valid" in repr(lease)
    locker.release("a")
    assert "released" in repr(lease)


def test_a_waiting_caller_goes_on_with_the_next_session(locker: Any, rival: Any, consul: Consul) -> None:
    lease = locker.lock("a")
    assert rival.wait_for_state("ready", WAIT)
    waiting = rival.submit_lock("a", wait=WAIT)
    first = rival.session_id
    consul.destroy(first)
    until(lambda: rival.session_id not in (None, first))
    assert locker.release("a")
    assert waiting.result(WAIT).fence > lease.fence
    assert waiting.result(WAIT).session_id == rival.session_id
