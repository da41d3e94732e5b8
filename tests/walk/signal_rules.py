"""Rules of the walk for what a Locker tells its observers: of its session, of grants, and of their ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from consul_locker.lease import BaseLease
from consul_locker.strategies import PermanentStrategy

from .around import Violation

if TYPE_CHECKING:
    from .player import Player

__all__ = ["SignalRules"]

#: Reasons of a loss that say something of one key; each must be true of it.
KEY_REASONS = frozenset(
    ("key deleted", "key overwritten", "key taken over", "released by a stranger", "not held any more")
)


class SignalRules:
    """The rules, for one Locker.

    Args:
        player: whose.
    """

    def __init__(self, player: Player) -> None:
        self._player = player
        self._last_fence: dict[str, int] = {}

    def heard(self, signal: str, facts: dict[str, Any]) -> None:
        """A signal is sent."""
        player, sim = self._player, self._player.around.sim
        if signal == "lock_acquired":
            self._granted(facts["lease"])
        elif signal in ("released", "lock_lost"):
            lease: BaseLease | None = facts["lease"]
            if lease is None:
                return  # the release of a lock that no lease was known of
            if lease not in player.live:
                raise Violation("a grant ends in one of released and lock-lost", f"{lease}: {signal} {facts}")
            if lease.live:
                raise Violation("a lease is over when its end is told", f"{lease}")
            del player.live[lease]
            player.old.append(lease)
            # A snapshot may bring the session back while the answer that it is gone is on its way.
            on_its_way = sim.restored_at > player.around.now - player.timeout
            if signal == "released" and lease.reason == "stopped" and not on_its_way:
                entry = sim.keys.get(lease.key)  # free by the session's end, or by a release of its own
                if entry is not None and (entry.session, entry.modify_index) == (lease.session_id, lease.fence):
                    raise Violation("a stop says released only of what is free", f"{lease}")
            if signal == "lock_lost":
                self._check_loss(lease, facts["reason"])
        elif signal == "session_created":
            if player.session is not None:
                raise Violation("sessions begin and end in turn", f"{facts} while {player.session}")
            player.session = facts["session_id"]
        elif signal == "session_ended":
            if player.session != facts["session_id"]:
                raise Violation("sessions begin and end in turn", f"{facts} while {player.session}")
            if player.live:
                raise Violation("session-ended comes after the ends of its leases", f"{facts}: {list(player.live)}")
            if facts["reason"] == "session destroyed" and facts["session_id"] not in sim.ended:
                raise Violation("no false loss", f"{facts}")
            if facts["reason"] == "deadline passed" and player.around.now < player.trust[facts["session_id"]]:
                raise Violation("no false loss", f"{facts} before {player.trust[facts['session_id']]}")
            player.rules.session_ends(facts["session_id"], facts["reason"])
            player.session = None

    def _granted(self, lease: BaseLease) -> None:
        me, around = self._player, self._player.around
        fences = around.fences
        if (lease.key, lease.fence) in fences or lease.fence <= self._last_fence.get(lease.key, 0):
            raise Violation("fences of a key rise with every grant", f"{lease} after {self._last_fence}")
        fences[lease.key, lease.fence] = lease
        self._last_fence[lease.key] = lease.fence
        for player in around.players:
            for other in player.live:
                if other.key == lease.key and other is not lease and other.valid:
                    first = min(other.fence, lease.fence)
                    if player is me or around.sim.outside.get(lease.key, 0) <= first:
                        raise Violation("mutual exclusion", f"{lease} of {me.number}, {other} of {player.number}")
        me.live[lease] = None

    def _check_loss(self, lease: BaseLease, reason: str) -> None:
        player = self._player
        if lease.reason == "taken again" and lease.takers and isinstance(player.options.strategy, PermanentStrategy):
            raise Violation("a cached lock is not taken again", f"{lease}")
        broken = (lease.key, lease.fence) in player.around.sim.broken
        if reason in ("release failed", "not held any more"):
            broken = broken or lease.key in player.doubtful
        if (reason in KEY_REASONS or reason == "release failed") and not broken:
            raise Violation("no false loss", f"{lease}: {reason}")
