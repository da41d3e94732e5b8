"""SimConsul: what a Consul does to sessions and keys, as small as the walk needs it. Pure; it is told the time.

It follows what was measured of a real one: a session ends 2 x TTL after its last renewal; a lock by the session
that has it changes nothing unless the value changes; the indexes of keys go on rising when a snapshot is restored.
It lies as a real one does (measured): a server that has just started lacks sessions that live, and answers renewals
of them 404 and their destroys with true, without doing it; a token without session:read is shown no session at all.

Beside the state it keeps books for the invariants: which tenures were broken by somebody else, and when a key was last
touched from outside, by a stranger, an operator or a snapshot.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from consul_locker.core.requests import (
    Committed,
    CreateSession,
    DestroySession,
    Done,
    Entry,
    Failed,
    Gone,
    KeysRead,
    NamesRead,
    Operation,
    Outcome,
    RawTransact,
    ReadKey,
    ReadPrefix,
    ReadSession,
    Refusal,
    Refused,
    RefusedWhole,
    Renewed,
    RenewSession,
    Request,
    RolledBack,
    SessionCreated,
    SessionRead,
    Transact,
    Verb,
    Watch,
    WatchNames,
    WatchSession,
)
from consul_locker.errors import AccessDenied
from consul_locker.keys import is_place, lock_key_of, place_number
from consul_locker.models import SessionInfo

from ..told import purpose_of

#: Consul ends a session only after this many TTLs (measured).
TTL_MULTIPLIER = 2
#: So many older states can still be read from a server that is behind.
HISTORY = 4


@dataclass(frozen=True)
class Snapshot:
    """What a restore brings back."""

    keys: dict[str, Entry]
    sessions: dict[str, SessionInfo]
    kv_index: int


class SimConsul:
    """Sessions and keys.

    Attributes:
        index: of the last write; never falls.
        keys: as they are.
        sessions: those that live.
        ended: the ids of those that ended, for whatever reason.
        broken: (key, index) of tenures that ended otherwise than by a release of their own session.
        outside: key -> index of the last change by somebody who is no Locker.
        grants: (key, index) of a lock that was free -> the places in its queue then.
        created: the order of places, also of those that are gone.
        restored: whether a snapshot ever was: then the order of places may be another one than before.
        restored_at: when one was last.
        lacked: sessions that the server which has just started does not know of yet.
        filtered: whether the token may not see, renew, make or destroy sessions now.
        on_overwrite: is told of a lock that changes the value of the same session's lock: key, value before, value.
        spoilt: the key of a lock that this Consul does not take, nor the places in its queue; empty if it takes all.
    """

    def __init__(self) -> None:
        self.index = 0
        self.keys: dict[str, Entry] = {}
        self.sessions: dict[str, SessionInfo] = {}
        self.ended: set[str] = set()
        self.broken: set[tuple[str, int]] = set()
        self.outside: dict[str, int] = {}
        self.grants: dict[tuple[str, int], list[Entry]] = {}
        self.created: dict[str, tuple[int, int]] = {}
        self.restored = False
        self.restored_at = float("-inf")
        self.lacked: frozenset[str] = frozenset()
        self.filtered = False
        self.spoilt = ""
        self.on_overwrite: Callable[[str, bytes | None, bytes | None], None] = lambda key, before, value: None
        self.history: deque[dict[str, Entry]] = deque(maxlen=HISTORY)
        self.expiry: dict[str, float] = {}
        self._kv_index = 0
        self._delays: dict[str, float] = {}
        self._count = 0

    # ------------------------------------------------------------------------------------- requests

    def apply(self, request: Request, now: float, stale: bool = False) -> Outcome:
        """Carry out a request; ``stale``: a read is answered by a server that is a few writes behind."""
        self.expire(now)
        if self.filtered and isinstance(request, (CreateSession, DestroySession, RenewSession)):
            return Failed(AccessDenied("session", 403, "Permission denied"), False)
        if self.spoilt and any(self.spoilt in (key, lock_key_of(key)) for key in _keys(request)):
            return RefusedWhole(400, "Invalid key in transaction: invalid key name")
        if isinstance(request, Transact):
            if purpose_of(request) == "commit":
                return self._transact(request.operations, now, self.keys)
            behind = stale and not request.consistent and self.history
            return self._transact(request.operations, now, self.history[0] if behind else self.keys)
        if isinstance(request, ReadKey):
            entry = self.keys.get(request.key)
            return KeysRead((entry,) if entry else (), self.key_index(request.key))
        if isinstance(request, RenewSession):
            return self._renew(request.session_id, now)
        if isinstance(request, ReadSession):
            return SessionRead(self._seen(request.session_id), self.index)
        if isinstance(request, CreateSession):
            return self._create(request, now)
        if isinstance(request, DestroySession):
            if request.session_id not in self.lacked:
                self.end_session(request.session_id, now)
            return Done()
        if isinstance(request, ReadPrefix):
            return NamesRead(tuple(key for key in self.keys if key.startswith(request.prefix)))
        if isinstance(request, RawTransact):
            return self._transact(tuple(map(_parsed, request.operations)), now, self.keys)
        assert isinstance(request, Watch)
        return self.look(request)

    def look(self, watch: Watch) -> Outcome:
        """What a watch would show now."""
        if isinstance(watch, WatchSession):
            session = self._seen(watch.name) if watch.name not in self.lacked else None
            return SessionRead(session, session.create_index if session else self.index)
        if isinstance(watch, WatchNames):
            return NamesRead(tuple(key for key in self.keys if key.startswith(watch.name)), self._kv_index)
        entry = self.keys.get(watch.name)
        return KeysRead((entry,) if entry else (), self.key_index(watch.name))

    def woken(self, watch: Watch) -> bool:
        """Whether a watch has something new to show; one without an index always has."""
        if watch.index == 0:
            return True
        if isinstance(watch, WatchSession):
            session = self.sessions.get(watch.name)
            return session is None or session.create_index != watch.index
        if isinstance(watch, WatchNames):
            return self._kv_index > watch.index
        return self.key_index(watch.name) != watch.index

    def key_index(self, key: str) -> int:
        """A missing key has the index of the last write to any key."""
        entry = self.keys.get(key)
        return entry.modify_index if entry else self._kv_index

    def _seen(self, id: str) -> SessionInfo | None:
        """A session, as far as the token may see it."""
        return None if self.filtered else self.sessions.get(id)

    def _create(self, request: CreateSession, now: float) -> SessionCreated:
        self._count += 1
        self.index += 1
        id = f"s{self._count}"
        self.sessions[id] = SessionInfo(
            id, request.name, "node", request.ttl, request.lock_delay, request.behavior, (), self.index
        )
        if request.ttl is not None:
            self.expiry[id] = now + TTL_MULTIPLIER * request.ttl
        return SessionCreated(id)

    def _renew(self, id: str, now: float) -> Outcome:
        session = self.sessions.get(id)
        if session is None or id in self.lacked:
            return Gone()
        if session.ttl is not None:
            self.expiry[id] = now + TTL_MULTIPLIER * session.ttl
        return Renewed(session.ttl)

    def end_session(self, id: str, now: float, outside: bool = False) -> None:
        """A session ends: its keys are released or deleted, and closed for its lock-delay."""
        self.index += 1
        session = self.sessions.pop(id, None)
        if session is None:
            return
        self.ended.add(id)
        self.expiry.pop(id, None)
        for key, entry in list(self.keys.items()):
            if entry.session == id:
                if outside:
                    self.outside[key] = self.index
                self._store(key, None if session.behavior == "delete" else replace(entry, session=None))
                if session.lock_delay:
                    self._delays[key] = now + session.lock_delay

    def expire(self, now: float) -> None:
        """End the sessions whose time is over."""
        for id, end in list(self.expiry.items()):
            if end <= now:
                self.end_session(id, end)

    def queue(self, key: str) -> list[Entry]:
        """The places of living sessions in the queue of a lock, in order."""
        places = [entry for place, entry in self.keys.items() if is_place(place, key) and entry.session is not None]
        return sorted(places, key=lambda entry: (entry.create_index, place_number(entry.key)))

    def delayed(self, key: str, now: float) -> bool:
        """Whether a lock-delay keeps the key closed."""
        return self._delays.get(key, now) > now

    def _store(self, key: str, entry: Entry | None, released: bool = False) -> None:
        """Write one key as of the present index."""
        self.history.append(dict(self.keys))
        before = self.keys.get(key)
        if lock_key_of(key) and key not in self.created:
            self.created[key] = self.index, place_number(key)
        if before is not None and before.session is not None and not released:
            self.broken.add((key, before.modify_index))
        if entry is None:
            self.keys.pop(key, None)
        else:
            self.keys[key] = replace(entry, modify_index=self.index)
        self._kv_index = self.index

    def _transact(self, operations: tuple[Operation, ...], now: float, keys: dict[str, Entry]) -> Outcome:
        delayed = [
            Refused(place, Refusal.LOCK_DELAY, "lock delay")
            for place, op in enumerate(operations)
            if op.verb is Verb.LOCK and self.delayed(op.key, now)
        ]
        if delayed:
            return RolledBack(tuple(delayed))
        refused = [
            Refused(place, refusal, refusal.value)
            for place, op in enumerate(operations)
            if (refusal := self._refusal(op, keys)) is not None
        ]
        if refused:
            self.index += 1
            return RolledBack(tuple(refused))
        writes = any(op.verb in WRITES for op in operations)
        if writes:
            self.index += 1
        results = []
        for op in operations:
            before = self.keys.get(op.key)
            if op.verb is Verb.LOCK and not lock_key_of(op.key) and (before is None or before.session != op.session):
                self.grants[op.key, self.index] = self.queue(op.key)
            elif op.verb is Verb.LOCK and before is not None and before.value == op.value:
                # Asked for again: a late copy of another call's may have been first, when others stood in the queue.
                grant, stay = (op.key, before.modify_index), {entry.key for entry in self.queue(op.key)}
                self.grants[grant] = [entry for entry in self.grants.get(grant, ()) if entry.key in stay]
            if op.verb in WRITES:
                self._write(op)
            if op.verb is Verb.GET_TREE:
                seen = self.keys if writes else keys
                results += [entry for key, entry in sorted(seen.items()) if key.startswith(op.key)]
                continue
            entry = (self.keys if op.verb in WRITES else keys).get(op.key)
            if entry is not None and op.verb is not Verb.DELETE_CAS:
                results.append(entry)
        return Committed(tuple(results))

    def _refusal(self, op: Operation, keys: dict[str, Entry]) -> Refusal | None:
        entry = keys.get(op.key)
        holder = entry.session if entry else None
        if op.verb is Verb.LOCK:
            if op.session not in self.sessions:
                return Refusal.INVALID_SESSION
            return Refusal.HELD if holder not in (None, op.session) else None
        if op.verb is Verb.UNLOCK:
            return Refusal.NOT_HELD if holder != op.session else None
        if op.verb is Verb.CHECK_NOT_EXISTS:
            return None if entry is None else Refusal.EXISTS
        if op.verb is Verb.CHECK_SESSION:
            return Refusal.MISSING if entry is None else Refusal.SESSION if holder != op.session else None
        if op.verb in (Verb.CHECK_INDEX, Verb.DELETE_CAS):
            found = entry.modify_index if entry else 0
            if op.verb is Verb.DELETE_CAS and entry is None:
                return None
            return Refusal.INDEX if found != op.index else None
        return Refusal.MISSING if entry is None and op.verb is Verb.GET else None

    def _write(self, op: Operation) -> None:
        before = self.keys.get(op.key)
        if op.verb in (Verb.DELETE_CAS, Verb.DELETE):
            if before is not None:
                self._store(op.key, None, released=True)
            return
        if op.verb is Verb.UNLOCK:
            assert before is not None
            self._store(op.key, replace(before, value=op.value, flags=op.flags, session=None), released=True)
            return
        lock_index = before.lock_index if before else 0
        if op.verb is Verb.LOCK:
            if before is not None and before.session == op.session:
                if before.value == op.value:
                    return
                self.on_overwrite(op.key, before.value, op.value)
            if before is None or before.session is None:
                lock_index += 1
        session = op.session if op.verb is Verb.LOCK else before.session if before else None
        created = before.create_index if before else self.index
        self._store(op.key, Entry(op.key, op.flags, created, self.index, lock_index, op.value, session))

    # --------------------------------------------------------------------------- strangers, operators

    def overwrite(self, key: str) -> None:
        """A stranger's plain write: the session stays, the index does not."""
        self.index += 1
        self.outside[key] = self.index
        self._write(Operation(Verb.SET, key, b"stranger"))

    def delete(self, key: str) -> None:
        """An operator deletes the key."""
        self.index += 1
        self.outside[key] = self.index
        if key in self.keys:
            self._store(key, None)

    def take_over(self, key: str, now: float) -> str:
        """A stranger deletes the key and takes it at once. Returns the stranger's session."""
        self.delete(key)
        self._count += 1
        id = f"x{self._count}"
        self.index += 1
        self.sessions[id] = SessionInfo(id, "stranger", "node", None, 0.0, "release", (), self.index)
        self.index += 1
        self._write(Operation(Verb.LOCK, key, b"stranger", 0, id))
        return id

    def snapshot(self) -> Snapshot:
        """What a restore may bring back."""
        return Snapshot(dict(self.keys), dict(self.sessions), self._kv_index)

    def restore(self, snapshot: Snapshot, now: float) -> None:
        """Put everything back as it was; TTLs begin again. Later writes go on with higher indexes (measured)."""
        self.restored = True
        self.restored_at = now
        self.index += 1
        for key in {**self.keys, **snapshot.keys}:
            before = self.keys.get(key)
            self.outside[key] = self.index
            if before is not None and before.session is not None and before != snapshot.keys.get(key):
                self.broken.add((key, before.modify_index))
        self.ended.update(set(self.sessions) - set(snapshot.sessions))
        self.keys = dict(snapshot.keys)
        self.sessions = dict(snapshot.sessions)
        self._kv_index = snapshot.kv_index
        self.expiry = {
            id: now + TTL_MULTIPLIER * session.ttl for id, session in self.sessions.items() if session.ttl is not None
        }
        self.history.clear()


WRITES = frozenset((Verb.LOCK, Verb.UNLOCK, Verb.SET, Verb.DELETE, Verb.DELETE_CAS))


def _keys(request: Request) -> list[str]:
    """The keys that a transaction names, or a read that is one."""
    if isinstance(request, ReadKey):
        return [request.key]
    if isinstance(request, RawTransact):
        return [operation["KV"]["Key"] for operation in request.operations]
    return [operation.key for operation in request.operations] if isinstance(request, Transact) else []


def _parsed(operation: dict[str, Any]) -> Operation:
    """An operation from Consul's JSON; only what `BaseLease.guard` makes."""
    body = operation["KV"]
    return Operation(Verb(body["Verb"]), body["Key"], session=body.get("Session"), index=body.get("Index"))
