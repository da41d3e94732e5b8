"""The blocking queries of a factory: equal ones are shared, and they take turns when there are too many.

Keys
----

Several Lockers of one factory that wait for one key send the same query: what is there after this index? If such a
query is in flight already, the next one that asks joins it and gets its answer.

No wake-up is missed by that. Consul answers a query with an index when there is a change after that index; it does not
matter when the query was sent, and for which Locker. A read (index 0) is answered at once with the present state. A
Locker that joins it late may get a state from before its own refusal: an earlier holder, or a free key. That does no
harm. Its next query has the index of the answer, so Consul answers that one at once if anything has changed since. And
if it takes the key for free, it tries to lock the key and is refused again.

The waiting calls of a fair Locker watch a different key each and share nothing; but of the calls of one Locker only the
first one watches.

Sessions
--------
A few Lockers watch their own sessions, each with a query that no other session wakes (measured). The sessions of more
Lockers are watched by one query on all sessions of their node (rule 2). It is woken when any session is created or
destroyed there, but neither by renewals nor by keys (measured).

Polls
-----
If there is no connection that a query could keep (``max_connections`` of 3, or Consul refuses connections), a watch is
a poll: a read without an index, repeated with a pause until it shows another index. One runs at a time, only for a
moment, so other requests get the connection in between.

Addresses
---------
An index was seen at one address, and another one may be behind it. So when another address comes in use, the queries
under way end there, and each watch looks anew: a consistent read without an index, which the leader answers. What that
shows is told if its index is another one (a lower one means a restored snapshot, whatever the address); if it is the
same, the query goes on with it at the new address. An index that the core hands back soon after is looked at likewise.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace

from ..client.aio import AsyncTransport
from ..client.encode import Encoder, HttpRequest, HttpResponse
from ..config.options import ClientOptions
from ..core.requests import (
    Failed,
    Outcome,
    PollKey,
    SessionRead,
    SessionsRead,
    Watch,
    WatchKey,
    WatchNode,
    WatchSession,
)
from ..errors import ConsulLockerError, ConsulUnavailable
from ..models import SessionInfo

__all__ = ["WATCH_SHARE", "Watches"]

#: The most watches in flight, as a part of the connections: the rest is for requests that callers wait for.
WATCH_SHARE = 0.5
#: How many sessions of a factory are watched one by one; more are watched by one query on their node. One to three
#: connections are cheap, and such a query is not woken by other sessions (measured). The query on the node is, by every
#: session that is created or destroyed there, and its answer is a list of them all.
OWN_SESSION_WATCHES = 3
#: How long a turn lasts while more watches are wanted than may be in flight, in seconds.
WATCH_TURN = 1.0
#: The pause before each poll, in seconds: a change is noticed a second late at most.
POLL_PAUSE = 1.0
#: For so long after another address came in use an index may be one that was seen before, in seconds: the core watches
#: from it at once, or after a pause, which is 5 s at most.
INDEX_RETURNS = 10.0
#: How many queries on one node may begin in how many seconds. A proxy that ignores the index answers each at once (740
#: a second were measured), and each session that is created there ends one; each answer is a list of all its sessions.
NODE_QUERIES, NODE_QUERIES_IN = 4, 1.0


_Key = tuple[type[Watch], str, int, float]


class _Query:
    """One blocking query, and how many watches wait for its answer."""

    __slots__ = ("task", "wanted")

    task: asyncio.Task[Outcome]

    def __init__(self) -> None:
        self.wanted = 0


class _Node:
    """The sessions of a node, as the query on them showed them last, for all watches that share it."""

    __slots__ = ("index", "sessions", "watchers")

    def __init__(self) -> None:
        self.index = 0
        self.sessions: Mapping[str, SessionInfo] = {}
        self.watchers = 0

    def lacks(self, request: Watch) -> bool:
        """Whether a watched session is gone: it is missing, and its watch has seen no newer state than this one."""
        return request.index <= self.index and request.name not in self.sessions


class _Moved(Exception):
    """Another address came in use while a query was under way. ``error``: how it failed; None: it was ended."""

    def __init__(self, error: ConsulLockerError | None) -> None:
        super().__init__()
        self.error = error


class Watches:
    """The watches of the Lockers of one factory, on the running event loop.

    Args:
        options: of the factory.
        encoder: makes HTTP requests of the core's.
        transport: sends them.
        allowed: tells how many connections watches may keep at present; with 0 they are polls.
    """

    def __init__(
        self, options: ClientOptions, encoder: Encoder, transport: AsyncTransport, allowed: Callable[[], int]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._options = options
        self._encoder = encoder
        self._transport = transport
        self._queries: dict[_Key, _Query] = {}  # those that another watch can join
        self._allowed = allowed
        self._running = 0
        self._nodes: dict[str, _Node] = {}  # those that are watched
        self._begun: dict[str, deque[float]] = {}  # node -> when the latest queries on it began
        # Watches on keys come first: a caller waits for each; a lost session is noticed by its renewal, too.
        kinds = (WatchKey, PollKey, WatchNode, WatchSession)
        self._lines: dict[type[Watch], deque[asyncio.Future[None]]] = {kind: deque() for kind in kinds}
        self._crowded = asyncio.Event()  # set while watches wait for their turn
        self._asking: set[asyncio.Task[HttpResponse]] = set()  # queries with an index
        self._moved_at = float("-inf")  # when another address came in use
        transport.addresses.on_move(self._moved)

    async def watch(self, request: Watch) -> Outcome:
        """What a watch is answered. If it is cancelled, its query ends, unless other watches share it.

        Raises:
            ConsulUnavailable: there is no answer; all watches that share the query get this.
            ConsulLockerError: it cannot be encoded.
        """
        if isinstance(request, WatchSession) and request.index and request.node and self._many_sessions():
            return await self._on_node(request)
        return await self._share(request)

    def _many_sessions(self) -> bool:
        alone = sum(1 for kind, _, index, _ in self._queries if kind is WatchSession and index)
        return alone >= OWN_SESSION_WATCHES

    async def _on_node(self, request: Watch) -> Outcome:
        """A watch on a session by the query on its node: answered when the session is gone, or nothing has changed."""
        node = self._nodes.setdefault(request.node, _Node())
        node.watchers += 1
        try:
            while not node.lacks(request):
                asked = node.index
                outcome = await self._share(WatchNode(request.generation, request.node, asked, request.wait))
                if not isinstance(outcome, SessionsRead):
                    return outcome
                if node.index == asked:  # the first of the watches that share this answer
                    node.index, node.sessions = outcome.index, outcome.sessions
                if outcome.index <= asked:  # nothing new: answer as a query on the one session would, with its index
                    session = outcome.sessions.get(request.name)
                    return SessionRead(session, min(outcome.index, request.index))
            return SessionRead(None, node.index)
        finally:
            node.watchers -= 1
            if not node.watchers:  # what was seen may be outdated when the next watch begins
                del self._nodes[request.node]

    async def _share(self, request: Watch) -> Outcome:
        key = type(request), request.name, request.index, request.wait
        query = self._queries.get(key)
        if query is None:
            query = self._queries[key] = _Query()
            query.task = self._loop.create_task(self._ask(key, query, request))
        query.wanted += 1
        try:
            await asyncio.wait({query.task})  # if this is cancelled, the query goes on
        except asyncio.CancelledError:
            query.wanted -= 1
            if not query.wanted:
                self._unshare(key, query)
                query.task.cancel()  # if it has just failed, no watch is left to be told
                await asyncio.wait({query.task})  # its connection is closed then
            raise
        return query.task.result()

    async def _ask(self, key: _Key, query: _Query, request: Watch) -> Outcome:
        """One blocking query, when its turn comes; again with the same index if its turn was cut short."""
        looks = request.index > 0 and self._loop.time() < self._moved_at + INDEX_RETURNS
        failures = 0
        try:
            while True:
                await self._pause(request)
                await self._await_turn(type(request))
                try:
                    outcome = await (self._poll(request, consistent=True) if looks else self._turn(request))
                    looks = False
                except _Moved as moved:
                    outcome, looks = None, True
                    failures += moved.error is not None
                    if moved.error is not None and failures == len(self._transport.addresses.peers):
                        raise moved.error from None
                finally:
                    self._end_turn()
                if outcome is not None:
                    return outcome
        finally:
            self._unshare(key, query)  # before the answer is given: the next watch needs a newer one

    def _unshare(self, key: _Key, query: _Query) -> None:
        """Let no other watch join a query; another query may have replaced it already."""
        if self._queries.get(key) is query:
            del self._queries[key]

    async def _pause(self, request: Watch) -> None:
        """Wait before a query begins, if there were too many. Nothing is missed by that: queries have an index."""
        if request.index and not self._allowed():
            await asyncio.sleep(POLL_PAUSE)  # the present state was read just before
        elif isinstance(request, WatchNode):
            begun = self._begun.setdefault(request.name, deque(maxlen=NODE_QUERIES))
            if len(begun) == NODE_QUERIES:
                await asyncio.sleep(max(0.0, begun[0] + NODE_QUERIES_IN - self._loop.time()))
            begun.append(self._loop.time())

    def _moved(self) -> None:
        """Another address came in use; called in any thread."""
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._look_anew)

    def _look_anew(self) -> None:
        self._moved_at = self._loop.time()
        for asking in self._asking:
            asking.cancel()

    # ------------------------------------------------------------------------------------------ turns

    def give_way(self) -> None:
        """Fewer watches are allowed than before: running ones end their turn, and wait in line for the next."""
        if self._running > self._allowed():
            self._crowded.set()

    @property
    def _most(self) -> int:
        """How many queries may run; if none may keep a connection, one poll."""
        return max(1, self._allowed())

    async def _await_turn(self, kind: type[Watch]) -> None:
        """Wait for a turn. First come, first served; watches on keys before those on sessions."""
        if self._running < self._most and not self._waiting:
            self._running += 1
            return
        turn = self._loop.create_future()
        self._lines[kind].append(turn)
        self._crowded.set()
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self._end_turn()
            elif turn in self._lines[kind]:  # else its turn came just now
                self._lines[kind].remove(turn)
                self._uncrowd()
            raise

    def _end_turn(self) -> None:
        """A turn has ended: the next one begins, unless fewer watches are allowed now."""
        self._running -= 1
        for line in self._lines.values():
            while line and self._running < self._most:
                turn = line.popleft()
                if not turn.done():
                    self._running += 1
                    turn.set_result(None)
        self._uncrowd()

    @property
    def _waiting(self) -> bool:
        return any(self._lines.values())

    def _uncrowd(self) -> None:
        if not self._waiting:
            self._crowded.clear()

    async def _turn(self, request: Watch) -> Outcome | None:
        """The query itself. None if its turn is over, since other watches wait."""
        if not self._allowed():
            return await self._poll(request)
        wait, began = request.wait if not self._waiting else min(request.wait, WATCH_TURN), self._loop.time()
        http = self._encoder.encode(replace(request, wait=wait))
        # Consul adds up to a sixteenth to the wait (doc), then it needs the time of any request.
        limit = wait * (1 + 1 / 16) + self._options.timeout
        moves = self._transport.addresses.moves
        asking = self._loop.create_task(self._transport.send(http, limit, stays=request.index > 0))
        if request.index:
            self._asking.add(asking)
        crowded = self._loop.create_task(self._crowded.wait())
        try:
            await asyncio.wait({asking}, timeout=WATCH_TURN)
            await asyncio.wait({asking, crowded}, return_when=asyncio.FIRST_COMPLETED)
            if asking.done() or wait < request.wait:  # a query with a short wait is answered soon
                await asyncio.wait({asking})
                outcome = self._outcome(http, asking, moves)
                # An answer with nothing new before its wait is over means something, too: a snapshot was restored.
                over = wait < request.wait and self._loop.time() - began >= wait
                return None if over and getattr(outcome, "index", None) == request.index else outcome
            return None
        finally:
            self._asking.discard(asking)
            if not self._loop.is_closed():  # a closed loop has no tasks left
                crowded.cancel()
                asking.cancel()
                await asyncio.wait({asking, crowded})

    def _outcome(self, http: HttpRequest, asking: asyncio.Task[HttpResponse], moves: int) -> Outcome:
        """What a query was answered; ``moves`` is the number when it began."""
        if asking.cancelled():
            raise _Moved(None)
        stayed = self._transport.addresses.moves == moves
        try:
            outcome = http.decode(asking.result())
        except ConsulUnavailable as error:
            if stayed:
                raise
            raise _Moved(error) from None
        if isinstance(outcome, Failed) and not stayed:
            raise _Moved(outcome.error)
        return outcome

    async def _poll(self, request: Watch, consistent: bool = False) -> Outcome | None:
        """The present state; None if it is not new."""
        # Consul takes a wait of 0 for its own default, so no index is sent: such a read is answered at once.
        http = self._encoder.encode(replace(request, index=0))
        if consistent:
            http = http.consistent()
        outcome = http.decode(await self._transport.send(http, self._options.timeout))
        return None if request.index and getattr(outcome, "index", None) == request.index else outcome
