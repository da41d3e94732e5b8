"""What Consul answers, as the core's outcomes. Pure.

Each decoder takes an `HttpResponse` and returns an outcome of `consul_locker.core.messages`; whatever a
server answers, none of them raises. The answer of an endpoint is read by the callback that the endpoint
class of python-consul2 (or py-consul) made for it; transactions are read here.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..core.requests import (
    Committed,
    Done,
    Entry,
    Failed,
    Gone,
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
from ..errors import AccessDenied, ConsulUnavailable
from ..models import SessionInfo

__all__ = ["HttpResponse", "parse_duration", "refusal_of"]

#: How much of an unexpected body an error repeats, in characters: enough for Consul's own messages.
EXCERPT = 200


#: Ids of sessions are UUIDs; with nothing else in them, they cannot change a path.
SESSION_ID = re.compile(r"[0-9A-Za-z-]{1,128}")


@dataclass(frozen=True)
class HttpResponse:
    """An answer. The names of ``headers`` are in lower case; of repeated ones the last counts."""

    status: int
    headers: dict[str, str]
    body: bytes


class _Malformed(Exception):
    """An answer of the wrong form; for use inside this module only."""


class _Answer(NamedTuple):
    """An answer as the callbacks of python-consul2 (which has ``content``) and of py-consul read it."""

    code: int
    headers: dict[str, str]
    body: str
    content: bytes


# ---------------------------------------------------------------------------------------------------- decoding


def _excerpt(body: bytes) -> str:
    text = body[: 4 * EXCERPT].decode("utf-8", "replace").strip()
    return text if len(text) <= EXCERPT else f"{text[:EXCERPT]}…"


def _unusable(
    operation: str, response: HttpResponse, why: str, option: str | None = None, *, sent: bool = True
) -> Failed:
    said = _excerpt(response.body)
    error = ConsulUnavailable(
        f"{operation}: {why} (status {response.status}" + (f": {said})" if said else ", no body)"),
        operation=operation,
        status=response.status,
        sent=sent,
        option=option,
    )
    return Failed(error, sent)


#: Consul's words, with a status of 500, for what it does not know (measured), and the option that names it. They may
#: stand behind others, since a server that passes a request on puts "rpc error making call: " before the answer.
_UNKNOWN = ((b"Missing check", "checks"), (b"Missing node registration", "node"), (b"No path to datacenter", "dc"))

#: What a client agent says of a session of another datacenter (source: agent/session_endpoint.go of newer versions; one
#: of 1.8.7 makes it, measured).
_ONLY_THROUGH_SERVERS = b"cross datacenter lock must be created at server agent"


#: What a follower, a client agent, or another datacenter's server puts before the words of the server that it asked
#: (measured).
_FORWARDED = b"rpc error making call: "

#: How Consul's words begin, with a status of 500 or more, for what it refused before it did anything: there is no
#: leader to do it (source: agent/consul/rpc.go, canRetry), no server was reached (measured), a rate limit (measured).
_NOT_DONE = (b"No cluster leader", b"rpc error getting client: ", b"rate limit exceeded")


def _not_done(response: HttpResponse) -> bool:
    """Whether Consul says that it refused the request before it did anything.

    Words wrapped in those of another server count by what is inside: ``rpc error making call: EOF`` does not say.
    """
    if response.status == 429:
        return True
    words = response.body[: 4 * EXCERPT].strip()
    while words.startswith(_FORWARDED):
        words = words[len(_FORWARDED) :]
    return response.status >= 500 and words.startswith(_NOT_DONE)


def _failure(operation: str, response: HttpResponse) -> Failed:
    """What an answer means that is no success of any kind."""
    status = response.status
    if _not_done(response):
        return _unusable(operation, response, "Consul cannot answer now; it has done nothing", sent=False)
    if status in (401, 403):  # refused before anything was done
        return Failed(AccessDenied(operation, status, _excerpt(response.body)), sent=False)
    if 300 <= status < 400:
        return _unusable(
            operation, response, "answered by a redirect, which is not followed; is this address Consul's?"
        )
    if status == 404:
        return _unusable(operation, response, "not found; is this address Consul's?")
    if status >= 500:
        for words, option in _UNKNOWN:
            if words in response.body:
                return _unusable(operation, response, f"Consul does not know what the option {option!r} names", option)
        if _ONLY_THROUGH_SERVERS in response.body:
            why = (
                "a client agent makes no session of another datacenter; give the option 'host' the address of a "
                "server, or of an agent in that datacenter"
            )
            return _unusable(operation, response, why, "host")
        return _unusable(operation, response, "Consul cannot answer now")
    return _unusable(operation, response, "Consul did not take the request")


def decode(
    operation: str,
    callback: Callable[[Any], Any],
    convert: Callable[[Any, bytes], Outcome],
    missing: Callable[[HttpResponse], Outcome | None] | None,
    response: HttpResponse,
) -> Outcome:
    """The outcome of an endpoint's request.

    Args:
        operation: what was asked, in words for messages.
        callback: the endpoint's own decoder.
        convert: makes an outcome of what the callback returns, and of the body where that is not enough.
        missing: reads a 404 where that is an answer (None: this one is not); None where it never is.
        response: the answer.
    """
    if response.status == 404 and missing is not None:
        found = missing(response)
        if found is not None:
            return found
    if response.status != 200:
        return _failure(operation, response)
    try:
        index = response.headers.get("x-consul-index")
        headers = {} if index is None else {"X-Consul-Index": index}
        value = callback(_Answer(200, headers, response.body.decode("utf-8"), response.body))
        return convert(value, response.body)
    except Exception as error:  # the callbacks raise whatever the body provokes, from KeyError to RecursionError
        return _unusable(operation, response, f"the answer makes no sense: {type(error).__name__}: {error!s:.200}")


def _text(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise _Malformed(f"{what} is no text")
    return value


def _index(value: object, what: str) -> int:
    if type(value) is not int or value < 0:
        raise _Malformed(f"{what} is no whole number")
    return value


def _header_index(value: object) -> int:
    if not (isinstance(value, str) and value.isascii() and value.isdigit()):
        raise _Malformed("X-Consul-Index is no whole number")
    return int(value)


def session_created(value: Any, body: bytes) -> Outcome:
    """Of the id alone, which the endpoint picks."""
    if SESSION_ID.fullmatch(_text(value, "ID")) is None:
        raise _Malformed("ID is no session's id")
    return SessionCreated(value)


def nodes_found(value: tuple[Any, Any], body: bytes) -> Outcome:
    """Of index and the servers as the catalog lists them."""
    _, servers = value
    if not servers:
        _check_empty(body)
    return NodesFound(tuple([_text(server["Node"], "Node") for server in servers]))


def done(value: Any, body: bytes) -> Outcome:
    """Of the body alone: the endpoint takes any 200 for yes."""
    if body.strip() != b"true":
        raise _Malformed("not true")
    return Done()


def renewed(session_id: str, session: Any, body: bytes) -> Outcome:
    """Of the session as Consul has it now."""
    if session["ID"] != session_id:
        raise _Malformed("another session")
    return Renewed(parse_duration(session.get("TTL", "")))


def gone(session_id: str, response: HttpResponse) -> Outcome | None:
    """A 404 of a renewal."""
    # Consul names the session; another server's 404 is no reason to give up every lock
    return Gone() if session_id.encode() in response.body else None


def session_read(value: tuple[Any, Any], body: bytes) -> Outcome:
    """Of index and session."""
    index, session = value
    if session is None:
        _check_empty(body)
        return SessionRead(None, _header_index(index))
    return SessionRead(_session_info(session), _header_index(index))


def sessions_read(value: tuple[Any, Any], body: bytes) -> Outcome:
    """Of index and a list of sessions."""
    index, found = value
    if not found:
        _check_empty(body)
    sessions = [_session_info(session) for session in found]
    return SessionsRead({session.id: session for session in sessions}, _header_index(index))


def _check_empty(body: bytes) -> None:
    """That nothing was found must be what Consul said: the endpoints take any empty thing for it."""
    if body.strip() != b"[]":
        raise _Malformed("neither a list with something in it nor an empty one")


def _session_info(session: Any) -> SessionInfo:
    checks = session.get("Checks") or session.get("NodeChecks") or ()
    if not isinstance(checks, (list, tuple)):
        raise _Malformed("Checks is no list")
    delay = session.get("LockDelay", 0)
    if isinstance(delay, bool) or not isinstance(delay, (int, float)):
        raise _Malformed("LockDelay is no number")
    return SessionInfo(
        id=_text(session["ID"], "ID"),
        name=_text(session.get("Name", ""), "Name"),
        node=_text(session.get("Node", ""), "Node"),
        ttl=parse_duration(session.get("TTL", "")),
        lock_delay=delay / 1e9,  # Consul answers in nanoseconds
        behavior=_text(session.get("Behavior", "release"), "Behavior"),
        checks=tuple(_text(check, "a check") for check in checks),
        create_index=_index(session["CreateIndex"], "CreateIndex"),
    )


def keys_read(value: tuple[Any, Any], body: bytes) -> Outcome:
    """Of index and one key, or several; their values are out of base64 already."""
    index, found = value
    if not found:
        _check_empty(body)
        return KeysRead((), _header_index(index))
    items = (found,) if isinstance(found, dict) else found
    return KeysRead(tuple([_entry(item, item["Value"]) for item in items]), _header_index(index))


def keys_missing(response: HttpResponse) -> Outcome | None:
    """A 404 of a KV read is "no such key" when it is Consul's, which always gives an index."""
    index = response.headers.get("x-consul-index", "")
    return KeysRead((), int(index)) if index.isascii() and index.isdigit() else None


