"""The blocking queries of a factory: equal ones are shared, and what finds no connection for one polls.

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

Left queries
------------
A query on a key that no watch waits for any more is left to its end, and keeps its place: to close it would free
nothing. Consul counts its connection among those of the client's address (``http_max_conns_per_client``) until the wait
is over, whether the client has closed it or not (measured). A watch that wants the same again joins it. Queries on
sessions are closed: they are given up when their session ends, which answers them.

Polls
-----
A part of the connections may be with queries. If none of it is free (or it is nothing, with ``max_connections`` of 3,
or while Consul refuses connections), a watch is a poll: a read without an index, repeated with a pause until it shows
another index, or until there is a connection for a query. One runs at a time, only for a moment, so other requests get
the connection in between.

Names
-----
A query on all names below a Locker's (``core.hint``) is shared with nobody, and is never a poll: each answer is a list
of all keys. Where there are few connections it fails at once.

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

from msgspec.structs import replace

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
    WatchNames,
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
#: The most queries on names, as a part of the connections for watches: 8 of the usual 32. Each is of a Locker with many
#: locks, which does without where there is none.
NAMES_SHARE = 1 / 4
#: The pause before each poll, in seconds: a change is noticed about a second late.
POLL_PAUSE = 1.0
#: How many polls a factory makes in a second at most. With more watches that poll, each pauses longer: a read costs
#: the leader about 0.1 ms (measured), and many factories may have one.
POLLS = 100
#: For so long after another address came in use an index may be one that was seen before, in seconds: the core watches
#: from it at once, or after a pause, which is 5 s at most.
INDEX_RETURNS = 10.0
#: How many queries on one node may begin in how many seconds. A proxy that ignores the index answers each at once (740
#: a second were measured), and each session that is created there ends one; each answer is a list of all its sessions.
NODE_QUERIES, NODE_QUERIES_IN = 4, 1.0


_Key = tuple[type[Watch], str, int, float]


class _Query:
    """The way of one request to its answer, and how many watches wait for that.

    Attributes:
        in_flight: whether Consul has a blocking query of it.
    """

    __slots__ = ("in_flight", "task", "wanted")

    task: asyncio.Task[Outcome | None]

    def __init__(self) -> None:
        self.wanted = 0
        self.in_flight = False


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
        self._watching = 0  # how many watches wait for an answer
        self._running = 0  # how many queries are in flight,
        self._names = 0  # and how many of them are on names
        self._nodes: dict[str, _Node] = {}  # those that are watched
        self._begun: dict[str, deque[float]] = {}  # node -> when the latest queries on it began
        self._tasks: set[asyncio.Task[Outcome | None]] = set()
        self._pausing = 0  # how many watches pause before a poll
        self._poll_turn = asyncio.Lock()
        self._asking: set[asyncio.Task[HttpResponse]] = set()  # queries with an index
        self._moved_at = float("-inf")  # when another address came in use
        transport.addresses.on_move(self._moved)

    async def watch(self, request: Watch) -> Outcome:
        """What a watch is answered. It may be cancelled.

        Raises:
            ConsulUnavailable: there is no answer; all watches that share the query get this.
            ConsulLockerError: it cannot be encoded.
        """
        self._watching += 1
        try:
            if isinstance(request, WatchSession) and request.index and request.node and self._many_sessions():
                return await self._on_node(request)
            if isinstance(request, WatchNames):
                return await self._on_names(request)
            return await self._share(request)
        finally:
            self._watching -= 1
            if not self._watching and not self._loop.is_closed():  # of no session either: all Lockers are stopped
                await self.close()

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

    async def _on_names(self, request: WatchNames) -> Outcome:
        if self._names >= int(self._allowed() * NAMES_SHARE):
            return Failed(ConsulUnavailable("no connection can be kept for a hint"), False)
        self._names += 1
        self._running += 1
        try:
            http = self._encoder.encode(request)
            return http.decode(await self._transport.send(http, request.timeout, stays=True))
        finally:
            self._names -= 1
            self._running -= 1

    async def _share(self, request: Watch) -> Outcome:
        key = type(request), request.name, request.index, request.wait
        query = self._queries.get(key)
        if query is None:
            query = self._queries[key] = _Query()
            query.task = self._loop.create_task(self._ask(key, query, request))
            self._tasks.add(query.task)
            query.task.add_done_callback(self._ended)
        query.wanted += 1
        try:
            await asyncio.wait({query.task})  # if this is cancelled, the query goes on
        except asyncio.CancelledError:
            query.wanted -= 1
            if not query.wanted and not (query.in_flight and isinstance(request, WatchKey)):
                self._unshare(key, query)
                query.task.cancel()
                await asyncio.wait({query.task})  # its connection is closed then
            raise
        outcome = query.task.result()
        assert outcome is not None  # it was wanted
        return outcome

    def _ended(self, task: asyncio.Task[Outcome | None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # of a query that no watch waited for, nobody else asks for it

    async def close(self) -> None:
        """End all queries, those too that no watch waits for."""
        for task in self._tasks:
            task.cancel()
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _ask(self, key: _Key, query: _Query, request: Watch) -> Outcome | None:
        """Query or poll until there is something new. None if it is not wanted any more."""
        looks = request.index > 0 and self._loop.time() < self._moved_at + INDEX_RETURNS
        failures = 0
        try:
            while query.wanted:
                await self._pause(request)
                try:
                    if looks:
                        outcome = await self._poll(request, consistent=True)
                        looks = False
                    elif self._has_place(request):
                        outcome = await self._block(query, request)
                    else:
                        outcome = await self._poll(request)
                except _Moved as moved:
                    outcome, looks = None, True
                    failures += moved.error is not None
                    if moved.error is not None and failures == len(self._transport.addresses.peers):
                        raise moved.error from None
                if outcome is not None:
                    return outcome
            return None
        finally:
            self._unshare(key, query)  # before the answer is given: the next watch needs a newer one

    def _unshare(self, key: _Key, query: _Query) -> None:
        """Let no other watch join a query; another query may have replaced it already."""
        if self._queries.get(key) is query:
            del self._queries[key]

    def _has_place(self, request: Watch) -> bool:
        """Whether a query may keep a connection. The last one is for keys: a caller waits for each of those."""
        kept = 0 if isinstance(request, WatchKey | PollKey) else 1
        return self._running + kept < self._allowed()

    async def _pause(self, request: Watch) -> None:
        """Wait before a request, if there are too many. Nothing is missed by that: queries have an index."""
        if request.index and not self._has_place(request):
            self._pausing += 1
            try:
                await asyncio.sleep(max(POLL_PAUSE, self._pausing / POLLS))  # the present state was read just before
            finally:
                self._pausing -= 1
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

    def give_way(self) -> None:
        """There are fewer connections than before: queries become polls as far as they leave none for requests."""
        for asking in list(self._asking)[: max(0, self._running - self._transport.most + 1)]:
            asking.cancel()

    # ---------------------------------------------------------------------------------------- requests

    async def _block(self, query: _Query, request: Watch) -> Outcome:
        """The blocking query."""
        http = self._encoder.encode(request)
        # Consul adds up to a sixteenth to the wait (doc), then it needs the time of any request.
        limit = request.wait * (1 + 1 / 16) + self._options.timeout
        moves = self._transport.addresses.moves
        asking = self._loop.create_task(self._transport.send(http, limit, stays=request.index > 0))
        if request.index:
            self._asking.add(asking)
        self._running += 1
        query.in_flight = True
        try:
            await asyncio.wait({asking})
            return self._outcome(http, asking, moves)
        finally:
            query.in_flight = False
            self._running -= 1
            self._asking.discard(asking)
            if not self._loop.is_closed():  # a closed loop has no tasks left
                asking.cancel()
                await asyncio.wait({asking})

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
        async with self._poll_turn:
            outcome = http.decode(await self._transport.send(http, self._options.timeout))
        return None if request.index and getattr(outcome, "index", None) == request.index else outcome
