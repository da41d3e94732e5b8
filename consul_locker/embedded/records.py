"""The records of the store: keys, sessions, and what a read of them depends on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["ANY_KEY", "ANY_SESSION", "Changes", "Entry", "Rejected", "Scope", "Session", "SessionView", "View"]


class Rejected(Exception):
    """A write that the state store refuses with an error; the message is Consul's."""


class Entry(NamedTuple):
    """One key. ``session`` is "" if no session holds it."""

    key: str
    value: bytes
    flags: int
    session: str
    create_index: int
    modify_index: int
    lock_index: int


@dataclass(frozen=True)
class Session:
    """One session.

    Attributes:
        ttl_text: the TTL as it was asked for, "" for none.
        ttl: the same in seconds, 0 for none.
        lock_delay: in nanoseconds, as it was asked for; answers show it unchanged.
        node_checks: serfHealth or nothing.
        index: of its creation.
    """

    id: str
    name: str
    node: str
    ttl_text: str
    ttl: float
    lock_delay: int
    behavior: str
    node_checks: tuple[str, ...]
    index: int


#: What a reader depends on: ("key", a key), ("prefix", a prefix), ("kv", "") any key, ("session", an id),
#: ("sessions", "") any session.
Scope = tuple[str, str]

ANY_KEY: Scope = ("kv", "")
ANY_SESSION: Scope = ("sessions", "")


@dataclass(frozen=True)
class View:
    """What a read found: its X-Consul-Index, the entries, and the scope whose change can change the answer."""

    index: int
    entries: tuple[Entry, ...]
    scope: Scope


@dataclass(frozen=True)
class SessionView:
    """The same for sessions."""

    index: int
    sessions: tuple[Session, ...]
    scope: Scope


class Changes(NamedTuple):
    """What was written since the last call of `Store.take_changes`: keys and session ids."""

    keys: frozenset[str]
    sessions: frozenset[str]
