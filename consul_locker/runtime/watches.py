"""The blocking queries of a factory: one for all who wait for the same, and turns when they are too many.

Keys
----

Several Lockers of one factory that wait for one key ask the very same: what is there once it has changed
since this index. Whoever asks that while such a query is in flight joins it, and gets its answer.

No wake-up is missed by that. A query with an index is answered when there was a change after that index,
no matter when it was sent or who sent it. A look (index 0) is answered at once with the state that it
finds, which may be older than the wish of one who joined it late: it may show the holder before the one
by whom he was refused, or a free key. But the next query of everyone who gets the answer carries *its* index, so
Consul answers that one at once if anything has changed since; and who finds a key free that is not, tries and
is refused again.

Waiters of a fair Locker watch a key each and share nothing; but of the callers of one Locker only the first one
watches.

Sessions
--------
A few Lockers watch their own sessions, which nobody else's wake (measured). The sessions of more of them are watched by
one query on all sessions of their node (rule 2); it is woken whenever one is created or destroyed there, but neither by
renewals nor by keys (measured).

Polls
-----
Where there is no connection that a query could keep (``max_connections`` of 3, or Consul refuses connections) a watch
is a poll: a read without an index, again and again with a pause, until it shows another index. One is under way at a
time, for a moment, so others have the connection in between.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping

from ..client.aio import AsyncTransport
from ..client.encode import Encoder
from ..config.options import ClientOptions
from ..core.requests import Outcome, SessionRead, SessionsRead, Watch
from ..models import SessionInfo

__all__ = ["WATCH_SHARE", "Watching"]

#: Watches in flight at most, as a part of the connections: the rest is for what callers wait for.
WATCH_SHARE = 0.5
#: So many sessions of a factory are watched one by one; those of more Lockers by one query on their node. One to three
#: connections are cheap, and such a query is woken by nobody else's sessions (measured); the one on the node is,
#: whenever one is created or destroyed there, and answered with a list of them all.
OWN_SESSION_WATCHES = 3
#: While more watches are wanted than may be in flight they take turns, this long each, in seconds.
WATCH_TURN = 1.0
#: The pause before each poll, in seconds: what is noticed by it is noticed a second late at most.
POLL_PAUSE = 1.0
#: So many queries on one node begin in so many seconds, at most. An intermediary that ignores the index answers each at
#: once (740 a second were measured), and each answer is a list of all sessions there; so is each new session.
NODE_QUERIES, NODE_QUERIES_IN = 4, 1.0


_Key = tuple[str, str, int, float]


class _Query:
    """One blocking query, and how many wait for its answer."""

    __slots__ = ("task", "wanted")

    task: asyncio.Task[Outcome]

    def __init__(self) -> None:
        self.wanted = 0


class _Node:
    """The sessions of a node as the query on them has shown them last, for those who share it."""

    __slots__ = ("index", "sessions", "watchers")

    def __init__(self) -> None:
        self.index = 0
        self.sessions: Mapping[str, SessionInfo] = {}
        self.watchers = 0

    def lacks(self, request: Watch) -> bool:
        """Whether a session is gone that its watcher has seen: what is shown here is no older than what he saw."""
        return request.index <= self.index and request.name not in self.sessions


class Watching:
    """The watches of the Lockers of one factory, on the running event loop.

    Args:
        options: of the factory.
        encoder: makes HTTP requests of the core's.
        transport: sends them.
        places: tells how many connections watches may keep at present; with 0 they are polls.
    """

    def __init__(
        self, options: ClientOptions, encoder: Encoder, transport: AsyncTransport, places: Callable[[], int]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._options = options
        self._encoder = encoder
        self._transport = transport
        self._queries: dict[_Key, _Query] = {}  # those that can be joined
        self._places = places
        self._taken = 0
        self._nodes: dict[str, _Node] = {}  # those that are watched
        self._begun: dict[str, deque[float]] = {}  # node -> when the latest queries on it began, watched or not
        # Those on keys come first: a caller waits for each, and a lost session is noticed by its renewal too.
        kinds = ("key", "poll", "node", "session")
        self._lines: dict[str, deque[asyncio.Future[None]]] = {kind: deque() for kind in kinds}
        self._crowded = asyncio.Event()  # while watches wait for a place

    async def watch(self, request: Watch) -> Outcome:
        """What a watch is answered. Cancelled, it ends its query, unless others wait for that too.

        Raises:
            ConsulUnavailable: there is no answer; everyone who shares the query is told so.
            ConsulLockerError: it cannot be encoded.
        """
        if request.target == "session" and request.index and request.node and self._many_sessions():
            return await self._on_node(request)
        return await self._share(request)

    def _many_sessions(self) -> bool:
        alone = sum(1 for target, _, index, _ in self._queries if target == "session" and index)
        return alone >= OWN_SESSION_WATCHES

    async def _on_node(self, request: Watch) -> Outcome:
        """A watch on a session by the query on its node: answered when it is gone, or the query had nothing new."""
        node = self._nodes.setdefault(request.node, _Node())
        node.watchers += 1
        try:
            while not node.lacks(request):
                asked = node.index
                outcome = await self._share(Watch(request.generation, "node", request.node, asked, request.wait))
                if not isinstance(outcome, SessionsRead):
                    return outcome
                if node.index == asked:  # the first to go on, of all who share this answer
                    node.index, node.sessions = outcome.index, outcome.sessions
                if outcome.index <= asked:  # the watcher is told, as by a query of his own: in terms of his own index
                    session = outcome.sessions.get(request.name)
                    return SessionRead(session, min(outcome.index, request.index))
            return SessionRead(None, node.index)
        finally:
            node.watchers -= 1
            if not node.watchers:  # what was seen says nothing of the time when nobody watches
                del self._nodes[request.node]

    async def _share(self, request: Watch) -> Outcome:
        key = request.target, request.name, request.index, request.wait
        query = self._queries.get(key)
        if query is None:
            query = self._queries[key] = _Query()
            query.task = self._loop.create_task(self._ask(key, query, request))
        query.wanted += 1
        try:
            await asyncio.wait({query.task})  # which does not end it when this is cancelled
        except asyncio.CancelledError:
            query.wanted -= 1
            if not query.wanted:
                self._forget(key, query)
                query.task.cancel()  # one that has just failed has nobody else to tell, and asyncio does not complain
                await asyncio.wait({query.task})  # its connection is closed then
            raise
        return query.task.result()

    async def _ask(self, key: _Key, query: _Query, request: Watch) -> Outcome:
        """One blocking query, when it is its turn; again with the same index when its turn was cut short."""
        try:
            while True:
                await self._pause(request)
                await self._take_place(request.target)
                try:
                    outcome = await self._turn(request)
                finally:
                    self._give_place()
                if outcome is not None:
                    return outcome
        finally:
            self._forget(key, query)  # before anybody has the answer: the next who asks wants a newer one

    def _forget(self, key: _Key, query: _Query) -> None:
        """Nobody joins it any more; by now there may be another one in its place."""
        if self._queries.get(key) is query:
            del self._queries[key]

    async def _pause(self, request: Watch) -> None:
        """Wait before a query begins, where there would be too many. Nothing is missed by that: they have an index."""
        if request.index and not self._places():
            await asyncio.sleep(POLL_PAUSE)  # what is there at present was seen just now
        elif request.target == "node":
            begun = self._begun.setdefault(request.name, deque(maxlen=NODE_QUERIES))
            if len(begun) == NODE_QUERIES:
                await asyncio.sleep(max(0.0, begun[0] + NODE_QUERIES_IN - self._loop.time()))
            begun.append(self._loop.time())

    # ------------------------------------------------------------------------------------------ turns

    def give_way(self) -> None:
        """There are fewer places than before: the turns of those under way end, and they stand in the line again."""
        if self._taken > self._places():
            self._crowded.set()

    @property
    def _most(self) -> int:
        """How many queries may be under way; one poll where none may stay."""
        return max(1, self._places())

    async def _take_place(self, target: str) -> None:
        """First come, first served, among those on keys, then among those on sessions."""
        if self._taken < self._most and not self._waiting:
            self._taken += 1
            return
        turn = self._loop.create_future()
        self._lines[target].append(turn)
        self._crowded.set()
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self._give_place()
            elif turn in self._lines[target]:  # a place that came free since then took it out
                self._lines[target].remove(turn)
                self._uncrowd()
            raise

    def _give_place(self) -> None:
        """A place is free: it goes to the first in the line who still wants it, unless there are fewer now."""
        self._taken -= 1
        for line in self._lines.values():
            while line and self._taken < self._most:
                turn = line.popleft()
                if not turn.done():
                    self._taken += 1
                    turn.set_result(None)
        self._uncrowd()

    @property
    def _waiting(self) -> bool:
        return any(self._lines.values())

    def _uncrowd(self) -> None:
        if not self._waiting:
            self._crowded.clear()

    async def _turn(self, request: Watch) -> Outcome | None:
        """The query itself; None when others waited for its place, and it had been there long enough."""
        if not self._places():
            return await self._poll(request)
        wait, began = request.wait if not self._waiting else min(request.wait, WATCH_TURN), self._loop.time()
        http = self._encoder.encode(Watch(request.generation, request.target, request.name, request.index, wait))
        # Consul adds up to a sixteenth to the wait (doc), then it needs the time of any request.
        limit = wait * (1 + 1 / 16) + self._options.timeout
        asking = self._loop.create_task(self._transport.send(http, limit))
        crowded = self._loop.create_task(self._crowded.wait())
        try:
            await asyncio.wait({asking}, timeout=WATCH_TURN)
            await asyncio.wait({asking, crowded}, return_when=asyncio.FIRST_COMPLETED)
            if asking.done() or wait < request.wait:  # a short one is about to be answered
                outcome = http.decode(await asking)
                # What comes back with nothing new, before its wait is over, tells something: a snapshot was restored.
                over = wait < request.wait and self._loop.time() - began >= wait
                return None if over and getattr(outcome, "index", None) == request.index else outcome
            return None
        finally:
            if not self._loop.is_closed():  # of a closed loop no task is left to end
                crowded.cancel()
                asking.cancel()
                await asyncio.wait({asking, crowded})

    async def _poll(self, request: Watch) -> Outcome | None:
        """What is there now; None when it is nothing new."""
        # A wait of 0 means Consul's own default to it, so no index is sent: such a read is answered at once.
        look = Watch(request.generation, request.target, request.name, 0, request.wait)
        http = self._encoder.encode(look)
        outcome = http.decode(await self._transport.send(http, self._options.timeout))
        return None if request.index and getattr(outcome, "index", None) == request.index else outcome