def names_read(value: tuple[Any, Any], body: bytes) -> Outcome:
    """Of index and a list of names."""
    found = value[1]
    if not found:
        _check_empty(body)
        return NamesRead(())
    if not isinstance(found, list):
        raise _Malformed("no list of names")
    return NamesRead(tuple([_text(name, "a name") for name in found]))


def names_missing(response: HttpResponse) -> Outcome | None:
    """A 404 of a list of names: there is none, or none that may be seen."""
    return None if keys_missing(response) is None else NamesRead(())


def _entry(item: dict[str, Any], value: bytes | None) -> Entry:
    """A key as Consul's JSON has it; ``value`` decoded already. On the hot path."""
    key, session = item["Key"], item.get("Session")
    flags, created, modified, locked = item["Flags"], item["CreateIndex"], item["ModifyIndex"], item["LockIndex"]
    if not (type(flags) is type(created) is type(modified) is type(locked) is int):
        raise _Malformed("Flags or an index is no whole number")
    if type(key) is not str or not (session is None or type(session) is str):
        raise _Malformed("Key or Session is no text")
    return Entry(key, value, flags, session or None, created, modified, locked)


# ------------------------------------------------------------------------------------------------ transactions


#: With these a request is refused for what is in it: a part of it may be taken. 400 and 413 were measured, the others
#: are an intermediary's.
_FOR_CONTENT = (400, 406, 413, 414, 422)


