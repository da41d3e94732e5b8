"""Questions: the calls that ask Consul something besides locks. Answered in every state, by one or two requests."""

from __future__ import annotations

import json
from typing import Any

from ..config.options import LockerOptions
from ..keys import lock_key
from ..models import LockInfo
from .audit import Audit
from .guarded import guard_refused
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
    RefusedWhole,
    SessionRead,
)
from .step import Outbox

__all__ = ["Questions", "lock_info"]

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
            self._out.settle(call, error=guard_refused(call, outcome, self._ledger, self._audit, self._options))
