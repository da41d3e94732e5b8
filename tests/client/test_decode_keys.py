"""client/decode: keys that are read by transaction, and what is refused as a whole."""

from __future__ import annotations

from typing import Any

import pytest

from consul_locker.core.requests import Failed, KeysRead, PollKey, RefusedWhole
from consul_locker.errors import AccessDenied

from .examples import ALL, ENTRY, ITEM, KEY, answer, missing, unusable

POLL = PollKey(1, name="k", index=7, wait=0.0)
WATCH = ALL[9]
#: Since February 2026 (measured), and 1.21.5 (source), which says it in /v1/kv only.
INVALID = b"Invalid key in transaction: invalid key name, must not have '..'"
PATTERN = rb'invalid key name, keys should respect the "^[a-zA-Z0-9,_./\-?&=]+$" format'


def denied(outcome: Any) -> AccessDenied:
    assert isinstance(outcome, Failed)
    assert not outcome.sent
    assert isinstance(outcome.error, AccessDenied)
    return outcome.error


@pytest.mark.parametrize("request_", [KEY, POLL], ids=["read", "poll"])
def test_a_key_is_there_or_missing_or_hidden(request_: Any) -> None:
    assert answer(request_, 200, {"Results": [{"KV": ITEM}]}) == KeysRead((ENTRY,), 4)
    assert answer(request_, 409, missing("k")) == KeysRead((), 0)
    for nothing in ([], None):
        error = denied(answer(request_, 200, {"Results": nothing, "Errors": None}))
        assert (error.right, error.on) == ("key:read", getattr(request_, "key", "k"))
    words = "Permission denied: anonymous token lacks permission 'key:read' on \"k\""
    assert denied(answer(request_, 409, missing("k", words))).detail == words
    unusable(answer(request_, 409, missing("k", "something else")))
    unusable(answer(request_, 409, {"Results": None, "Errors": []}))
    unusable(answer(request_, 200, b"[]"))
    unusable(answer(request_, 404, b"no such place"))
    assert answer(request_, 400, INVALID) == RefusedWhole(400, INVALID.decode())


@pytest.mark.parametrize("status", [400, 406, 413, 414, 422])
def test_a_transaction_that_is_refused_as_a_whole(status: int) -> None:
    for request in (ALL[6], ALL[7]):
        refused = answer(request, status, INVALID)
        assert refused == RefusedWhole(status, INVALID.decode())
        assert isinstance(refused, RefusedWhole)
        assert refused.of_key
        assert answer(request, status, b"not today") == RefusedWhole(status, "not today")
        assert not RefusedWhole(status, "not today").of_key


def test_what_says_nothing_of_what_is_in_a_transaction() -> None:
    https = b"Client sent an HTTP request to an HTTPS server.\n"
    plain = b"<center>The plain HTTP request was sent to HTTPS port</center>"  # nginx
    namespace, partition = (b'Invalid query parameter: "%s" - Namespaces are a Consul Enterprise feature' % name
                            for name in (b"ns", b"partition"))  # fmt: skip
    told = {https: "secure", plain: "secure", namespace: "namespace", partition: "partition"}
    for words, option in told.items():
        outcome = answer(ALL[6], 400, words)
        assert isinstance(outcome, Failed)
        assert not outcome.sent
        assert (outcome.error.status, outcome.error.option) == (400, option)  # type: ignore[attr-defined]
    assert isinstance(answer(ALL[6], 500, INVALID), Failed)
    denied(answer(ALL[6], 403, INVALID))


def test_a_watch_on_a_key_that_consul_does_not_show_there() -> None:
    for words in (PATTERN, b"rpc error making call: " + PATTERN):
        assert answer(WATCH, 500, words) == RefusedWhole(500, words.decode())
    unusable(answer(WATCH, 500, b"rpc error making call: EOF"))
    assert isinstance(answer(WATCH, 500, b"No cluster leader"), Failed)
    assert isinstance(answer(WATCH, 500, b"No cluster leader; invalid key"), Failed)
    assert answer(WATCH, 200, [{**ITEM}]) == KeysRead((ENTRY,), 9)
