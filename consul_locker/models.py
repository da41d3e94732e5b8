"""What a user is shown: keys and sessions as Consul has them, and the words that options take."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

__all__ = [
    "Behavior",
    "LockInfo",
    "SessionInfo",
    "StateName",
]


#: What a session's end does to its keys; and the states of a Locker. Both are checked when they are used, too.
Behavior = Literal["release", "delete"]
StateName = Literal["acquiring", "ready", "paused", "stopped"]

#: How much of what others wrote a message shows, in characters: the longest name of a host (Linux, HOST_NAME_MAX).
SHOWN = 64
#: What is shown as it is. All else could break a line, or speak to the terminal.
_PLAIN = re.compile(rf"[0-9A-Za-z._-]{{1,{SHOWN}}}")


#: How much of one fact a repr shows, in characters: the values of Lockers, with room for what a user adds.
FACT_SHOWN = 512


def _cut(text: str) -> str:
    """A fact as it may be in a repr, in the longest case with how much was left out."""
    if len(text) <= FACT_SHOWN:
        return text
    return f"{text[:FACT_SHOWN]}… ({len(text) - FACT_SHOWN} characters more)"


def _shown(text: str) -> str:
    """What somebody else wrote, as it may be in a message."""
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
        behavior: what its end does to its keys, ``"release"`` or ``"delete"``.
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
        """The holder in words, for messages: process and host where its value tells them, which anybody can write."""
        parts = []
        if isinstance(self.value, Mapping):
            for fact, words in (("pid", "process"), ("host", "on")):
                told = self.value.get(fact)
                if isinstance(told, (int, str)):
                    parts.append(f"{words} {_shown(str(told))}")
        who = " ".join(parts) or "another session"
        return f"{who} (session {self.session_id})" if self.session_id else who
