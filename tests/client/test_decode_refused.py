"""client/decode and client/words: what Consul refused before it did anything; and lists of names."""

from __future__ import annotations

from typing import Any

import pytest

from consul_locker.client.encode import HttpResponse
from consul_locker.core.requests import Failed, NamesRead, Outcome
from consul_locker.errors import ConsulUnavailable

from .examples import ALL, answer, plain, unusable

NAMES = ALL[5]
#: The words of 1.8.7 and of newer ones (measured), with the status that they come with.
REFUSED = [
    (429, b"rate limit exceeded, try again later or against a different server"),
    (429, b""),
    (503, b"rate limit exceeded for operation that can only be performed by the leader, try again later"),
    (500, b"No cluster leader"),
    (500, b"rpc error making call: No cluster leader"),
    (500, b"rpc error getting client: failed to get conn: dial tcp 127.0.0.1:8300: connect: connection refused"),
    (500, b"rpc error getting client: failed to get conn: rpc error: lead thread didn't get connection"),
    (500, b"rpc error making call: rpc error getting client: failed to get conn: EOF"),
    (500, b"rpc error making call: rpc error making call: No cluster leader\n"),
]
#: Words, or none, that leave it open.
OPEN = [
    (500, b"rpc error making call: EOF"),
    (500, b"rpc error making call: i/o timeout"),
    (500, b"rpc error making call: rpc error making call: EOF"),
    (500, b"leadership lost while committing log"),
    (500, b"rpc error making call: leadership lost while committing log"),
    (500, b"node is not the leader"),
    (500, b"rpc error making call: "),
    (500, b"invalid key name, key names should not be No cluster leader"),
    (503, b"Service Unavailable"),
    (502, b""),
    (504, b"upstream said: rate limit exceeded"),
    (404, b"No cluster leader"),
]


def outcomes(status: int, body: bytes) -> list[Outcome]:
    return [answer(request, status, body) for request in ALL]


@pytest.mark.parametrize(("status", "body"), REFUSED)
def test_what_was_refused_before_anything_was_done(status: int, body: bytes) -> None:
    for outcome in outcomes(status, body):
        assert isinstance(outcome, Failed)
        assert isinstance(outcome.error, ConsulUnavailable)
        assert (outcome.sent, outcome.error.sent, outcome.error.status) == (False, False, status)
        assert "has done nothing" in str(outcome.error)


@pytest.mark.parametrize(("status", "body"), OPEN)
def test_what_may_have_been_done(status: int, body: bytes) -> None:
    for request in (ALL[0], ALL[6], ALL[7]):
        error = unusable(answer(request, status, body))
        assert error.sent
        assert error.status == status


# --------------------------------------------------------------------------------------------------- names


def test_names() -> None:
    assert answer(NAMES, 200, ["writer/1/lock", "writer/é/lock"]) == NamesRead(("writer/1/lock", "writer/é/lock"), 9)
    assert answer(NAMES, 200, []) == NamesRead((), 9)


def test_no_names_are_none_or_hidden_ones() -> None:
    assert answer(NAMES, 404) == NamesRead((), 9)
    unusable(plain.encode(NAMES).decode(HttpResponse(404, {}, b"not Consul's")))


@pytest.mark.parametrize("body", [{}, {"Key": "a"}, "writer/1/lock", [5], [None], [["a"]], 0, "", None])
def test_what_are_no_names(body: Any) -> None:
    unusable(answer(NAMES, 200, body))
