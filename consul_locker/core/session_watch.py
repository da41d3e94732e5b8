"""The watch on the session in use: its end is noticed at once, and so is a restored snapshot (rule 2)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ..lease import SessionLife
from .requests import SessionAnswer, SessionRead, WatchSession
from .step import Outbox

__all__ = ["WATCH_PAUSE", "WATCH_PAUSE_MAX", "WATCH_WAIT", "SessionWatch"]

#: How long Consul may hold a watch on the session, in seconds: its own default (doc). An event wakes it in
#: 3 ms (measured), so the length only decides how often an idle one is renewed.
WATCH_WAIT = 300.0
#: A watch that took this part of its wait was idle. Consul never answers one before its wait is over unless something
#: happened; the margin is for clocks that differ.
IDLE = 0.99
#: A watch that is answered sooner than this, in seconds, is a quick one. Some are normal (the first watch, a change
#: right after it, a restored snapshot). A proxy that ignores the index answers all of them quickly.
QUICK_WATCH = 1.0
#: After up to this many quick answers in a row the next watch is sent at once; after more, a pause that grows.
QUICK_WATCHES = 2
#: The first and the longest pause before the next watch after a failure, or a quick answer, in seconds.
WATCH_PAUSE = 0.5
WATCH_PAUSE_MAX = 5.0


class SessionWatch:
    """The watch on the session of one Locker.

    Args:
        outbox: of the Locker.
        ask_leader: has the leader read the session, since the watch does not show it.
        restored: told that there is a sign of a restored snapshot.
    """

    __slots__ = (
        "_answered", "_ask_leader", "_failures", "_from", "_life", "_node", "_out", "_quick", "_restored", "_since",
    )  # fmt: skip

    def __init__(self, outbox: Outbox, ask_leader: Callable[[], object], restored: Callable[[], None]) -> None:
        self._out = outbox
        self._ask_leader = ask_leader
        self._restored = restored
        self._life: SessionLife  # from `begin` on
        self._since = 0.0  # when the request under way was sent
        self._failures = 0  # in a row: answers that failed, or did not show the session
        self._quick = 0  # in a row
        self._from = 0  # the index of the request that follows the pause
        self._answered = False  # whether the watch of this session was ever answered
        self._node = ""  # where the session is, once an answer has said so

    def begin(self, life: SessionLife) -> None:
        """Watch a session."""
        self._life = life
        self._failures = self._quick = 0
        self._answered = False
        self._node = ""
        self._again(0)

    def end(self) -> None:
        """The session is over. A request under way ends with its generation."""
        self._out.cancel(("watch", "session"))

    def _again(self, index: int) -> None:
        request = WatchSession(self._life.generation, self._life.session_id, index, WATCH_WAIT, self._node)
        self._since = self._out.now
        self._out.ask(request, partial(self._watched, request))

    def _watched(self, request: WatchSession, outcome: SessionAnswer) -> None:
        """The watch on the session was answered.

        Answered with nothing new before its wait was over, it is a sign of a restored snapshot.
        """
        # A query from index 0 that is not the first follows one that failed, or that did not find the session: then a
        # snapshot may have been restored.
        started_over, self._answered = self._answered and request.index == 0, True
        if not isinstance(outcome, SessionRead) or outcome.session is None:
            self._failures += 1
            self._later(self._failures)
            if isinstance(outcome, SessionRead):
                # A server that has not applied its log yet shows no session either: ask the leader. Gone and back
                # again, a snapshot was restored.
                self._ask_leader()
            return
        self._failures = 0
        lasted = self._out.now - self._since
        self._quick = self._quick + 1 if lasted < QUICK_WATCH else 0
        self._node = outcome.session.node
        if outcome.index == request.index and lasted >= request.wait * IDLE:
            self._again(outcome.index)  # its wait was over, and nothing had happened
            return
        # An index that does not rise may mean a restored snapshot (doc, measured): begin at 0 again.
        index = outcome.index if outcome.index > request.index else 0
        if self._quick > QUICK_WATCHES:
            self._later(self._quick - QUICK_WATCHES, index)
        else:
            self._again(index)
        if started_over or 0 < outcome.index <= request.index:
            self._restored()

    def _later(self, times: int, index: int = 0) -> None:
        self._from = index
        pause = min(WATCH_PAUSE * 2.0 ** min(times - 1, 10), WATCH_PAUSE_MAX)
        at = self._out.now + pause * (0.5 + self._out.random() / 2)
        self._out.timer(("watch", "session"), at, self._rewatch)

    def _rewatch(self) -> None:
        """Watch again, after a pause: with an index if there is one, as looks alone are quick and pause for ever."""
        self._again(self._from)
        if self._from > 0:  # a query with an index does not show a snapshot that was restored meanwhile
            self._restored()
