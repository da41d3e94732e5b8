"""models: what Consul says of keys and sessions."""

from __future__ import annotations

from typing import Any

import pytest

from consul_locker.models import LockInfo, SessionInfo


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
