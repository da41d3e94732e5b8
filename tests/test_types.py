"""types: leases, and what Consul says of keys and sessions."""

from __future__ import annotations

import math
import threading
from typing import Any

import pytest

from consul_locker.errors import ConfigurationError, LockLost
from consul_locker.types import BaseLease, Lease, LockInfo, SessionInfo, SessionLife, seconds


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
def lease(time: Time) -> Lease:
    return Lease("a", "n/a/lock", SessionLife(1, "5e55", 15.0), 7, time.now, time, False)


def test_until_its_deadline(lease: Lease, time: Time) -> None:
    assert (lease.valid, lease.live, lease.remaining, lease.reason) == (True, True, 10.0, None)
    lease.check()
    assert repr(lease) == "<Lease 'a' fence=7 valid>"
    time.now = 15.0
    assert (lease.valid, lease.live, lease.remaining, lease.reason) == (False, True, 0.0, "deadline passed")
    with pytest.raises(LockLost, match="deadline passed"):
        lease.check()
    assert repr(lease) == "<Lease 'a' fence=7 deadline passed>"
    assert lease.wait_lost(0.001) == "deadline passed"


def test_an_end_is_final(lease: Lease, time: Time) -> None:
    assert lease.end("released")
    assert not lease.end("session destroyed")
    assert (lease.valid, lease.live, lease.remaining, lease.reason) == (False, False, 0.0, "released")
    time.now = 99.0
    assert lease.reason == "released"
    assert lease.wait_lost() == "released"


def test_a_guard(lease: Lease) -> None:
    assert lease.guard() == [
        {"KV": {"Verb": "check-session", "Key": "n/a/lock", "Session": "5e55"}},
        {"KV": {"Verb": "check-index", "Key": "n/a/lock", "Index": 7}},
    ]


def test_waiting_for_the_end(lease: Lease) -> None:
    assert lease.wait_lost(0.001) is None
    said: list[str | None] = []
    threads = [threading.Thread(target=lambda: said.append(lease.wait_lost(30))) for _ in range(3)]
    for thread in threads:
        thread.start()
    lease.end("released")
    while any(thread.is_alive() for thread in threads):
        lease.wake()  # again for whoever came between
        threads[0].join(0.01)
    assert said == ["released"] * 3


def test_ended_while_it_looked(lease: Lease) -> None:
    """The lease ends after the first look, before the waiter is in the list."""

    class Guard:
        def __enter__(self) -> None:
            lease.end("released")

        def __exit__(self, *_: object) -> None:
            pass

    lease._guard = Guard()
    assert lease.wait_lost() == "released"


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


def test_waiting_for_an_end_checks_its_limit(lease: Lease) -> None:
    for wrong in (-1, "soon", True):
        with pytest.raises(ConfigurationError, match="timeout="):
            lease.wait_lost(wrong)
    assert lease.wait_lost(0) is None
