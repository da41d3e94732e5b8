"""Questions: the calls that ask Consul something besides locks. Answered in every state, by one or two requests."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from ..config.options import LockerOptions
from ..keys import lock_key
from ..models import LockInfo
from .audit import Audit
from .calls import Guarded, Holder, Info, Question, ReadSessionInfo
from .guarded import guard_refused
from .ledger import Ledger
from .refused_keys import error_of
from .requests import (
    Committed,
    Entry,
    Failed,
    KeyAnswer,
    KeysRead,
    RawTransact,
    ReadKey,
    ReadSession,
    SessionAnswer,
    TransactAnswer,
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

    def ask(self, call: Question, generation: int) -> None:
        """Send the request that answers a call."""
        if isinstance(call, Info):
            read = ReadKey(generation, lock_key(self._options.name, call.id), timeout=self._timeout, question=True)
            self._out.ask(read, partial(self._key_read, call, generation), lasting=True)
        elif isinstance(call, Guarded):
            transact = RawTransact(generation, call.operations, timeout=self._timeout)
            self._out.ask(transact, partial(self._guarded, call), lasting=True)
        elif isinstance(call, ReadSessionInfo) and call.session_id is not None:
            self._read_session(generation, call.session_id, call)
        else:
            self._out.settle(call, None)  # there is no session to read

    def _read_session(self, generation: int, session_id: str, call: Question, info: LockInfo | None = None) -> None:
        """Read a session for a call: for `holder` with what is known of the lock."""
        read = ReadSession(generation, session_id, timeout=self._timeout, question=True)
        self._out.ask(read, partial(self._session_read, call, info), lasting=True)

    def _key_read(self, call: Info, generation: int, outcome: KeyAnswer) -> None:
        if isinstance(outcome, Failed):
            self._out.settle(call, error=outcome.error)
        elif not isinstance(outcome, KeysRead):
            self._out.settle(call, error=error_of(outcome, (call.id,)))
        else:
            info = lock_info(call.id, outcome.entries[0]) if outcome.entries else None
            if not isinstance(call, Holder):
                self._out.settle(call, info)
            elif info is None or info.session_id is None:
                self._out.settle(call, None)
            else:
                self._read_session(generation, info.session_id, call, info)

    def _session_read(self, call: Question, info: LockInfo | None, outcome: SessionAnswer) -> None:
        if isinstance(outcome, Failed):
            self._out.settle(call, error=outcome.error)
        else:
            self._out.settle(call, outcome.session if info is None else info.with_session(outcome.session))

    def _guarded(self, call: Guarded, outcome: TransactAnswer) -> None:
        if isinstance(outcome, Failed):
            self._out.settle(call, error=outcome.error)
        elif isinstance(outcome, Committed):
            self._out.settle(call, [lock_info(entry.key, entry) for entry in outcome.entries])
        else:
            self._out.settle(call, error=guard_refused(call, outcome, self._ledger, self._audit, self._options))
