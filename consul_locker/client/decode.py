"""What Consul answers, as the core's outcomes. Pure.

Each shape of an answer is declared as a structure, and msgspec makes it of the bytes: what has another form is refused
there, with the place. Each decoder takes an `HttpResponse` and returns an outcome of `consul_locker.core.requests`;
whatever a server answers, none of them raises.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, Union

from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.json import Decoder
from msgspec.structs import replace

from ..core.requests import (
    Committed,
    Done,
    Entry,
    Gone,
    Index,
    KeysRead,
    NamesRead,
    NodesFound,
    Outcome,
    Refusal,
    Refused,
    RefusedWhole,
    Renewed,
    RolledBack,
    SessionCreated,
    SessionRead,
    SessionsRead,
)
from ..models import SessionInfo
from .failures import NOBODY, Access, HttpResponse, denied, excerpt, failure, refused_whole, senseless, unusable
from .words import not_done, parse_duration, refusal_of

__all__ = ["SESSION_ID", "HttpResponse", "decode", "decode_key", "decode_transaction"]

#: Ids of sessions are UUIDs; with nothing else in them, they cannot change a path.
SESSION_ID = re.compile(r"[0-9A-Za-z-]{1,128}")

#: X-Consul-Index: a number of at most 64 bits.
_INDEX = re.compile(r"[0-9]{1,20}")

#: The largest number that Consul can say: 64 bits without a sign.
_LARGEST = 2**64 - 1


class _Malformed(Exception):
    """An answer of the wrong form that its structure does not show; for use inside this module only."""


# ------------------------------------------------------------------------------------------------------- shapes

class _Created(Struct):
    ID: Annotated[str, Meta(pattern=rf"\A{SESSION_ID.pattern}\Z")]


class _Renewal(Struct):
    ID: str
    TTL: Union[str, None] = None


class _Session(Struct):
    ID: str
    CreateIndex: Index
    Name: str = ""
    Node: str = ""
    TTL: Union[str, None] = None
    LockDelay: float = 0.0  #: in nanoseconds
    Behavior: str = "release"
    Checks: Union[list[str], None] = None
    NodeChecks: Union[list[str], None] = None


class _Server(Struct):
    Node: str


class _Result(Struct):
    KV: Union[Entry, UnsetType] = UNSET  #: what a user asks in a transaction may have another


class _Results(Struct):
    Results: Union[list[_Result], None]


class _Error(Struct):
    OpIndex: Index
    What: str


class _Errors(Struct):
    Errors: list[_Error]


_created, _renewals, _sessions = (
    Decoder(_Created).decode,
    Decoder(list[_Renewal]).decode,
    Decoder(list[_Session]).decode,
)
_servers, _items, _names = Decoder(list[_Server]).decode, Decoder(list[Entry]).decode, Decoder(list[str]).decode
_results, _errors = Decoder(_Results).decode, Decoder(_Errors).decode

# --------------------------------------------------------------------------------------------- answers of endpoints


def decode(
    operation: str,
    read: Callable[[HttpResponse], Outcome],
    missing: Callable[[HttpResponse], Outcome | None] | None,
    response: HttpResponse,
    access: Access = NOBODY,
) -> Outcome:
    """The outcome of an endpoint's request.

    Args:
        operation: what was asked, in words for messages.
        read: makes an outcome of an answer with a status of 200; what it raises says what is wrong with it.
        missing: reads a 404 where that is an answer (None: this one is not); None where it never is.
        response: the answer.
        access: with which right it was asked.
    """
    if response.status == 404 and missing is not None:
        found = missing(response)
        if found is not None:
            return found
    if response.status != 200:
        return failure(operation, response, access)
    try:
        return read(response)
    except Exception as error:  # msgspec's, ours, and what its strings may hold: RecursionError, UnicodeDecodeError
        return senseless(operation, response, error)


def session_created(response: HttpResponse) -> Outcome:
    """The answer to a session's creation."""
    return SessionCreated(_created(response.body).ID)


def nodes_found(response: HttpResponse) -> Outcome:
    """The servers, as the catalog lists them."""
    return NodesFound(tuple([server.Node for server in _servers(response.body)]))


def done(response: HttpResponse) -> Outcome:
    """The answer ``true``; no other is valid."""
    if response.body.strip() != b"true":
        raise _Malformed("not true")
    return Done()


def renewed(session_id: str, response: HttpResponse) -> Outcome:
    """The session as Consul has it now."""
    found = _renewals(response.body)
    if len(found) != 1 or session_id != found[0].ID:
        raise _Malformed("another session")
    return Renewed(parse_duration(found[0].TTL))


def gone(session_id: str, response: HttpResponse) -> Outcome | None:
    """A 404 of a renewal."""
    # Consul names the session; another server's 404 is no reason to give up every lock
    return Gone() if session_id.encode() in response.body else None


def session_read(response: HttpResponse) -> Outcome:
    """A session, or none."""
    found = _sessions(response.body)
    if len(found) > 1:
        raise _Malformed("more than one session")
    return SessionRead(_session_info(found[0]) if found else None, _index(response))


