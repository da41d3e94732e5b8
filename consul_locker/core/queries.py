"""Questions: the calls that ask Consul something besides locks. Answered in every state, by one or two requests."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Iterable, Mapping
from typing import Any

from ..config.options import LockerOptions
from ..errors import ConfigurationError, ConsulLockerError, ConsulUnavailable, LockLost
from ..keys import lock_key
from ..lease import BaseLease
from ..models import LockInfo
from .audit import Audit
from .batch import MAX_OPS
from .ledger import Ledger
from .messages import Call
from .refused_keys import error_of
from .requests import (
    Committed,
    Entry,
    Failed,
    KeysRead,
    Outcome,
    RawTransact,
    ReadKey,
    ReadSession,
    Refusal,
    Refused,
    RefusedWhole,
    RolledBack,
    SessionRead,
)
from .step import Outbox

__all__ = ["Questions", "lock_info", "own_operations"]

#: How many operations of a guarded transaction are the guard's own; see `BaseLease.guard`.
GUARDS = 2
#: How many are left to the user: Consul takes no more in one transaction.
MAX_OWN = MAX_OPS - GUARDS

#: What an operation of a user's looks like.
_FORM = '{"KV": {"Verb": "set", "Key": "colour", "Value": "Ymx1ZQ=="}}, the value in base64'


def own_operations(operations: object) -> list[dict[str, Any]]:
    """The operations of `guarded`, checked and copied. If one is not valid, none is sent.

    Only their form is checked here; Consul checks the verbs and their arguments.

    Raises:
        ConfigurationError: an operation is not valid; it names the position of the first.
    """
    if isinstance(operations, (str, bytes, Mapping)) or not isinstance(operations, Iterable):
        raise ConfigurationError("operations", operations, f"a list of operations, each like {_FORM}")
    found = list(operations)
    if len(found) > MAX_OWN:
        raise ConfigurationError(
            "operations", f"({len(found)} operations)", f"at most {MAX_OWN}, as many as Consul takes beside the guard"
        )
    return [_own_operation(f"operations[{position}]", operation) for position, operation in enumerate(found)]


def _own_operation(name: str, operation: object) -> dict[str, Any]:
    inner = operation.get("KV") if isinstance(operation, Mapping) and len(operation) == 1 else None
    if not (isinstance(inner, Mapping) and isinstance(inner.get("Verb"), str) and isinstance(inner.get("Key"), str)):
        raise ConfigurationError(name, operation, f"an operation looks like {_FORM}")
    value = inner.get("Value")
    try:
        if value is not None:
            b64decode(value.replace("\r", "").replace("\n", ""), validate=True)  # Consul skips line ends, too
    except (AttributeError, TypeError, ValueError):
        raise ConfigurationError(
            name, operation, "its Value is a text in base64, as in base64.b64encode(b'blue').decode()"
        ) from None
    own = {"KV": dict(inner)}
    try:
        json.dumps(own, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigurationError(name, operation, f"JSON cannot carry it: {error}") from None
    return own


def _names_session(call: Call, refused: Refused, session_id: str) -> bool:
    """Whether a user's own operation was refused because the lease's session, which it names, does not exist.

    Consul may not have checked the guard then. Another missing session says nothing about the lease.
    """
    operation: dict[str, Any] = call.argument[1][refused.position]
    return refused.refusal is Refusal.INVALID_SESSION and operation["KV"].get("Session") == session_id


def lock_info(id: str, entry: Entry) -> LockInfo:
    """An entry of Consul's KV store as a user sees it."""
    value: Any = None
    if entry.value:
        try:
            value = json.loads(entry.value)
        except (ValueError, RecursionError):  # not written by this library
            value = entry.value.decode("utf-8", "replace")
    return LockInfo(id, entry.key, entry.session, value, entry.modify_index, entry.lock_index, entry.flags)


class Questions:
    """`info`, `holder`, `session_info` and `guarded` of one Locker."""

    def __init__(self, options: LockerOptions, outbox: Outbox, ledger: Ledger, audit: Audit, timeout: float) -> None:
        self._options = options
        self._out = outbox
        self._ledger = ledger
        self._audit = audit
        self._timeout = timeout

    def ask(self, call: Call, generation: int) -> None:
        """Send the request that answers a call."""
        if call.verb in ("info", "holder"):
            key = lock_key(self._options.name, call.id)
            self._out.send(ReadKey(generation, key, "info", call=call, timeout=self._timeout))
        elif call.verb == "guarded":
            self._out.send(RawTransact(generation, tuple(call.argument[1]), call, timeout=self._timeout))
        elif call.argument is None:
            self._out.settle(call, None)  # there is no session to read
        else:
            self._out.send(ReadSession(generation, call.argument, call=call, timeout=self._timeout))

    def answered(self, request: ReadKey | ReadSession | RawTransact, outcome: Outcome) -> None:
        """A question was answered, or its request failed."""
        call = request.call
        assert call is not None
        if isinstance(outcome, Failed):
            self._out.settle(call, error=outcome.error)
        elif isinstance(outcome, KeysRead):
            entry = outcome.entries[0] if outcome.entries else None
            info = lock_info(call.id, entry) if entry is not None else None
            if call.verb == "holder" and (info is None or info.session_id is None):
                info = None
            elif call.verb == "holder" and info is not None and info.session_id is not None:
                call.argument = info
                self._out.send(ReadSession(request.generation, info.session_id, call=call, timeout=self._timeout))
                return
            self._out.settle(call, info)
        elif isinstance(outcome, SessionRead):
            self._out.settle(
                call, outcome.session if call.verb != "holder" else call.argument.with_session(outcome.session)
            )
        elif isinstance(outcome, RefusedWhole) and isinstance(request, ReadKey):
            self._out.settle(call, error=error_of(outcome, (call.id,)))
        elif isinstance(outcome, Committed):
            self._out.settle(call, [lock_info(entry.key, entry) for entry in outcome.entries])
        else:
            self._out.settle(call, error=self._guard_refused(call, outcome))

    def _guard_refused(self, call: Call, outcome: Outcome) -> ConsulLockerError:
        """The error of a user's transaction that was refused: because of the lock, or of its own operations."""
        lease: BaseLease = call.argument[0]
        if isinstance(outcome, RolledBack):
            for refused in outcome.refused:
                if refused.position < GUARDS or _names_session(call, refused, lease.session_id):
                    slot = self._ledger.slots.get(lease.id)
                    if slot is not None and slot.lease is lease:
                        self._audit.suspect(slot)
                    return LockLost(lease.id, lease.key, lease.reason or "refused by Consul", lease.fence)
            what = "; ".join(refused.what for refused in outcome.refused)
            return ConsulUnavailable(
                f"Consul refused the operations, not the lock: {what}", operation="guarded", status=409
            )
        assert isinstance(outcome, RefusedWhole)  # never split: the user wants all or nothing
        why = "too large (413)" if outcome.status == 413 else f"a whole ({outcome.status}: {outcome.what})"
        return ConsulUnavailable(f"Consul refused the operations as {why}", operation="guarded", status=outcome.status)
