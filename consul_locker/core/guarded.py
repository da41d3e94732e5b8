"""`guarded`: a user's own KV operations, in one transaction with the guard of a lease (`BaseLease.guard`).

The operations are checked here before anything is sent, and what Consul's refusal means is told here: the lock, or the
operations themselves. Such a transaction is never sent again and never split.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Iterable, Mapping
from typing import Any

from ..config.options import LockerOptions
from ..errors import ConfigurationError, ConsulLockerError, ConsulUnavailable, LockLost
from .audit import Audit
from .batch import MAX_OPS
from .calls import Guarded
from .ledger import Ledger
from .refusals import denied
from .requests import Refusal, Refused, RefusedWhole, RolledBack

__all__ = ["guard_refused", "own_operations"]

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


def _names_session(call: Guarded, refused: Refused, session_id: str) -> bool:
    """Whether a user's own operation was refused because the lease's session, which it names, does not exist.

    Consul may not have checked the guard then. Another missing session says nothing about the lease.
    """
    operation = call.operations[refused.position]
    return refused.refusal is Refusal.INVALID_SESSION and operation["KV"].get("Session") == session_id


def guard_refused(
    call: Guarded, outcome: RolledBack | RefusedWhole, ledger: Ledger, audit: Audit, options: LockerOptions
) -> ConsulLockerError:
    """The error of a user's transaction that was refused: because of the lock, or of its own operations."""
    lease = call.lease
    if isinstance(outcome, RolledBack):
        for refused in outcome.refused:
            if refused.refusal is Refusal.DENIED:  # nothing else was looked at, so it says nothing about the lock
                inner = call.operations[refused.position]["KV"]
                right = "key:read" if inner["Verb"].startswith(("get", "check")) else "key:write"
                return denied(options, "guarded", refused.what, inner["Key"], right)
            if refused.position < GUARDS or _names_session(call, refused, lease.session_id):
                audit.suspect_lease(lease)
                return LockLost(lease.id, lease.key, lease.reason or "refused by Consul", lease.fence)
        what = "; ".join(refused.what for refused in outcome.refused)
        return ConsulUnavailable(
            f"Consul refused the operations, not the lock: {what}", operation="guarded", status=409
        )
    # Never split: the user wants all or nothing.
    why = "too large (413)" if outcome.status == 413 else f"a whole ({outcome.status}: {outcome.what})"
    return ConsulUnavailable(f"Consul refused the operations as {why}", operation="guarded", status=outcome.status)