def _refused_whole(response: HttpResponse) -> RefusedWhole | None:
    """What a refusal for what is in the request says; None for any other answer."""
    # Go refuses plain HTTP with a 400, too, whatever is in it.
    if response.status in _FOR_CONTENT and b"HTTP request to an HTTPS server" not in response.body:
        return RefusedWhole(response.status, _excerpt(response.body))
    return None


def key_watched(read: Callable[[HttpResponse], Outcome], response: HttpResponse) -> Outcome:
    """Of a watch on a key: some Consuls refuse keys in /v1/kv (500) that transactions take."""
    if response.status == 500:
        refused = RefusedWhole(500, _excerpt(response.body))
        if refused.of_key and not _not_done(response):
            return refused
    return read(response)


def decode_key(key: str, response: HttpResponse) -> Outcome:
    """Of a key that was read by transaction.

    Without the right to read it Consul leaves it out and says no word (measured): nothing is no answer.
    """
    outcome = decode_transaction((None,), response, "kv get")
    if isinstance(outcome, Committed):
        if not outcome.entries:
            missing = f"an answer without the key {key!r}; the token lacks key:read for it"
            return Failed(AccessDenied("kv get", 403, missing), sent=False)
        return KeysRead(outcome.entries[:1], outcome.entries[0].modify_index)
    if isinstance(outcome, RolledBack):
        refusals = {refused.refusal for refused in outcome.refused}
        if refusals == {Refusal.MISSING}:
            return KeysRead((), 0)
        if Refusal.DENIED in refusals:
            return Failed(AccessDenied("kv get", 403, outcome.refused[0].what), sent=False)
        return _unusable("kv get", response, "Consul did not take the request")
    return outcome


