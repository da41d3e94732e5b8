"""Data for users: keys and sessions as Consul has them, and the words that options take."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

__all__ = [
    "Behavior",
    "Health",
    "LockInfo",
    "LossReason",
    "SessionInfo",
    "StateName",
]


#: What happens to the keys of a session when it ends; and the states of a Locker. Both are also checked at run time.
Behavior = Literal["release", "delete"]
StateName = Literal["acquiring", "ready", "paused", "stopped"]
#: Why a lease, or a session, is over before it was given back.
LossReason = Literal[
    "broken off",
    "deadline passed",
    "key deleted",
    "key overwritten",
    "key taken over",
    "not held any more",
    "rebooted",
    "release failed",
    "released by a stranger",
    "session destroyed",
    "stopped",
    "taken again",
]

#: The most characters of another program's text in a message: the longest host name (Linux, HOST_NAME_MAX).
SHOWN = 64
#: Text that is shown unchanged. Other characters could break a line, or control the terminal.
_PLAIN = re.compile(rf"[0-9A-Za-z._-]{{1,{SHOWN}}}")


#: How much of one fact a repr shows, in characters: the values of Lockers, with room for what a user adds.
FACT_SHOWN = 512


def _cut(text: str) -> str:
    """A fact as it may be in a repr, in the longest case with how much was left out."""
    if len(text) <= FACT_SHOWN:
        return text
    return f"{text[:FACT_SHOWN]}… ({len(text) - FACT_SHOWN} characters more)"


def _shown(text: str) -> str:
    """Another program's text, made safe for a message."""
    if _PLAIN.fullmatch(text):
        return text
    return f"{text[:SHOWN]!a}{'…' if len(text) > SHOWN else ''}"


@dataclass(frozen=True)
class SessionInfo:
    """A session as Consul has it.

    Attributes:
        id: its id.
        name: its name; for a session of a Locker, the Locker's.
        node: the node of the agent it was created through.
        ttl: in seconds, or None for a session without one.
        lock_delay: in seconds.
        behavior: what happens to its keys when it ends: ``"release"`` or ``"delete"``.
        checks: the health checks that end it when they fail.
        create_index: Consul's index of its creation.
    """

    id: str
    name: str
    node: str
    ttl: float | None
    lock_delay: float
    behavior: str
    checks: tuple[str, ...]
    create_index: int


@dataclass(frozen=True)
class LockInfo:
    """The key of a lock as Consul has it.

    Attributes:
        id: the lock's id.
        key: its key.
        session_id: the session that holds it, or None when it is free.
        value: what its holder wrote, decoded from JSON; None when it is empty, the raw text when it is no JSON.
        fence: its ModifyIndex.
        lock_index: how often it was acquired since it was created.
        flags: Consul's flags of the key.
        session: the holder's `SessionInfo`, where it was read; else None.
    """

    id: str
    key: str
    session_id: str | None
    value: Any
    fence: int
    lock_index: int
    flags: int = 0
    session: SessionInfo | None = field(default=None)

    def __repr__(self) -> str:
        # What strangers wrote may have hundreds of kilobytes.
        facts = (f"{one.name}={_cut(repr(getattr(self, one.name)))}" for one in fields(self))
        return f"{type(self).__name__}({', '.join(facts)})"

    def with_session(self, session: SessionInfo | None) -> LockInfo:
        """The same, with the holder's session."""
        return replace(self, session=session)

    def described(self) -> str:
        """The holder in words, for messages: process and host, if the value has them (any program can write it)."""
        parts = []
        if isinstance(self.value, Mapping):
            for fact, words in (("pid", "process"), ("host", "on")):
                told = self.value.get(fact)
                if isinstance(told, (int, str)):
                    parts.append(f"{words} {_shown(str(told))}")
        who = " ".join(parts) or "another session"
        return f"{who} (session {self.session_id})" if self.session_id else who


@dataclass(frozen=True)
class Health:
    """How a Locker is, for a health endpoint: `Locker.health`. ``json.dumps(dataclasses.asdict(health))`` writes it.

    Attributes:
        state: ``"acquiring"``, ``"ready"``, ``"paused"`` or ``"stopped"``.
        session_id: the id of the present session; None if there is none.
        outage_since: how long ago the first of the requests began that Consul has not answered since, in seconds; None
            while it answers. A length of time, since it needs neither a zone nor a clock that is set right.
        cause: in words, why Consul did not answer the last request, or gave no session; None if nothing is amiss.
        next_attempt: in how many seconds Consul is asked again, for a session or for what waits; None if no such pause
            is made (all is well, an attempt is under way, or the Locker is stopped).
        waiting: how many calls have no answer yet, of whatever kind.
        held: how many leases are held.
        oldest_renewal: how long ago the last good renewal of the session began, in seconds; its locks are lost when the
            session's TTL has passed since. None if there is no session.
        address: the address of Consul that is in use: ``"http://10.0.0.1:8500"``.
    """

    state: StateName
    session_id: str | None
    outage_since: float | None
    cause: str | None
    next_attempt: float | None
    waiting: int
    held: int
    oldest_renewal: float | None
    address: str
