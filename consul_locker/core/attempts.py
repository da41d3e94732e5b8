"""When the next attempt to get a session is made, and how many retries there were."""

from __future__ import annotations

from typing import Protocol

from ..arguments import seconds
from ..config.options import LockerOptions
from ..errors import ConfigurationError, ConsulUnavailable
from .step import Outbox

__all__ = ["FIRST_PAUSE", "AttemptOwner", "Attempts"]

#: The first pause between attempts to create a session, in seconds; it doubles up to ``retry_interval``.
#: Short, since most failures are an agent that restarts (1 to 4 s measured for a new leader).
FIRST_PAUSE = 0.5
#: While calls wait for a session the next attempt comes within this time, in seconds: it is how long they may wait in
#: vain after Consul is back. Such early attempts are no retries: ``max_retries`` lasts as long as without calls.
EARLY = 2.0


class AttemptOwner(Protocol):
    """Who makes attempts."""

    def retry(self) -> None:
        """The pause is over: make the next attempt."""

    def waited_for(self) -> bool:
        """Whether calls wait for a session."""


class Attempts:
    """The attempts of one Locker to get a session.

    Args:
        options: of the Locker.
        outbox: of the Locker.

    Attributes:
        owner: makes the attempts; set once.
        retries: failed attempts since the Locker was last ready, without early ones.
        next: when the next attempt is due, on the clock of the steps; None when no pause is made.
        fault: what is wrong with the option ``retry_interval``, if the Locker has given up for it.
    """

    __slots__ = ("_early", "_options", "_out", "_retry_at", "fault", "next", "owner", "retries")

    def __init__(self, options: LockerOptions, outbox: Outbox) -> None:
        self._options = options
        self._out = outbox
        self.owner: AttemptOwner
        self.retries = 0
        self.fault: ConsulUnavailable | None = None
        self.next: float | None = None
        self._retry_at = 0.0  # when the next retry is due, as if no calls waited
        self._early = False  # whether the attempt under way is an early one

    @property
    def counts(self) -> bool:
        """Whether the attempt under way counts as a retry if it fails: not if that is due later all the same."""
        return not self._early or self._out.now >= self._retry_at

    def again(self) -> bool:
        """There is no session: set the timer of the next attempt.

        Returns:
            False when the retries are exhausted.
        """
        if self.counts:
            try:
                pause = self._pause()
            except Exception as error:  # retry_interval is the user's function; its errors must not block the Locker
                what = f"retry_interval raised {error!r}, or returned no length of time"
                self._out.warn(f"{what}; giving up")
                self.fault = ConsulUnavailable(what, cause=error, option="retry_interval")
                pause = None
            if pause is None:
                return False
            self._retry_at = self._out.now + pause
        self._early = False
        early = self._hurries and self.owner.waited_for()
        self._set(min(self._retry_at, self._soon()) if early else self._retry_at)
        return True

    def hurry(self) -> None:
        """A call waits for a session from now on."""
        if self.next is not None and self.next > self._out.now + EARLY and self._hurries:
            self._set(self._soon())

    def cancel(self) -> None:
        """The pause is over before its time."""
        self.next = None
        self._early = False
        self._out.cancel(("retry",))

    @property
    def _hurries(self) -> bool:
        return self._options.outage_timeout != 0.0  # then calls wait for the next retry, as in the original

    def _soon(self) -> float:
        return self._out.now + EARLY * self._jitter()

    def _set(self, at: float) -> None:
        self.next = at
        self._out.timer(("retry",), at, self._due)

    def _due(self) -> None:
        early = self._out.now < self._retry_at
        self.owner.retry()
        self._early = early  # after the pause has ended

    def _pause(self) -> float | None:
        """Count a retry. Returns how long to wait before it, in seconds; None when there is none left."""
        self.retries += 1
        limit = self._options.max_retries
        if limit is not None and self.retries > limit:
            return None
        interval = self._options.retry_interval
        if callable(interval):
            length = seconds("retry_interval", interval(self.retries))
            if length is None:
                raise ConfigurationError("retry_interval", None, "a callable that returns seconds, 0 or more")
            return length
        return min(interval, FIRST_PAUSE * 2.0 ** min(self.retries - 1, 60)) * self._jitter()

    def _jitter(self) -> float:
        # Up to half, so that not all Lockers come back at the same moment.
        return 1.0 - self._out.random() / 2.0
