"""Works that nobody is told of, for tests of what they are put into."""

from __future__ import annotations

from typing import Any, cast

from consul_locker.core.calls import LockCall
from consul_locker.core.key import LockWork, ReleaseWork, Slot
from consul_locker.core.ledger import Ledger

#: The owner of works whose outcome does not matter.
NOBODY = cast("Any", None)


def want_lock(ledger: Ledger, *slots: Slot, calls: list[LockCall] | None = None) -> LockWork:
    work = LockWork(NOBODY, slots, calls or [])
    ledger.want(work)
    return work


def want_release(ledger: Ledger, slot: Slot) -> ReleaseWork:
    work = ReleaseWork(NOBODY, slot, None)
    ledger.want(work)
    return work
