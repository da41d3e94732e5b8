"""Sessions that are given up: each is destroyed in the background, until Consul no longer has it.

A session that is given up as lost may still exist in Consul, with its locks and its places in queues. Until it is
destroyed, its locks are denied to its successor. A server that has just started may answer a destroy with true and not
do it, because its state lacks the session yet (source). So a destroy counts only after a consistent read that does not
find the session. An ACL may also hide the session from that read. This is accepted after a destroy that was answered
with true: a token that may destroy sessions can mostly read them, and if not, the session ends by its TTL.
"""

from __future__ import annotations

from functools import partial
from math import inf

from .messages import confirmed_destroy
from .requests import DestroyAnswer, DestroySession, Request, SessionAnswer, SessionRead
from .step import Outbox

__all__ = ["PREDECESSOR_WAIT", "Destroys"]

#: The first and the longest pause before a failed destroy is tried again, in seconds.
DESTROY_PAUSE = 1.0
DESTROY_PAUSE_MAX = 60.0
#: A call that is blocked by a former session of its own Locker waits for its end, at most this long, in seconds. A
#: destroy takes some milliseconds; if Consul cannot do it within a second, it may take any time.
PREDECESSOR_WAIT = 1.0


class _Given:
    """One session that was given up: its failed destroys, and the request under way."""

    __slots__ = ("attempts", "request", "since")

    def __init__(self) -> None:
        self.attempts = 0
        self.request: Request | None = None  # None: a timer is set
        self.since = -inf


class Destroys:
    """The sessions that one Locker has given up.

    Args:
        outbox: of the Locker.
        timeout: the limit on one request, in seconds.
    """

    __slots__ = ("_former", "_given", "_out", "_timeout")

    def __init__(self, outbox: Outbox, timeout: float) -> None:
        self._out = outbox
        self._timeout = timeout
        self._given: dict[str, _Given] = {}
        self._former: dict[str, float] = {}  # id -> until when it may block calls, on the clock of the steps

    @property
    def pending(self) -> frozenset[str]:
        """The sessions that Consul may still have."""
        return frozenset(self._given)

    def former(self) -> frozenset[str]:
        """The former sessions whose locks may block calls now, or did a moment ago."""
        for session_id in [one for one, until in self._former.items() if until < self._out.now]:
            del self._former[session_id]
        return frozenset(self._former)

    def add(self, session_id: str) -> None:
        """Destroy a session, repeatedly until Consul does not have it any more."""
        if session_id not in self._given:
            self._former[session_id] = inf
            self._given[session_id] = _Given()
            self.again(session_id)

    def again(self, session_id: str) -> None:
        """Try to destroy a session once."""
        given = self._given[session_id]
        if given.request is not None:
            self._out.forget(given.request)
        given.since = self._out.now
        given.request = request = DestroySession(0, session_id, timeout=self._timeout)
        self._out.ask(request, partial(self._destroyed, given, request), lasting=True)

    def hurry(self, began: float) -> None:
        """Consul has created a session, so it works: try all destroys again at once that pause or hang.

        Args:
            began: when the request for the session was sent. Destroys sent after that are left alone: they will be
                answered soon.
        """
        for session_id, given in self._given.items():
            if given.request is None or given.since < began:
                self._out.cancel(("destroy", session_id))
                self.again(session_id)

    def _destroyed(self, given: _Given, request: DestroySession, outcome: DestroyAnswer) -> None:
        """A destroy was answered: if it did not fail, a read is to confirm it."""
        given.request = confirming = confirmed_destroy(request, outcome)
        if confirming is None:
            self._pause(given, request.session_id)
        else:
            self._out.ask(confirming, partial(self._confirmed, given, request.session_id), lasting=True)

    def _confirmed(self, given: _Given, session_id: str, outcome: SessionAnswer) -> None:
        """The read that is to confirm a destroy was answered."""
        if isinstance(outcome, SessionRead) and outcome.session is None:
            self._former[session_id] = self._out.now + PREDECESSOR_WAIT  # an earlier refusal may still arrive
            self._given.pop(session_id, None)
        else:
            self._pause(given, session_id)

    def _pause(self, given: _Given, session_id: str) -> None:
        given.request = None
        pause = min(DESTROY_PAUSE_MAX, DESTROY_PAUSE * 2.0 ** min(given.attempts, 10))
        given.attempts += 1
        self._out.timer(("destroy", session_id), self._out.now + pause, partial(self.again, session_id))