def decode_transaction(
    sessions: tuple[Any, ...], response: HttpResponse, operation: str = "transaction"
) -> Outcome:
    """The outcome of a transaction.

    Args:
        sessions: for each of its operations the session that it names, or None.
        response: the answer.
        operation: what was asked, in words for messages.
    """
    status = response.status
    refused = _refused_whole(response)
    if refused is not None:
        return refused
    if status == 500 and b"invalid session" in response.body:
        return _invalid_sessions(sessions, response.body.decode("utf-8", "replace").strip())
    if status not in (200, 409):
        return _failure(operation, response)
    try:
        answer = json.loads(response.body)
        if status == 200:
            return Committed(tuple([_result(result) for result in answer["Results"] or () if "KV" in result]))
        return RolledBack(tuple([_refused(error, len(sessions)) for error in answer["Errors"]]))
    except Exception as error:  # whatever the body provokes, from KeyError to RecursionError
        why = f"the answer makes no sense: {type(error).__name__}: {error!s:.200}"
        return _unusable(operation, response, why)


def _result(result: dict[str, Any]) -> Entry:
    item = result["KV"]
    value = item.get("Value")
    return _entry(item, None if value is None else b64decode(value, validate=True))


def _refused(error: dict[str, Any], count: int) -> Refused:
    position, what = _index(error["OpIndex"], "OpIndex"), _text(error["What"], "What")
    if position >= count:
        raise _Malformed(f"there is no operation {position}")
    return Refused(position, refusal_of(what), what)


def _invalid_sessions(sessions: tuple[Any, ...], what: str) -> RolledBack:
    """Which operations a 500 is about: those of the session it names, or all with a session when it names none."""
    concerned = [place for place, session in enumerate(sessions) if session and str(session) in what]
    if not concerned:
        concerned = [place for place, session in enumerate(sessions) if session]
    return RolledBack(tuple(Refused(place, Refusal.INVALID_SESSION, what) for place in concerned))


#: Consul's words for a refused operation, beginning and end (source: agent/consul/state/kvs.go and txn.go; the
#: common ones measured). What stands between is the key, which may hold any words itself.
_WORDS = (
    ("failed to lock key", "lock is already held", Refusal.HELD),
    ("failed to lock key", "due to lock delay", Refusal.LOCK_DELAY),
    ("failed to unlock key", "held by another session", Refusal.NOT_HELD),
    ("invalid session", "", Refusal.INVALID_SESSION),
    ("Permission denied", "", Refusal.DENIED),
    ("failed session check", "", Refusal.SESSION),
    ("failed index check", "", Refusal.INDEX),
    ("failed to ", "index is stale", Refusal.INDEX),
    ("failed to check", "doesn't exist", Refusal.MISSING),
    ("key ", "doesn't exist", Refusal.MISSING),
    ("key ", "exists", Refusal.EXISTS),
)


def refusal_of(what: str) -> Refusal:
    """Why Consul refused an operation, from its words; `Refusal.OTHER` for words that are not known.

    Args:
        what: the ``What`` of an error in the answer to a transaction.
    """
    for beginning, end, refusal in _WORDS:
        if what.startswith(beginning) and what.endswith(end):
            return refusal
    return Refusal.OTHER


_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|h|m|s)")

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_duration(text: object) -> float | None:
    """A duration as Go writes it (``15s``, ``1m30s``, ``1.5s``), in seconds; None for an empty one.

    Raises:
        ValueError: it is no duration.
    """
    if text == "" or text is None:
        return None
    if text == "0":
        return 0.0
    parts = _DURATION.findall(text) if isinstance(text, str) else []
    if "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{text!r:.100} is no duration")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)
