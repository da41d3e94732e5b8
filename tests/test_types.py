"""types: leases, and what Consul says of keys and sessions."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import pytest

from consul_locker.arguments import seconds
from consul_locker.errors import ConfigurationError, LockLost
from consul_locker.lease import BaseLease, SessionLife
from consul_locker.models import LockInfo, SessionInfo


@pytest.mark.parametrize(("given", "limit"), [(None, None), (math.inf, None), (0, 0.0), (1, 1.0), (2.5, 2.5)])
def test_seconds(given: Any, limit: float | None) -> None:
    assert seconds("wait", given) == limit


@pytest.mark.parametrize("given", [-1, -0.1, math.nan, True, "1", b"1", -math.inf])
def test_no_seconds(given: Any) -> None:
    with pytest.raises(ConfigurationError) as refused:
        seconds("wait", given)
    assert refused.value.option == "wait"


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
    return BaseLease("a", "n/a/lock", SessionLife(1, "5e55", 15.0), 7, time.now, time, False)


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


def test_the_base_cannot_wait() -> None:
    lease = BaseLease("a", "n/a/lock", SessionLife(1, "5e55", 15.0), 7, 1.0, lambda: 1.0, True)
    assert lease.exclusive
    with pytest.raises(NotImplementedError):
        lease.wake()


def test_a_holder_in_words() -> None:
    session = SessionInfo("5e55", "n", "node", 15.0, 0.0, "release", (), 3)
    info = LockInfo("a", "n/a/lock", "5e55", {"pid": 7, "host": "h"}, 12, 1)
    assert info.with_session(session).session == session
    assert info.described() == "process 7 on h (session 5e55)"
    assert LockInfo("a", "k", None, {"pid": 7}, 12, 1).described() == "process 7"
    assert LockInfo("a", "k", "5e55", "text", 12, 1).described() == "another session (session 5e55)"
    assert LockInfo("a", "k", "5e55", {}, 12, 1).described() == "another session (session 5e55)"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"pid": 7, "host": "web-1.example.net"}, "process 7 on web-1.example.net"),
        ({"pid": "<b>\x1b[31m", "host": "a\nb"}, r"process '<b>\x1b[31m' on 'a\nb'"),
        ({"pid": "", "host": "\u202eevil"}, r"process '' on '\u202eevil'"),
        ({"host": "h" * 1000}, f"on '{'h' * 64}'…"),
        ({"pid": 10**1000}, f"process '1{'0' * 63}'…"),
        ({"pid": [1], "host": {"a": 1}}, "another session"),
        ({"pid": None, "host": 1.5}, "another session"),
    ],
)
def test_what_a_stranger_wrote_is_shown_with_care(value: Any, words: str) -> None:
    assert LockInfo("a", "k", None, value, 12, 1).described() == words
