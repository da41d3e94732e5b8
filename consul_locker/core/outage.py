"""Outages: how long a call rides over one, and what is known of it.

An outage is a failure that time alone may mend: no connection, no answer, a rate limit, no leader
(`ConsulUnavailable.outage`). Every other failure is an answer, and told at once. docs/outages.rst has what a caller
meets; who repeats which operation is in pipeline.py, attempts at a session are in session.py.
"""

from __future__ import annotations

from functools import partial
from math import inf
from typing import Protocol

from ..config.options import LockerOptions
from ..errors import ConsulLockerError, ConsulUnavailable, SessionUnavailable
from .calls import Call, LockCall, Question, Ride
from .requests import Failed, Outcome
from .step import Outbox

__all__ = ["Outage", "RideOwner", "outage_of"]

#: The first and the longest pause between two attempts of a Locker during an outage, in seconds. The first is for a
#: rate limit and a change of leader; the longest decides how late a Locker may notice that Consul is back.
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 2.0
#: An outage that begins sooner than this after the last one that was logged, in seconds, is logged only once it has
#: lasted for `LASTING` seconds: under a rate limit every other request may be refused, and each is an outage.
LOG_EVERY = 10.0
LASTING = 1.0


def outage_of(outcome: Outcome) -> ConsulUnavailable | None:
    """The failure, if an answer says that Consul is away; None for every other answer, refusals included."""
    if isinstance(outcome, Failed) and isinstance(outcome.error, ConsulUnavailable) and outcome.error.outage:
        return outcome.error
    return None


class RideOwner(Protocol):
    """Who has the calls that ride over an outage."""

    def without_session(self) -> bool:
        """Whether there is no session now."""

    def ride_over(self, call: Call) -> None:
        """The time of a call is over: settle it with `Outage.error`, and withdraw it."""


