"""The embedded agent's HTTP server: connections, blocking queries, timers, and faults on request.

Everything here runs on one event loop in one thread, the store included, so that nothing needs a mutex.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate

from .api import Api
from .forms import Answer, Blocking, Request
from .http import BAD, CONTINUE, Asked, Requests, written
from .records import ANY_KEY, ANY_SESSION, Changes, Scope

__all__ = ["Fault", "Server"]


@dataclass
class Fault:
    """What `Agent.fail_next` arranged: ``left`` requests whose path begins with ``path`` fail like this."""

    left: int
    answer: Answer
    path: str | None = None
    after_commit: bool = False
    drop: bool = False

    def concerns(self, request: Request) -> bool:
        """Whether this request is one of them."""
        return self.path is None or request.target.startswith(self.path)


@dataclass(eq=False)
class Wait:
    """A blocking query that is waiting.

    Attributes:
        deadline: when it is answered with whatever there is.
        scope: a change in it can change the answer.
    """

    connection: Connection
    query: Blocking
    deadline: float
    scope: Scope
    done: bool = field(default=False)


class Connection(asyncio.Protocol):
    """One client's connection: requests in, answers out, one after another."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._requests = Requests()
        self._transport: asyncio.Transport | None = None
        self._asked: Asked | None = None
        self._wait: Wait | None = None

    # ----------------------------------------------------------------------------- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        assert isinstance(transport, asyncio.Transport)  # a TCP server makes no other
        self._transport = transport
        self._server.connections.add(self)

    def data_received(self, data: bytes) -> None:
        """Some bytes of a request."""
        self._requests.feed(data)
        self.proceed()

    def connection_lost(self, error: Exception | None) -> None:
        """The client has disconnected; its requests are carried out all the same."""
        self._transport = None
        self._server.connections.discard(self)
        if self._wait is not None:
            self._server.forget(self._wait)
            self._wait = None

    def abort(self) -> None:
        """Close it at once, without an answer."""
        if self._transport is not None:
            self._transport.abort()

    # ------------------------------------------------------------------------------------- requests

    def proceed(self) -> None:
        """Answer the requests that have arrived completely."""
        while self._wait is None:
            if self._server.paused:
                self._server.parked[self] = None
                return
            if not self._requests.whole:
                if self._requests.expects:
                    self._requests.expects = False
                    self._write(CONTINUE)
                return
            self._asked = self._requests.whole.popleft()
            if self._asked is None:
                self._write(BAD)
                self._close()
                return
            wait = self._server.serve(self, self._asked.request)
            if wait is not None and self._transport is None:
                self._server.forget(wait)  # asked during a pause by a client that has gone since
                return
            self._wait = wait

    def answer(self, answer: Answer) -> None:
        """Answer the present request."""
        self._wait = None
        asked = self._asked
        assert asked is not None  # answers are given to requests only
        headers = [
            *answer.headers,
            ("Vary", "Accept-Encoding"),
            ("Date", self._server.date()),
            ("Content-Length", str(len(answer.body))),
        ]
        stays = asked.stays and not answer.close
        if not stays:
            headers.append(("Connection", "close"))
        self._write(written(answer.status, headers, b"" if asked.request.method == "HEAD" else answer.body))
        if not stays:
            self._requests.end()
            self._close()

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class Server:
    """Serves an `Api` to connections; told the time by ``clock``.

    Args:
        api: what answers.
        clock: the present time, in seconds.
        call_later: the event loop's; None when the clock's owner calls `tick` by itself.
    """

    def __init__(
        self,
        api: Api,
        clock: Callable[[], float],
        call_later: Callable[[float, Callable[[], None]], asyncio.TimerHandle] | None,
    ) -> None:
        self.api = api
        self.connections: set[Connection] = set()
        self.parked: dict[Connection, None] = {}  # what came in during a pause, in its order
        self.paused = False
        self.faults: list[Fault] = []
        self.requests: Counter[tuple[str, str]] = Counter()
        self._clock = clock
        self._call_later = call_later
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at: float | None = None
        self._waits: dict[Scope, list[Wait]] = {}
        self._deadlines: list[tuple[float, int, Wait]] = []  # a heap; those that are done stay until they come up
        self._numbers = itertools.count()
        self._date = ("", -1.0)

    def date(self) -> str:
        """The Date header, made anew once a second."""
        text, until = self._date
        now = self._clock()
        if not text or now >= until:
            text = formatdate(usegmt=True)
            self._date = (text, now + 1.0)
        return text

    # ------------------------------------------------------------------------------------- requests

    def serve(self, connection: Connection, request: Request) -> Wait | None:
        """Answer a request on its connection, or return the wait it became."""
        self.requests[request.method, self.api.endpoint(request.target)] += 1
        fault = next((fault for fault in self.faults if fault.concerns(request)), None)
        if fault is not None:
            fault.left -= 1
            if fault.left <= 0:
                self.faults.remove(fault)
            if fault.after_commit:
                self.api.handle(request, self._clock())
                self.look()
            if fault.drop:
                connection.abort()
            else:
                connection.answer(fault.answer)
            return None
        answer = self.api.handle(request, self._clock())
        if isinstance(answer, Answer):
            connection.answer(answer)
            self.look()
            return None
        first, index, scope = answer.read()
        if index > answer.index:
            connection.answer(first)
            return None
        wait = Wait(connection, answer, self._clock() + answer.wait, scope)
        self._waits.setdefault(scope, []).append(wait)
        heapq.heappush(self._deadlines, (wait.deadline, next(self._numbers), wait))
        self._arm()
        return wait

    # ------------------------------------------------------------------------------------- waiting

    def look(self) -> None:
        """Wake the blocking queries that wait for what was written, and set the timer again."""
        if self.paused:
            return  # `resume` does it later
        changes = self.api.store.take_changes()
        if changes is not None:
            for wait in self._concerned(changes):
                self._look_again(wait)
        self._arm()

    def _concerned(self, changes: Changes) -> list[Wait]:
        if not self._waits:
            return []
        scopes: list[Scope] = [("key", key) for key in changes.keys]
        scopes += [("session", id) for id in changes.sessions]
        if changes.keys:
            scopes.append(ANY_KEY)
            for kind, prefix in self._waits:
                if kind == "prefix" and any(key.startswith(prefix) for key in changes.keys):
                    scopes.append((kind, prefix))
        if changes.sessions:
            scopes.append(ANY_SESSION)
        return [wait for scope in scopes for wait in self._waits.get(scope, ())]

    def _look_again(self, wait: Wait) -> None:
        answer, index, scope = wait.query.read()
        if index > wait.query.index:
            self._finish(wait, answer)
        elif scope != wait.scope:  # it appeared or vanished, yet its index is not past the one waited for
            self._unlist(wait)
            wait.scope = scope
            self._waits.setdefault(scope, []).append(wait)

    def _finish(self, wait: Wait, answer: Answer) -> None:
        self.forget(wait)
        wait.connection.answer(answer)
        wait.connection.proceed()

    def forget(self, wait: Wait) -> None:
        """A wait is over, answered or not."""
        wait.done = True
        self._unlist(wait)

    def _unlist(self, wait: Wait) -> None:
        waits = self._waits[wait.scope]
        waits.remove(wait)
        if not waits:
            del self._waits[wait.scope]

    # ---------------------------------------------------------------------------------------- time

    def _next_deadline(self) -> float | None:
        while self._deadlines and self._deadlines[0][2].done:
            heapq.heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else None

    def tick(self) -> None:
        """Do everything that is due, in the order in which it became due."""
        if self.paused:
            return  # as with a stopped process, time passes but nothing happens
        now = self._clock()
        while True:
            expiry, deadline = self.api.store.next_expiry(), self._next_deadline()
            if expiry is not None and expiry <= now and (deadline is None or expiry <= deadline):
                self.api.store.expire(expiry)
                self.look()
            elif deadline is not None and deadline <= now:
                wait = self._deadlines[0][2]
                self._finish(wait, wait.query.read()[0])
            else:
                break
        self._arm()

    def _arm(self) -> None:
        """Set the timer, so that `tick` is called when the next thing is due."""
        if self._call_later is None:
            return
        due = [moment for moment in (self.api.store.next_expiry(), self._next_deadline()) if moment is not None]
        at = min(due, default=None)
        if at == self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = None if at is None else self._call_later(max(0.0, at - self._clock()), self._timer_fired)

    def clock_moved(self) -> None:
        """The clock was moved: what is due happens, and the timer is set anew."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._timer_at = None
        self.tick()

    def _timer_fired(self) -> None:
        self._timer = self._timer_at = None
        self.tick()

    def resume(self) -> None:
        """End a pause: what became due happens, then what came in is answered, in its order."""
        self.paused = False
        self.tick()
        self.look()
        parked, self.parked = self.parked, {}
        for connection in parked:
            connection.proceed()

    def hang_up(self) -> None:
        """Close every connection without an answer, and drop their requests."""
        self.parked.clear()
        for connection in list(self.connections):
            connection.abort()
