"""Names and ids: which are legal, and the keys made of them.

The rule (docs/safety.rst, rule 11): no key is outside of ``<name>/``, and a name or id that is not refused reaches
Consul byte for byte. HTTP stacks fold ``..`` and ``//`` in a path, so a key ``svc/../../session/destroy/x/lock`` would
be a request to another endpoint (measured). Such segments are refused before any request.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TypeAlias, Union
from uuid import UUID

from .errors import ConfigurationError, InvalidLockId

__all__ = [
    "LockId",
    "check_id",
    "check_name",
    "is_place",
    "lock_id",
    "lock_key",
    "lock_key_of",
    "place_key",
    "place_number",
]

#: What names a lock to its users; everywhere else it is text.
LockId: TypeAlias = Union[str, int, UUID]

#: The longest name, and the longest id, in bytes of UTF-8. Consul itself accepts longer keys; 512 keeps
#: a full transaction of 64 operations far below Consul's limit of about 512 KB (measured).
MAX_BYTES = 512

#: Categories of Unicode that a Consul agent accepts in a transaction but answers with 400 in the path of a request, so
#: that such a key could be locked but neither read nor watched (measured): formats, private use, and separators other
#: than the plain space. Characters that Python's tables do not know yet are left to Consul.
_UNPRINTABLE = frozenset(("Cf", "Co", "Zl", "Zp", "Zs"))


#: Most names and ids, which are right for certain.
_PLAIN = re.compile(rf"[A-Za-z0-9_:-]{{1,{MAX_BYTES}}}").fullmatch


def _fault(text: str) -> str | None:
    """What is wrong with ``text`` as a part of a key, or None."""
    if not text:
        return "it is empty"
    try:
        size = len(text.encode("utf-8"))
    except UnicodeEncodeError:
        return "it has a lone surrogate, which no encoding can carry"
    if size > MAX_BYTES:
        return f"it has {size} bytes in UTF-8; at most {MAX_BYTES} are allowed"
    if not text.isprintable():
        for char in text:
            category = unicodedata.category(char)
            if category == "Cc":
                return "it has a control character"
            if category in _UNPRINTABLE and char != " ":
                return f"it has the invisible character {char!a}, which Consul refuses in the path of a request"
    if text.startswith("/") or text.endswith("/"):
        return "it begins or ends with a slash"
    for segment in text.split("/"):
        if not segment:
            return "it has an empty segment (two slashes in a row)"
        if segment in (".", ".."):
            return f"it has the segment {segment!r}, which would leave the Locker's keys"
    return None


def check_name(name: object) -> str:
    """Return ``name`` when it can be a Locker's name.

    Raises:
        ConfigurationError: it is no text, or rule 11 forbids it.
    """
    if not isinstance(name, str):
        raise ConfigurationError("name", name, "a Locker's name is a str")
    fault = _fault(name)
    if fault is not None:
        raise ConfigurationError("name", name, f"this cannot be a Locker's name: {fault}")
    return name


def check_id(id: object) -> str:
    """Return the id as text: 1 and ``"1"`` are one lock, and so are a UUID and its text.

    Raises:
        InvalidLockId: it is neither text, a whole number nor a UUID, or rule 11 forbids it.
    """
    if type(id) is not str:
        if isinstance(id, bool) or not isinstance(id, (str, int, UUID)):
            raise InvalidLockId(id, f"an id is a str or an int, or a UUID, not {type(id).__name__}")
        id = str(int(id)) if isinstance(id, int) else str(id)
    if _PLAIN(id) is None:
        fault = _fault(id)
        if fault is not None:
            raise InvalidLockId(id, fault)
    return id


def lock_key(name: str, id: str) -> str:
    """The key of a lock, as the original makes it: ``<name>/<id>/lock``."""
    return f"{name}/{id}/lock"


def lock_id(name: str, key: str) -> str | None:
    """The id of a lock, by its key; None when it is not the key of a lock of that name."""
    before, behind = f"{name}/", "/lock"
    if len(key) <= len(before) + len(behind) or not (key.startswith(before) and key.endswith(behind)):
        return None
    return key[len(before) : -len(behind)]


# A place in the queue of a fair Locker: <name>/<id>/lock-queue/<session>.<number>. It begins like the lock's key, so
# one read by prefix shows lock and queue. It does not end like a lock's key, so no id can name it.
_PLACE_BEHIND = re.compile(r"-queue/[^/]+\.[0-9]+")
_PLACE = re.compile(rf"(?P<lock>.*/lock){_PLACE_BEHIND.pattern}", re.DOTALL)


def place_key(lock: str, session_id: str, number: int) -> str:
    """The key of a place in the queue of a lock (docs/fairness.rst). ``number``: unique within the session."""
    return f"{lock}-queue/{session_id}.{number}"


def lock_key_of(place: str) -> str:
    """The key of the lock in whose queue a place is; empty when the key is no place."""
    match = _PLACE.fullmatch(place)
    return match["lock"] if match is not None else ""


def is_place(key: str, lock: str) -> bool:
    """Whether a key is a place in the queue of a lock."""
    return key.startswith(lock) and _PLACE_BEHIND.fullmatch(key, len(lock)) is not None


def place_number(place: str) -> int:
    """The number of a place within its session."""
    return int(place.rpartition(".")[2])