class Outage:
    """What one Locker knows of an outage of Consul, and the calls that ride over it.

    Args:
        options: of the Locker.
        outbox: of the Locker.

    Attributes:
        owner: has the calls; set once.
        since: when the first attempt began that Consul has not answered; None when there is no outage.
        cause: the failure of the last attempt of the outage; None when there is none.
    """

    __slots__ = ("_logged", "_no_session", "_options", "_out", "_over_at", "_pauses", "_sessions", "_took", "cause",
                 "owner", "since")  # fmt: skip

    def __init__(self, options: LockerOptions, outbox: Outbox) -> None:
        self._options = options
        self._out = outbox
        self.owner: RideOwner
        self.since: float | None = None
        self.cause: ConsulLockerError | None = None
        self._pauses = 0  # in this outage
        self._logged = False  # whether this outage was logged
        self._took = 0.0  # the length of all outages that are over
        self._over_at = -inf  # when the last outage was over that was logged
        self._sessions = 0  # failed attempts to get a session, all together
        self._no_session: ConsulLockerError | None = None  # the failure of the last one

    # ------------------------------------------------------------------------------------ the outage

    def failed(self, began: float, error: ConsulLockerError) -> None:
        """An attempt failed by an outage: one of the pipeline, at a session, or to renew.

        Args:
            began: when the attempt began, on the clock of the steps.
            error: its failure.
        """
        if self.since is None:
            self.since = began
            self._out.count("outages")
        self.cause = error
        now = self._out.now
        if not self._logged and (now - self._over_at >= LOG_EVERY or now - self.since >= LASTING):
            self._logged = True
            self._out.warn(f"Locker {self._options.name!r}: Consul does not answer: {error}")

    def over(self) -> None:
        """Consul has answered a request of this Locker."""
        if self.since is None:
            return
        took = self._out.now - self.since
        self._took += took
        if self._logged:
            self._out.warn(f"Locker {self._options.name!r}: Consul answers again, after {took:.1f} s")
            self._over_at = self._out.now
        self.since = self.cause = None
        self._logged = False
        self._pauses = 0

    def seconds(self, now: float) -> float:
        """The length of all outages so far, the present one included. May be called in any thread, without the mutex.

        Args:
            now: the time, on the clock of the steps.
        """
        since = self.since
        return self._took + (now - since if since is not None else 0.0)

    def pause(self) -> float:
        """The length of the next pause between two attempts, in seconds.

        Up to half is jitter, so that not all Lockers come back at the same moment.
        """
        longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(self._pauses, 10))
        self._pauses += 1
        return longest * (1.0 - self._out.random() / 2.0)

    def no_session(self, error: ConsulLockerError) -> None:
        """An attempt to get a session failed, by an outage or not: calls without a session are told of it."""
        self._sessions += 1
        self._no_session = error

    # -------------------------------------------------------------------------------------- the calls

    def ride(self, call: Call, since: float, error: ConsulLockerError | None = None, *, sent: bool = False) -> bool:
        """A call meets the outage: its clock begins, unless it runs already.

        Args:
            call: which.
            since: when its failed attempt began; for a call without a session, when it came.
            error: the failure of its attempt; None for a call without a session.
            sent: whether the attempt may have taken effect.

        Returns:
            False if its time is over already: whoever asks answers it, with `error`.
        """
        ride = call.riding
        if ride is None:
            call.riding = ride = Ride(since, self._sessions)
        if error is not None:
            ride.attempts += 1
            ride.cause = error
            ride.sent = ride.sent or sent
        limit = self._limit(call, ride)
        if limit <= self._out.now:
            return False
        if limit != ride.limit:
            ride.limit = limit
            if limit < inf:
                self._out.timer(("outage", call), limit, partial(self._due, call))
        return True

    def answered(self, call: Call) -> None:
        """Consul answered a request for this call: its clock ends."""
        if call.riding is not None:
            call.riding = None
            self._out.cancel(("outage", call))

    def error(self, call: Call) -> ConsulLockerError:
        """What a call is answered that rides no further."""
        ride = call.riding
        assert ride is not None
        timeout = self._options.outage_timeout
        cause = ride.cause
        if timeout is None or (timeout == 0.0 and cause is not None):
            assert cause is not None  # without a limit the time is never over
            return cause
        needs_session = not isinstance(call, Question)
        attempts = ride.attempts + (self._sessions - ride.sessions if needs_session else 0)
        if needs_session and self.owner.without_session():
            cause = self._no_session if self._sessions > ride.sessions else cause
            return SessionUnavailable(
                self._options.name, 0, cause, attempts=attempts, sent=ride.sent, outage_timeout=timeout
            )
        what = f"{call.verb} of {', '.join(map(repr, call.ids))}" if call.ids else call.verb
        tries = f"{attempts} attempt{'s' if attempts != 1 else ''}"
        why = f"; the last failure: {cause}" if cause is not None else ""
        done = "; it may have been done all the same" if ride.sent else ""
        return ConsulUnavailable(
            f"{what}: Consul did not answer within {timeout:g} s (option outage_timeout), in {tries}{why}{done}",
            operation=cause.operation if isinstance(cause, ConsulUnavailable) else call.verb,
            status=cause.status if isinstance(cause, ConsulUnavailable) else None,
            cause=cause,
            sent=ride.sent,
            outage=True,
            attempts=attempts,
        )

    def _limit(self, call: Call, ride: Ride) -> float:
        """When its time is over, on the clock of the steps: not before its ``wait``; infinite for never."""
        timeout = self._options.outage_timeout
        if timeout is None:
            return inf
        if timeout == 0.0 and ride.cause is None:
            return inf  # as the original: the buffer has no limit
        limit = ride.since + timeout
        if isinstance(call, LockCall):
            if call.waiting is not None:
                limit = max(limit, call.waiting.until)
            else:  # it has not come to wait for a holder yet, but its caller has the time
                limit = max(limit, inf if call.wait is None else ride.since + call.wait)
        return limit

    def _due(self, call: Call) -> None:
        """The timer of a riding call: its ``wait`` may have begun since it was set."""
        ride = call.riding
        assert ride is not None  # else it was cancelled
        limit = self._limit(call, ride)
        if limit <= self._out.now:
            self.owner.ride_over(call)
        else:
            ride.limit = limit
            self._out.timer(("outage", call), limit, partial(self._due, call))
