"""Questions: the calls that ask Consul something besides locks. Answered in every state, by one or two requests.

They ride over an outage, too, each with pauses of its own, and hold up nobody else. `guarded` is sent again only if it
was certainly not sent before: a copy that is done late would overwrite what was written after it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

from ..config.options import LockerOptions
from ..keys import lock_key
from ..models import LockInfo
from .audit import Audit
from .calls import Guarded, Holder, Info, Question, ReadSessionInfo, Waiters
from .fair_places import waiters_of
from .guarded import guard_refused
from .ledger import Ledger
from .outage import FIRST_PAUSE, LONGEST_PAUSE, Outage, outage_of
from .refusals import denied
from .refused_keys import error_of
from .requests import (
    Committed,
    Entry,
    Failed,
    KeyAnswer,
    KeysRead,
    Outcome,
    RawTransact,
    ReadKey,
    ReadSession,
    RefusedWhole,
    SessionAnswer,
    TransactAnswer,
    Verb,
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
    """`info`, `holder`, `waiters`, `session_info` and `guarded` of one Locker."""

    __slots__ = ("_audit", "_ledger", "_options", "_out", "_outage", "_timeout")

    def __init__(
        self, options: LockerOptions, outbox: Outbox, ledger: Ledger, audit: Audit, outage: Outage, timeout: float
    ) -> None:
        self._options = options
        self._out = outbox
        self._ledger = ledger
        self._audit = audit
        self._outage = outage
        self._timeout = timeout

    def ask(self, call: Question, generation: int) -> None:
        """Send the request that answers a call."""
        if isinstance(call, Waiters):
            self._read_queue(generation, call)
        elif isinstance(call, Info):
            self._read_key(generation, call)
        elif isinstance(call, Guarded):
            self._transact(generation, call)
        elif isinstance(call, ReadSessionInfo) and call.session_id is not None:
            self._read_session(generation, call.session_id, call)
        else:
            self._out.settle(call, None)  # there is no session to read

    def _read_key(self, generation: int, call: Info) -> None:
        read = ReadKey(generation, lock_key(self._options.name, call.id), timeout=self._timeout, question=True)
        self._out.ask(read, partial(self._key_read, call, generation, self._out.now), lasting=True)

    def _read_queue(self, generation: int, call: Waiters) -> None:
        """Read the lock and its queue, whose keys begin with the lock's."""
        operation = {"KV": {"Verb": Verb.GET_TREE.value, "Key": lock_key(self._options.name, call.id)}}
        read = RawTransact(generation, (operation,), timeout=self._timeout, question=True)
        self._out.ask(read, partial(self._queue_read, call, generation, self._out.now), lasting=True)

    def _queue_read(self, call: Waiters, generation: int, began: float, outcome: TransactAnswer) -> None:
        if self._rides(call, began, outcome, partial(self._read_queue, generation, call)):
            return
        if isinstance(outcome, Failed):
            self._out.settle(call, error=outcome.error)
        elif isinstance(outcome, Committed):
            waiters = waiters_of(lock_key(self._options.name, call.id), outcome.entries)
            self._out.settle(call, [lock_info(call.id, entry) for entry in waiters])
        elif isinstance(outcome, RefusedWhole):
            self._out.settle(call, error=error_of(outcome, (call.id,)))
        else:
            what = "; ".join(refused.what for refused in outcome.refused)
            on = f"{self._options.name}/"
            self._out.settle(call, error=denied(self._options, "waiters", what, on, "key:read"))

    def _transact(self, generation: int, call: Guarded) -> None:
        transact = RawTransact(generation, call.operations, timeout=self._timeout, question=True)
        self._out.ask(transact, partial(self._guarded, call, generation, self._out.now), lasting=True)

    def _read_session(self, generation: int, session_id: str, call: Question, info: LockInfo | None = None) -> None:
        """Read a session for a call: for `holder` with what is known of the lock."""
        read = ReadSession(generation, session_id, timeout=self._timeout, question=True)
        again = partial(self._read_session, generation, session_id, call, info)
        self._out.ask(read, partial(self._session_read, call, info, self._out.now, again), lasting=True)

    def _rides(self, call: Question, began: float, outcome: Outcome, again: Callable[[], None]) -> bool:
        """Whether the request of a call failed by an outage; it is sent ``again``, as long as the call rides.

        Args:
            call: the call.
            began: when the request was sent.
            outcome: its answer.
            again: sends it once more.
        """
        error = outage_of(outcome)
        if error is None or call.settled:
            self._outage.answered(call)
            return call.settled
        assert isinstance(outcome, Failed)  # outages are
        if not self._outage.ride(call, began, error, sent=outcome.sent):
            self._out.settle(call, error=self._outage.error(call))
            return True
        assert call.riding is not None  # since it rides
        longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(call.riding.attempts - 1, 10))
        at = self._out.now + longest * (1.0 - self._out.random() / 2.0)
        self._out.timer(("ask", call), at, partial(self._ask_again, call, again))
        return True

    @staticmethod
    def _ask_again(call: Question, again: Callable[[], None]) -> None:
        if not call.settled:
            again()

    def _key_read(self, call: Info, generation: int, began: float, outcome: KeyAnswer) -> None:
        if self._rides(call, began, outcome, partial(self._read_key, generation, call)):
            return
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

    def _session_read(
        self, call: Question, info: LockInfo | None, began: float, again: Callable[[], None], outcome: SessionAnswer
    ) -> None:
        if self._rides(call, began, outcome, again):
            return
        if isinstance(outcome, Failed):
            self._out.settle(call, error=outcome.error)
        else:
            self._out.settle(call, outcome.session if info is None else info.with_session(outcome.session))

    def _guarded(self, call: Guarded, generation: int, began: float, outcome: TransactAnswer) -> None:
        sent = isinstance(outcome, Failed) and outcome.sent
        if not sent and self._rides(call, began, outcome, partial(self._transact, generation, call)):
            return
        if isinstance(outcome, Failed):
            self._out.settle(call, error=outcome.error)
        elif isinstance(outcome, Committed):
            self._out.settle(call, [lock_info(entry.key, entry) for entry in outcome.entries])
        else:
            self._out.settle(call, error=guard_refused(call, outcome, self._ledger, self._audit, self._options))
