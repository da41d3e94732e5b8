"""What a Locker caches: whether a grant is remembered, and whether it answers the next call."""

from __future__ import annotations

from .types import BaseLease

__all__ = ["NoStrategy", "PermanentStrategy"]


class PermanentStrategy:
    """The original's: a granted lock is the Locker's until it is released, and asking again costs no request."""

    shares_in_flight = True

    def keeps(self, lease: BaseLease) -> bool:
        """Every grant is remembered."""
        return True

    def serves(self, lease: BaseLease, now: float) -> bool:
        """A remembered lease answers every call (the Locker itself refuses one that is over)."""
        return True

    def __repr__(self) -> str:
        return "PermanentStrategy()"


class NoStrategy:
    """Stands for ``strategy=None``: every call asks Consul, one after another for each key."""

    shares_in_flight = False

    def keeps(self, lease: BaseLease) -> bool:
        """None: the Locker still knows the lease, which it must release, but it answers nobody else."""
        return False

    def serves(self, lease: BaseLease, now: float) -> bool:
        """Never: Consul is asked."""
        return False

    def __repr__(self) -> str:
        return "NoStrategy()"