def sessions_read(response: HttpResponse) -> Outcome:
    """Sessions."""
    return SessionsRead({found.ID: _session_info(found) for found in _sessions(response.body)}, _index(response))


def _session_info(found: _Session) -> SessionInfo:
    return SessionInfo(
        id=found.ID,
        name=found.Name,
        node=found.Node,
        ttl=parse_duration(found.TTL),
        lock_delay=found.LockDelay / 1e9,
        behavior=found.Behavior,
        checks=tuple(found.Checks or found.NodeChecks or ()),
        create_index=found.CreateIndex,
    )


def keys_read(response: HttpResponse) -> Outcome:
    """Keys with their values."""
    return KeysRead(tuple([_checked(entry) for entry in _items(response.body)]), _index(response))


def keys_missing(response: HttpResponse) -> KeysRead | None:
    """A 404 of a KV read is "no such key" when it is Consul's, which always gives an index."""
    index = response.headers.get("x-consul-index", "")
    return KeysRead((), int(index)) if _INDEX.fullmatch(index) else None


def names_read(response: HttpResponse) -> Outcome:
    """Names of keys."""
    return NamesRead(tuple(_names(response.body)), _index(response))


def names_missing(response: HttpResponse) -> Outcome | None:
    """A 404 of a list of names: there is no such key, or none that the token may see."""
    missing = keys_missing(response)
    return None if missing is None else NamesRead((), missing.index)


def _index(response: HttpResponse) -> int:
    index = response.headers.get("x-consul-index", "")
    if _INDEX.fullmatch(index) is None:
        raise _Malformed("X-Consul-Index is no whole number")
    return int(index)


def _checked(entry: Entry) -> Entry:
    """A key, after what its structure does not show. On the hot path."""
    if entry.flags > _LARGEST:
        raise _Malformed("Flags are too large a number")
    return entry if entry.session != "" else replace(entry, session=None)


# ------------------------------------------------------------------------------------------------ transactions


def key_watched(read: Callable[[HttpResponse], Outcome], response: HttpResponse) -> Outcome:
    """Of a watch on a key: some Consuls refuse keys in /v1/kv (500) that transactions take."""
    if response.status == 500:
        refused = RefusedWhole(500, excerpt(response.body))
        if refused.of_key and not not_done(response.status, response.body):
            return refused
    return read(response)


def decode_key(key: str, response: HttpResponse, access: Access = NOBODY) -> Outcome:
    """Of a key that was read by transaction.

    Without the right to read it Consul leaves it out and gives no error (measured): an empty result is no answer.
    """
    access = access._replace(on=key)
    outcome = decode_transaction((None,), response, "kv get", access)
    if isinstance(outcome, Committed):
        if not outcome.entries:
            return denied("kv get", 403, f"an answer without the key {key!r}", access)
        return KeysRead(outcome.entries[:1], outcome.entries[0].modify_index)
    if isinstance(outcome, RolledBack):
        refusals = {refused.refusal for refused in outcome.refused}
        if refusals == {Refusal.MISSING}:
            return KeysRead((), 0)
        if Refusal.DENIED in refusals:
            return denied("kv get", 403, outcome.refused[0].what, access)
        return unusable("kv get", response, "Consul did not take the request")
    return outcome


def decode_transaction(
    sessions: tuple[Any, ...], response: HttpResponse, operation: str = "transaction", access: Access = NOBODY
) -> Outcome:
    """The outcome of a transaction.

    Args:
        sessions: for each of its operations the session that it names, or None.
        response: the answer.
        operation: what was asked, in words for messages.
        access: with which right it was asked.
    """
    status = response.status
    try:
        if status == 200:
            results = _results(response.body).Results or ()
            return Committed(tuple([_checked(result.KV) for result in results if result.KV is not UNSET]))
        if status == 409:
            return RolledBack(tuple([_refused(error, len(sessions)) for error in _errors(response.body).Errors]))
    except Exception as error:  # as in `decode`
        return senseless(operation, response, error)
    refused = refused_whole(response)
    if refused is not None:
        return refused
    if status == 500 and b"invalid session" in response.body:
        return _invalid_sessions(sessions, response.body.decode("utf-8", "replace").strip())
    return failure(operation, response, access)


def _refused(error: _Error, count: int) -> Refused:
    if error.OpIndex >= count:
        raise _Malformed(f"there is no operation {error.OpIndex}")
    return Refused(error.OpIndex, refusal_of(error.What), error.What)


def _invalid_sessions(sessions: tuple[Any, ...], what: str) -> RolledBack:
    """Which operations a 500 is about: those of the session it names, or all with a session when it names none."""
    concerned = [place for place, session in enumerate(sessions) if session and str(session) in what]
    if not concerned:
        concerned = [place for place, session in enumerate(sessions) if session]
    return RolledBack(tuple(Refused(place, Refusal.INVALID_SESSION, what) for place in concerned))
