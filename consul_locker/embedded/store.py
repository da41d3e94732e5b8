"""The state of the embedded agent: sessions, keys, indexes. Pure: it is told the time and opens nothing.

It follows Consul's state store (source: agent/consul/state/{kvs,session,graveyard,delay}.go, Consul 1.8.7) in
what its clients can see:

- Every write has one index, also one that changes nothing; a key's ModifyIndex moves only when the key does.
- A session with a TTL ends 2 x TTL after it was made or renewed, never before TTL.
- When a session ends, its keys are released or deleted, and stay closed to everybody for its lock-delay.
- A deleted key leaves a tombstone, so that the index of a listing never falls.

Times are seconds on whatever clock the caller has, lock-delays and TTLs too.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from typing import TypeVar
from uuid import uuid4

from .golang import Invalid, check_uuid, quote
from .records import ANY_KEY, ANY_SESSION, Changes, Entry, Rejected, Session, SessionView, View

__all__ = ["Store"]

#: Consul ends a session only after this many TTLs, to spare those whose renewal is late
#: (source: structs.SessionTTLMultiplier).
TTL_MULTIPLIER = 2

#: The longest lock-delay that is applied, in seconds, whatever a session asks for (source: structs.MaxLockDelay).
MAX_LOCK_DELAY = 60.0


def _random_id() -> str:
    return str(uuid4())


def _by_bytes(entry: Entry) -> bytes:
    return entry.key.encode("utf-8", "surrogateescape")


_Kept = TypeVar("_Kept")


def _put_back(table: dict[str, _Kept], key: str, old: _Kept | None) -> None:
    if old is None:
        table.pop(key, None)
    else:
        table[key] = old


#: Where indexes begin. A real agent has used about that many for itself before it serves its first client, so that
#: 1, which answers for tables never written, is no write's index.
FIRST_INDEX = 10


class Store:
    """Sessions and keys of one node.

    Args:
        node: the name of the only node there is.
        new_id: makes session ids; tests can give one that is not random.
        checks_ids: whether a session's id that is no UUID is an error, as in Consul 1.8; else it is not found.
    """

    def __init__(
        self, node: str = "embedded", new_id: Callable[[], str] = _random_id, *, checks_ids: bool = True
    ) -> None:
        self.node = node
        self._checks_ids = checks_ids
        self.index = FIRST_INDEX
        self._new_id = new_id
        self._keys: dict[str, Entry] = {}
        self._sessions: dict[str, Session] = {}
        #: Key -> index of its deletion. Consul forgets them after 15 minutes; here they last as long as the agent.
        self._tombstones: dict[str, int] = {}
        self._key_index = 0  # of the last write to any key, deletions included
        self._session_index = 0
        self._delays: dict[str, float] = {}  # key -> until when it may not be locked
        self._ends: dict[str, float] = {}  # session -> when it ends unless it is renewed
        self._agenda: list[tuple[float, str]] = []  # a heap of the same; renewed sessions leave stale rows in it
        self._changed_keys: set[str] = set()
        self._changed_sessions: set[str] = set()
        self._undo: list[tuple[str, Entry | None, int | None]] | None = None
        self._index_before = 0

    # ---------------------------------------------------------------------------------------- sessions

    def create_session(
        self,
        now: float,
        *,
        name: str = "",
        node: str | None = None,
        ttl_text: str = "",
        ttl: float = 0.0,
        lock_delay: int = 0,
        behavior: str = "",
        node_checks: Iterable[str] = (),
    ) -> Session:
        """Make a session. ``ttl`` in seconds, ``lock_delay`` in nanoseconds.

        Raises:
            Rejected: for a node or a check that does not exist.
        """
        self.index += 1
        if node is not None and node.lower() != self.node.lower():
            raise Rejected("Missing node registration")
        for check in node_checks:
            if check != "serfHealth":
                raise Rejected(f"Missing check '{check}' registration")
        session = Session(
            id=self._new_id(),
            name=name,
            node=self.node if node is None else node,
            ttl_text=ttl_text,
            ttl=ttl,
            lock_delay=lock_delay,
            behavior=behavior or "release",
            node_checks=tuple(node_checks),
            index=self.index,
        )
        self._sessions[session.id] = session
        self._session_index = self.index
        self._changed_sessions.add(session.id)
        self._schedule(session, now)
        return session

    def _schedule(self, session: Session, now: float) -> None:
        if session.ttl > 0:
            end = now + TTL_MULTIPLIER * session.ttl
            self._ends[session.id] = end
            heapq.heappush(self._agenda, (end, session.id))

    def find_session(self, id: str) -> Session | None:
        """The session of that id, in any case of letters.

        Raises:
            Rejected: for a text that is no UUID, where ids are checked.
        """
        session = self._sessions.get(id)
        if session is not None:
            return session
        if not self._checks_ids:
            return self._sessions.get(id.lower())
        try:
            return self._sessions.get(check_uuid(id))
        except Invalid as error:
            raise Rejected(f"failed session lookup: {error}") from None

    def renew_session(self, session: Session, now: float) -> None:
        """Start the session's 2 x TTL again."""
        self._schedule(session, now)

    def destroy_session(self, id: str, now: float) -> bool:
        """End a session: its keys are released or deleted, and closed for its lock-delay.

        Returns:
            False when there was none.

        Raises:
            Rejected: for a text that is no UUID.
        """
        session = self.find_session(id)
        self.index += 1
        if session is None:
            return False
        del self._sessions[session.id]
        self._ends.pop(session.id, None)
        self._session_index = self.index
        self._changed_sessions.add(session.id)
        delay = min(session.lock_delay / 1e9, MAX_LOCK_DELAY)
        for entry in [entry for entry in self._keys.values() if entry.session.lower() == session.id]:
            if session.behavior == "delete":
                self._remove(entry.key)
            else:
                self._write(entry._replace(session=""), self._keys[entry.key])
            if delay > 0:
                self._delays[entry.key] = now + delay
        return True

    def sessions(self, node: str | None = None) -> SessionView:
        """All sessions, or those of one node, in the order of their ids."""
        found = [
            session
            for _, session in sorted(self._sessions.items())
            if node is None or session.node.lower() == node.lower()
        ]
        return SessionView(self._session_index or 1, tuple(found), ANY_SESSION)

    def session(self, id: str) -> SessionView:
        """One session.

        Raises:
            Rejected: for a text that is no UUID.
        """
        session = self.find_session(id)
        if session is None:
            return SessionView(self._session_index or 1, (), ANY_SESSION)
        return SessionView(self._session_index, (session,), ("session", session.id))

    # ------------------------------------------------------------------------------------------- time

    def next_expiry(self) -> float | None:
        """When the next session ends unless it is renewed; None when no session has a TTL."""
        agenda = self._agenda
        while agenda and self._ends.get(agenda[0][1]) != agenda[0][0]:
            heapq.heappop(agenda)
        return agenda[0][0] if agenda else None

    def expire(self, now: float) -> int:
        """End the sessions whose time is over, each as of its own end; returns how many."""
        count = 0
        end = self.next_expiry()
        while end is not None and end <= now:
            self.destroy_session(self._agenda[0][1], end)
            count += 1
            end = self.next_expiry()
        return count

    def is_delayed(self, key: str, now: float) -> bool:
        """Whether a lock-delay keeps the key closed."""
        until = self._delays.get(key)
        if until is None:
            return False
        if until > now:
            return True
        del self._delays[key]
        return False

    # ------------------------------------------------------------------------------------------- keys

    def begin(self) -> None:
        """Begin a transaction; every write until `commit` or `roll_back` has one index."""
        self.index += 1
        self._undo = []
        self._index_before = self._key_index

    def commit(self) -> None:
        """Keep what was written since `begin`."""
        for key, _, _ in self._undo or ():
            self._changed_keys.add(key)
        self._undo = None

    def roll_back(self) -> None:
        """Take back what was written since `begin`; the index stays used up, as Consul's log entry does."""
        for key, entry, stone in reversed(self._undo or ()):
            _put_back(self._keys, key, entry)
            _put_back(self._tombstones, key, stone)
        self._key_index = self._index_before
        self._undo = None

    def _note(self, key: str) -> None:
        self._key_index = self.index
        if self._undo is None:
            self._changed_keys.add(key)
        else:
            self._undo.append((key, self._keys.get(key), self._tombstones.get(key)))

    def _write(self, wanted: Entry, existing: Entry | None) -> Entry:
        """Store an entry as of the present index; one that changes nothing keeps the index it had."""
        if existing is None:
            entry = wanted._replace(create_index=self.index, modify_index=self.index)
        elif existing[:4] == wanted[:4] and existing.lock_index == wanted.lock_index:
            return existing
        else:
            entry = wanted._replace(create_index=existing.create_index, modify_index=self.index)
        self._note(entry.key)
        self._keys[entry.key] = entry
        return entry

    def _remove(self, key: str) -> None:
        self._note(key)
        del self._keys[key]
        self._tombstones[key] = self.index

    def put(self, key: str, value: bytes, flags: int) -> Entry:
        """A plain write: the holder stays, LockIndex begins at 0 again (measured; tests/contract)."""
        existing = self._keys.get(key)
        session = existing.session if existing is not None else ""
        return self._write(Entry(key, value, flags, session, 0, 0, 0), existing)

    def cas(self, key: str, value: bytes, flags: int, index: int) -> Entry | None:
        """A write if the key's ModifyIndex is ``index`` (0: if there is no such key); None when it is not."""
        existing = self._keys.get(key)
        if (existing.modify_index if existing is not None else 0) != index:
            return None
        return self.put(key, value, flags)

    def lock(self, key: str, value: bytes, flags: int, session: str) -> Entry | None:
        """Acquire a key; None when another session holds it. Lock-delays are checked before (`is_delayed`).

        Raises:
            Rejected: for a session that does not exist.
        """
        if not session:
            raise Rejected("missing session")
        if session not in self._sessions and self.find_session(session) is None:
            raise Rejected(f"invalid session {quote(session)}")
        existing = self._keys.get(key)
        if existing is None:
            lock_index = 1
        elif existing.session == session:
            lock_index = existing.lock_index
        elif existing.session:
            return None
        else:
            lock_index = existing.lock_index + 1
        return self._write(Entry(key, value, flags, session, 0, 0, lock_index), existing)

    def unlock(self, key: str, value: bytes, flags: int, session: str) -> Entry | None:
        """Release a key; None when that session does not hold it.

        Raises:
            Rejected: when no session is named.
        """
        if not session:
            raise Rejected("missing session")
        existing = self._keys.get(key)
        if existing is None or existing.session != session:
            return None
        return self._write(Entry(key, value, flags, "", 0, 0, existing.lock_index), existing)

    def delete(self, key: str) -> None:
        """Remove a key, if there is one."""
        if key in self._keys:
            self._remove(key)

    def delete_cas(self, key: str, index: int) -> bool:
        """Remove a key if its ModifyIndex is ``index``; True also when there is none."""
        existing = self._keys.get(key)
        if existing is None:
            return True
        if existing.modify_index != index:
            return False
        self._remove(key)
        return True

    def delete_tree(self, prefix: str) -> None:
        """Remove all keys below a prefix, leaving one tombstone for all of them, at the prefix itself."""
        keys = [key for key in self._keys if key.startswith(prefix)]
        if keys and prefix:
            self._note(prefix)
            self._tombstones[prefix] = self.index
        for key in keys:
            self._note(key)
            del self._keys[key]

    def find(self, key: str) -> Entry | None:
        """The entry of a key, or None."""
        return self._keys.get(key)

    def tree(self, prefix: str) -> list[Entry]:
        """All entries below a prefix, in the order of their keys' bytes."""
        found = [entry for key, entry in self._keys.items() if key.startswith(prefix)]
        found.sort(key=_by_bytes)
        return found

    def get(self, key: str) -> View:
        """Read one key. A missing one has the index of the last write to any key."""
        entry = self._keys.get(key)
        if entry is None:
            return View(self._key_index or 1, (), ANY_KEY)
        return View(entry.modify_index, (entry,), ("key", key))

    def below(self, prefix: str) -> View:
        """Read all keys below a prefix: the highest of their indexes and of the tombstones there."""
        entries = self.tree(prefix)
        index = max((entry.modify_index for entry in entries), default=0)
        if prefix:
            stones = (stone for key, stone in self._tombstones.items() if key.startswith(prefix))
            index = max(index, max(stones, default=0))
        else:
            index = self._key_index
        return View(index or self._key_index or 1, tuple(entries), ("prefix", prefix) if entries else ANY_KEY)

    def take_changes(self) -> Changes | None:
        """What was written since the last call, or None."""
        if not self._changed_keys and not self._changed_sessions:
            return None
        changes = Changes(frozenset(self._changed_keys), frozenset(self._changed_sessions))
        self._changed_keys.clear()
        self._changed_sessions.clear()
        return changes
