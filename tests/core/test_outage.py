"""core/outage.py: how long calls ride over an outage, what they are answered, and what the log says."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from consul_locker.config.options import LockerOptions
from consul_locker.core.calls import Call, Info, Lock, ReleaseAll, Wait
from consul_locker.core.messages import CancelTimer, Log, SetTimer, Settle
from consul_locker.core.outage import Outage, outage_of
from consul_locker.core.requests import Done, Failed
from consul_locker.core.step import Outbox
from consul_locker.errors import AccessDenied, ConsulUnavailable, SessionUnavailable

AWAY = ConsulUnavailable("connection refused", operation="txn", outage=True)
LIMITED = ConsulUnavailable("rate limit", operation="txn", status=429, outage=True)


class Rider:
    """An `Outage`, with the time in the test's hands.

    Attributes:
        session: whether there is one.
        given_up: the calls whose time was over.
    """

    def __init__(self, **options: Any) -> None:
        self.out = Outbox(lambda: 0.5)
        self.out.now = 1000.0
        self.session = True
        self.given_up: list[Call] = []
        self.outage = Outage(LockerOptions.build("svc", **options), self.out)
        self.outage.owner = self

    def without_session(self) -> bool:
        return not self.session

    def ride_over(self, call: Call) -> None:
        self.given_up.append(call)

    @property
    def timers(self) -> list[float]:
        return [command.at for command in self.out.commands if isinstance(command, SetTimer)]

    @property
    def log(self) -> list[str]:
        return [command.text for command in self.out.commands if isinstance(command, Log)]

    def due(self, call: Call, now: float) -> None:
        self.out.now = now
        self.out.fired(("outage", call))


def test_which_failures_are_an_outage() -> None:
    assert outage_of(Failed(AWAY, False)) is AWAY
    assert outage_of(Failed(ConsulUnavailable("400: bad", status=400), True)) is None
    assert outage_of(Failed(AccessDenied("txn", 403, "Permission denied"), False)) is None
    assert outage_of(Done()) is None


# -------------------------------------------------------------------------------------------- the log


def test_the_log_says_once_that_it_began_and_once_that_it_is_over() -> None:
    rider = Rider()
    outage = rider.outage
    outage.over()  # there is none
    outage.failed(999.5, AWAY)
    outage.failed(999.9, LIMITED)
    assert (outage.since, outage.cause) == (999.5, LIMITED)
    rider.out.now = 1004.0
    outage.over()
    outage.over()
    assert (outage.since, outage.cause) == (None, None)
    assert rider.log == [
        "Locker 'svc': Consul does not answer: connection refused",
        "Locker 'svc': Consul answers again, after 4.5 s",
    ]


def test_the_time_of_all_outages_is_added_up() -> None:
    outage = Rider().outage
    assert outage.seconds(1000.0) == 0.0
    outage.failed(998.0, AWAY)
    assert outage.seconds(1001.0) == 3.0
    outage.over()
    outage.failed(1000.0, AWAY)
    assert outage.seconds(1004.0) == 2.0 + 4.0


def test_a_rate_limit_that_refuses_every_other_request_does_not_fill_the_log() -> None:
    rider = Rider()
    for _ in range(50):
        rider.outage.failed(rider.out.now, LIMITED)
        rider.out.now += 0.1
        rider.outage.over()
    assert len(rider.log) == 2
    rider.outage.failed(rider.out.now, AWAY)  # and now one that lasts
    rider.outage.failed(rider.out.now, AWAY)
    assert len(rider.log) == 2
    rider.out.now += 1.0
    rider.outage.failed(rider.out.now, AWAY)
    assert len(rider.log) == 3


def test_the_pauses_double_up_to_two_seconds_and_begin_anew() -> None:
    outage = Rider().outage
    outage.failed(1000.0, AWAY)
    assert [round(outage.pause() / 0.75, 3) for _ in range(7)] == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]
    outage.over()
    assert outage.pause() == pytest.approx(0.075)


# ------------------------------------------------------------------------------------------- the calls


def test_the_clock_of_a_call_begins_with_its_first_failed_attempt() -> None:
    rider = Rider()
    call = Lock(["1"])
    assert rider.outage.ride(call, 998.0, AWAY)
    rider.out.now = 1005.0
    assert rider.outage.ride(call, 1004.0, LIMITED, sent=True)
    assert rider.timers == [1018.0]
    rider.due(call, 1018.0)
    assert rider.given_up == [call]
    error = rider.outage.error(call)
    assert isinstance(error, ConsulUnavailable)
    assert (error.attempts, error.sent, error.cause, error.outage) == (2, True, LIMITED, True)
    assert (error.operation, error.status) == ("txn", 429)
    assert "lock of '1': Consul did not answer within 20 s (option outage_timeout), in 2 attempts" in str(error)
    assert "rate limit" in str(error) and "may have been done" in str(error)
    again = pickle.loads(pickle.dumps(error))
    assert (again.attempts, again.sent, str(again)) == (2, True, str(error))


def test_an_attempt_that_fails_when_the_time_is_over_is_the_last() -> None:
    rider = Rider(outage_timeout=5)
    call = ReleaseAll()
    rider.out.now = 1010.0
    assert not rider.outage.ride(call, 1000.0, AWAY)  # it took longer than that
    error = rider.outage.error(call)
    assert str(error).startswith("release_all: Consul did not answer within 5 s (option outage_timeout), in 1 attempt;")


def test_an_answer_ends_the_clock_and_the_next_outage_has_its_own() -> None:
    rider = Rider()
    call = Info("1")
    rider.outage.answered(call)  # there was no outage
    rider.outage.ride(call, 1000.0, AWAY)
    rider.outage.answered(call)
    assert CancelTimer(("outage", call)) in rider.out.commands
    rider.outage.ride(call, 1010.0, AWAY)
    assert rider.timers == [1020.0, 1030.0]


def test_a_call_that_is_answered_leaves_no_timer() -> None:
    rider = Rider()
    call = Info("1")
    rider.outage.ride(call, 1000.0, AWAY)
    rider.out.settle(call, None)
    assert list(rider.out.commands)[-2:] == [CancelTimer(("outage", call)), Settle(call)]


def test_without_a_session_the_clock_begins_with_the_call() -> None:
    rider = Rider()
    rider.session = False
    rider.outage.no_session(LIMITED)  # before the call
    call = Lock(["1"])
    assert rider.outage.ride(call, 1000.0)
    denied = AccessDenied("session create", 403, "ACL not found")
    rider.outage.no_session(AWAY)
    rider.outage.no_session(denied)
    rider.due(call, 1020.0)
    error = rider.outage.error(call)
    assert isinstance(error, SessionUnavailable)
    assert (error.name, error.attempts, error.sent, error.cause) == ("svc", 2, False, denied)
    assert "within 20 s (option outage_timeout), 2 attempts failed; the last failure: " in str(error)
    assert "ACL not found" in str(error) and "it goes on trying" in str(error)
    again = copy.copy(pickle.loads(pickle.dumps(error)))
    assert (again.attempts, again.outage_timeout, str(again)) == (2, 20.0, str(error))


def test_without_a_failure_there_is_no_cause() -> None:
    """Such as an attempt at a session that takes too long; and then a session comes, but no answer."""
    rider = Rider(outage_timeout=1)
    rider.session = False
    call = Lock(["1"])
    rider.outage.ride(call, 1000.0)
    rider.due(call, 1001.0)
    assert str(rider.outage.error(call)).endswith("0 attempts failed; it goes on trying: call again later")
    rider.session = True
    error = rider.outage.error(call)
    assert isinstance(error, ConsulUnavailable)
    assert (error.cause, error.operation, error.status, error.attempts) == (None, "lock", None, 0)


def test_a_new_session_does_not_restart_the_clock() -> None:
    rider = Rider()
    rider.session = False
    call = Lock(["1"])
    rider.outage.ride(call, 1000.0)
    rider.session = True
    rider.out.now = 1015.0
    rider.outage.ride(call, 1014.0, AWAY, sent=True)
    rider.session = False
    rider.outage.ride(call, 1016.0)
    assert rider.timers == [1020.0]
    error = rider.outage.error(call)
    assert isinstance(error, SessionUnavailable)
    assert (error.cause, error.attempts, error.sent) == (AWAY, 1, True)


# ----------------------------------------------------------------------------------------- the limits


def test_none_is_for_ever() -> None:
    rider = Rider(outage_timeout=None)
    assert rider.outage.ride(Lock(["1"]), -1e9, AWAY)
    assert rider.timers == []


def test_zero_repeats_nothing_and_waits_for_a_session_without_a_limit() -> None:
    rider = Rider(outage_timeout=0)
    failed, early = Lock(["1"]), Lock(["2"])
    assert not rider.outage.ride(failed, 1000.0, AWAY)
    assert rider.outage.error(failed) is AWAY
    assert rider.outage.ride(early, 0.0)
    assert rider.timers == []


def test_no_call_ends_while_its_wait_runs() -> None:
    rider = Rider()
    assert rider.outage.ride(Lock(["1"], wait=None), 1000.0, AWAY)
    assert rider.timers == []
    rider.outage.ride(Lock(["1"], wait=60), 1000.0, AWAY)
    rider.outage.ride(Lock(["1"], wait=5), 1000.0, AWAY)
    assert rider.timers == [1060.0, 1020.0]


def test_a_wait_that_began_since_is_regarded_when_the_time_is_over() -> None:
    rider = Rider()
    call = Lock(["1"], wait=30)
    rider.outage.ride(call, 1000.0)
    call.waiting = Wait(1045.0)
    rider.due(call, 1030.0)
    assert (rider.given_up, rider.timers) == ([], [1030.0, 1045.0])
    rider.due(call, 1045.0)
    assert rider.given_up == [call]
