"""client/words: Consul's words for what it refuses, and its durations."""

from __future__ import annotations

from typing import Any

import pytest

from consul_locker.client.words import is_outage, not_done, parse_duration, refusal_of
from consul_locker.core.requests import (
    Refusal,
    Refused,
    RolledBack,
)

from .examples import LOCK, SID, answer, transact

WORDS = [
    ('failed to lock key "k", lock is already held', Refusal.HELD),
    ('failed to lock key "k" due to lock delay", lock is already held', Refusal.HELD),
    ('failed to lock key "k" due to lock delay', Refusal.LOCK_DELAY),
    ('failed to lock key "invalid session" due to lock delay', Refusal.LOCK_DELAY),
    ('failed to unlock key "k", lock isn\'t held, or is held by another session', Refusal.NOT_HELD),
    (f'invalid session "{SID}"', Refusal.INVALID_SESSION),
    (f'failed session check for key "k", current session "" != "{SID}"', Refusal.SESSION),
    ('failed index check for key "k", current modify index 7 != 6', Refusal.INDEX),
    ('failed to delete key "k", index is stale', Refusal.INDEX),
    ('failed to set key "k", index is stale', Refusal.INDEX),
    ('failed to check session, key "k" doesn\'t exist', Refusal.MISSING),
    ('failed to check index, key "k" doesn\'t exist', Refusal.MISSING),
    ('key "k" doesn\'t exist', Refusal.MISSING),
    ('key "k" exists', Refusal.EXISTS),
    ("Permission denied", Refusal.DENIED),
    ("Permission denied: token lacks permission 'key:write'", Refusal.DENIED),
    ("", Refusal.OTHER),
]


@pytest.mark.parametrize(("what", "refusal"), WORDS)
def test_consuls_words(what: str, refusal: Refusal) -> None:
    assert refusal_of(what) is refusal
    outcome = answer(transact(LOCK, LOCK), 409, {"Results": None, "Errors": [{"OpIndex": 1, "What": what}]})
    assert outcome == RolledBack((Refused(1, refusal, what),))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("15s", 15),
        ("1m30s", 90),
        ("1.5s", 1.5),
        ("1h0m0s", 3600),
        ("250ms", 0.25),
        ("3us", 3e-6),
        ("3µs", 3e-6),
        ("7ns", 7e-9),
        (".5s", 0.5),
        ("0s", 0.0),
        ("0", 0.0),
        ("", None),
        (None, None),
    ],
)
def test_durations(text: str | None, seconds: float | None) -> None:
    assert parse_duration(text) == (seconds if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize("text", ["15", "s", "1.2.3s", " 1s", "-1s", "1d", 15, True, ["1s"]])
def test_what_is_no_duration(text: Any) -> None:
    with pytest.raises(ValueError, match="no duration"):
        parse_duration(text)


#: What Consul says when it cannot answer now, and whether it had done nothing by then.
OUTAGES = [
    (500, b"No cluster leader", True),
    (500, b"rpc error getting client: failed to get conn: dial tcp 10.0.0.1:8300: connect: connection refused", True),
    (500, b"rpc error making call: No cluster leader\n", True),
    (500, b"rpc error making call: rpc error making call: EOF", False),
    (500, b"rpc error making call: read tcp 10.0.0.2:41724->10.0.0.1:8300: i/o timeout", False),
    (500, b"rpc error making call: node is not the leader", False),
    (500, b"leadership lost while committing log", False),
    *[
        (500, b"rpc error making call: " + words, False)  # of the streams between servers, when one of them dies
        for words in (
            b"stream closed",
            b"session shutdown",
            b"connection reset",
            b"connection write timeout",
            b"i/o deadline reached",
        )
    ],
    (500, b"No known Consul servers", True),
    (503, b"rate limit exceeded for operation that can only be performed by the leader, try again later", True),
    (429, b"rate limit exceeded, try again later or against a different server", True),
    (502, b"<html>", False),
    (504, b"", False),
]
REFUSALS = [
    (500, b"rpc error making call: Missing node registration"),
    (500, b"rpc error making call: rpc error making call: Permission denied: token lacks permission 'session:write'"),
    (500, b'invalid session "EOF" of something'),
    (500, b"invalid key name"),
    (500, b""),
    (400, b"No cluster leader"),
    (404, b""),
    (403, b"ACL not found"),
]


@pytest.mark.parametrize("status, body, nothing", OUTAGES)
def test_the_words_of_an_outage(status: int, body: bytes, nothing: bool) -> None:
    assert is_outage(status, body)
    assert not_done(status, body) is nothing


@pytest.mark.parametrize("status, body", REFUSALS)
def test_any_other_answer_is_a_refusal(status: int, body: bytes) -> None:
    assert not is_outage(status, body)
    assert not not_done(status, body)
