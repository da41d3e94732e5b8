"""What a Locker shows of itself without a step of its core: its health, and its counters.

Both are read in any thread, without the mutex. Each fact is one value that is replaced as a whole; two of them may be
one step apart, which changes nothing for whoever looks from outside, since nothing is decided by them.
"""

from __future__ import annotations

from typing import cast

from ..core.locker import LockerCore
from ..models import Health, StateName

__all__ = ["counters_of", "health_of", "words_of"]

#: What is counted, from the beginning on.
_COUNTED = (
    "granted", "denied", "cached", "shared", "requests", "transactions", "released", "lost", "failed", "renewals",
    "renewals_failed", "outages",
)  # fmt: skip


def health_of(core: LockerCore, now: float, *, held: int, waiting: int, address: str) -> Health:
    """How a Locker is.

    Args:
        core: of the Locker.
        now: the time, on the clock of the core's steps.
        held: how many leases are held.
        waiting: how many calls have no answer yet.
        address: the address of Consul in use.
    """
    session, outage = core.session, core.outage
    life, since, cause = session.life, outage.since, outage.cause or session.cause
    next_attempt = core.attempts.next if life is None else core.pace.due
    return Health(
        state=cast(StateName, core.state),
        session_id=None if life is None else life.session_id,
        outage_since=None if since is None else max(0.0, now - since),
        cause=None if cause is None else str(cause),
        next_attempt=None if next_attempt is None else max(0.0, next_attempt - now),
        waiting=waiting,
        held=held,
        oldest_renewal=None if life is None else max(0.0, now - session.renewed_at),
        address=address,
    )


def counters_of(core: LockerCore, now: float) -> dict[str, int]:
    """What a Locker counts. The arguments are those of `health_of`."""
    counters = {**dict.fromkeys(_COUNTED, 0), **core.counters()}
    counters["outage_seconds"] = int(core.outage.seconds(now))
    counters["stopping"] = int(core.stop.under_way)
    return counters


def words_of(core: LockerCore, now: float) -> str:
    """The state of a Locker for its repr, with what is out of the ordinary. The arguments are those of `health_of`."""
    stop = core.stop.state.replace("_", " ")
    stopping = f", stop: {stop}" if core.stop.under_way else ""
    since = core.outage.since
    outage = "" if since is None else f", Consul away for {now - since:.0f} s"
    return f"{core.state}{stopping}{outage}"
