"""Transactions that Consul refuses as a whole: for a key that it does not take, or for their size.

Since February 2026 Consul answers a transaction with 400 when one of its keys breaks its rules, and does not say which
(measured; docs/consul_versions.rst). So such a transaction is sent again in halves until the bad key is alone; the
number of rounds grows with the logarithm of the size. Only the call of the bad key is refused, the others are served.

A key that was refused alone is remembered for a while: it gets a transaction of its own, and audits, looks and sweeps
leave it out. On a Consul that refuses a key we cannot hold it, unless we locked it before an upgrade of Consul. Then it
can be neither checked nor released, and it ends with the session.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from ..errors import ConsulLockerError, ConsulUnavailable, InvalidLockId
from .key import Slot
from .requests import Failed, KeyAnswer, RefusedWhole, TransactAnswer
from .step import Outbox

__all__ = ["RefusedKeys", "error_of", "failure_of", "halves"]

#: How long a refused key is remembered, in seconds. Not for ever: an operator may turn Consul's check off.
REFUSED_FOR = 600.0
#: At most this many refused keys are remembered, the latest.
MAX_REFUSED = 1024

ItemT = TypeVar("ItemT")


class RefusedKeys:
    """The keys that Consul refused alone, remembered for `REFUSED_FOR`."""

    __slots__ = ("_out", "_until")

    def __init__(self, outbox: Outbox) -> None:
        self._out = outbox
        self._until: dict[str, float] = {}  # the latest is last

    def __contains__(self, key: str) -> bool:
        until = self._until.get(key)
        if until is not None and until <= self._out.now:
            del self._until[key]
            return False
        return until is not None

    def any_of(self, slots: Iterable[Slot]) -> bool:
        """Whether a key of these is one of them."""
        return bool(self._until) and any(slot.key in self for slot in slots)

    def add(self, key: str) -> None:
        """Consul refused this key, alone."""
        self._until.pop(key, None)
        self._until[key] = self._out.now + REFUSED_FOR
        if len(self._until) > MAX_REFUSED:
            del self._until[next(iter(self._until))]


def halves(items: Sequence[ItemT]) -> tuple[Sequence[ItemT], Sequence[ItemT]]:
    """What a transaction was about, at least two items, in two parts."""
    middle = (len(items) + 1) // 2
    return items[:middle], items[middle:]


def error_of(outcome: RefusedWhole, ids: tuple[str, ...]) -> ConsulLockerError:
    """The error of a call whose operations were refused as a whole.

    Args:
        outcome: Consul's answer.
        ids: the ids of the locks that the operations are about.
    """
    if outcome.of_key:
        who = "Consul does not take its key" if len(ids) == 1 else "Consul does not take the key of one of them"
        return InvalidLockId(ids[0] if len(ids) == 1 else ids, f"{who} ({outcome.status}: {outcome.what})")
    if outcome.status == 413:
        what = "Consul refused the transaction as too large (413); shorten the lock's value"
    else:
        what = f"transaction: Consul did not take the request (status {outcome.status}: {outcome.what})"
    return ConsulUnavailable(what, operation="transaction", status=outcome.status)


def failure_of(outcome: TransactAnswer | KeyAnswer, ids: tuple[str, ...] = ()) -> tuple[ConsulLockerError, bool]:
    """The error of a request that was not done, and whether it may have taken effect all the same."""
    if isinstance(outcome, Failed):
        return outcome.error, outcome.sent
    if isinstance(outcome, RefusedWhole):
        return error_of(outcome, ids), False
    return ConsulUnavailable("Consul refused the transaction without a reason", operation="transaction"), True
