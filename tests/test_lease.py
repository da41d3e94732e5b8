"""lease: until when it is valid, and what an end of it means."""

from __future__ import annotations

import copy
import pickle

import pytest

from consul_locker.errors import LockLost
from consul_locker.lease import BaseLease, SessionLife


class Time:
    """A clock that a test sets."""

    now = 5.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def lease(time: Time) -> BaseLease:
    return BaseLease("a", SessionLife(1, "5e55", 15.0, "n", time), 7, time.now, False)


def test_until_its_deadline(lease: BaseLease, time: Time) -> None:
    assert (lease.valid, lease.live, lease.remaining, lease.reason) == (True, True, 10.0, None)
    lease.check()
    assert repr(lease) == "<BaseLease 'a' fence=7 valid>"
    time.now = 15.0
    assert (lease.valid, lease.live, lease.remaining, lease.reason) == (False, True, 0.0, "deadline passed")
    with pytest.raises(LockLost, match="deadline passed"):
        lease.check()
    assert repr(lease) == "<BaseLease 'a' fence=7 deadline passed>"


def test_an_end_is_final(lease: BaseLease, time: Time) -> None:
    assert lease.end("released")
    assert not lease.end("session destroyed")
    assert (lease.valid, lease.live, lease.remaining, lease.reason) == (False, False, 0.0, "released")
    time.now = 99.0
    assert lease.reason == "released"


@pytest.mark.parametrize("fact", ["id", "key", "session_id", "fence", "acquired_at", "valid", "remaining", "reason"])
def test_all_who_share_it_read_the_same(lease: BaseLease, fact: str) -> None:
    before = getattr(lease, fact)
    with pytest.raises(AttributeError):
        setattr(lease, fact, "changed")
    assert getattr(lease, fact) == before


def test_a_copy_is_the_lease_itself(lease: BaseLease) -> None:
    """One apart from it would be valid for ever."""
    assert copy.copy(lease) is lease
    assert copy.deepcopy({"mine": [lease]})["mine"][0] is lease


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_it_cannot_be_sent_to_another_process(lease: BaseLease, protocol: int) -> None:
    with pytest.raises(TypeError, match=r"send lease\.fence, lease\.guard\(\) or the lock's id instead"):
        pickle.dumps(lease, protocol)


def test_a_guard(lease: BaseLease) -> None:
    assert lease.guard() == [
        {"KV": {"Verb": "check-session", "Key": "n/a/lock", "Session": "5e55"}},
        {"KV": {"Verb": "check-index", "Key": "n/a/lock", "Index": 7}},
    ]


def test_claims(lease: BaseLease) -> None:
    assert lease.claim()
    assert not lease.claim()
    lease.end("released")
    assert lease.claim()  # of no use: it is over
    assert not lease._life.claims


def test_the_base_cannot_wait() -> None:
    lease = BaseLease("a", SessionLife(1, "5e55", 15.0, "n", lambda: 1.0), 7, 1.0, True)
    assert lease.exclusive
    with pytest.raises(NotImplementedError):
        lease.wake()
