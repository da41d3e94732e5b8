"""client/failures: answers that say that a request failed, and whether Consul may have done it."""

from __future__ import annotations

import pytest

from consul_locker.core.requests import Failed, Outcome, RefusedWhole, Request
from consul_locker.errors import AccessDenied, ConsulUnavailable

from .examples import ALL, answer, plain, unusable

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


@pytest.mark.parametrize("request_", ALL, ids=lambda request: type(request).__name__)
def test_answers_that_no_request_can_use(request_: Request) -> None:
    for status in (401, 403):
        outcome = answer(request_, status, b"Permission denied")
        assert isinstance(outcome, Failed)
        assert not outcome.sent
        assert isinstance(outcome.error, AccessDenied)
        assert outcome.error.detail == "Permission denied"
    for status, word in ((301, "redirect"), (400, "did not take"), (408, "did not take"), (500, "EOF")):
        if status == 400 and plain.encode(request_).path == "/v1/txn":
            assert answer(request_, 400, b"no") == RefusedWhole(400, "no")  # a half of it may be taken
            continue
        error = unusable(answer(request_, status, b"rpc error making call: EOF"))
        assert error.status == status
        assert word in str(error)
        assert error.operation in str(error)
    html = b"<html>" + b"x" * 5_000
    for status, index in ((404, None), (404, "x"), (200, "9"), (204, "9")):
        error = unusable(answer(request_, status, html, index))
        assert "<html>" in str(error)
        assert len(str(error)) < 700
    assert "no body" in str(unusable(answer(request_, 502)))
