"""What a Locker caches: whether a grant is remembered, and whether it answers the next call."""

from __future__ import annotations

from typing import Protocol

from .lease import BaseLease

__all__ = ["NoStrategy", "PermanentStrategy", "Strategy"]


class Strategy(Protocol):
    """What a Locker remembers of its grants. `consul_locker.PermanentStrategy` says what the methods must not do."""

    @property
    def shares_in_flight(self) -> bool:
        """Whether calls that come while a request is in flight share its answer."""
        ...

    def keeps(self, lease: BaseLease) -> bool:
        """Whether a granted lease is remembered at all."""
        ...

    def serves(self, lease: BaseLease, now: float) -> bool:
        """Whether a remembered lease answers a call made at ``now``, in seconds on the Locker's clock."""
        ...


class PermanentStrategy:
    """The original's strategy: a granted lock is kept until it is released, and locking it again costs no request.

    A strategy of your own has the same members. They are called under the Locker's mutex, and `serves` also without it,
    by many threads at a time: they must be quick and must not call the Locker. If `keeps` or `serves` raises, that is
    logged and counts as False.

    Attributes:
        shares_in_flight: whether calls that come while a request is in flight share its answer.
    """

    shares_in_flight = True

    def keeps(self, lease: BaseLease) -> bool:
        """Every grant is remembered.

        Args:
            lease: the lease that was just granted.

        Returns:
            True.
        """
        return True

    def serves(self, lease: BaseLease, now: float) -> bool:
        """A remembered lease answers every call (the Locker itself refuses one that is over).

        Args:
            lease: a lease for which `keeps` returned True.
            now: the time of the call, in seconds on the Locker's clock.

        Returns:
            True.
        """
        return True

    def __repr__(self) -> str:
        return "PermanentStrategy()"


class NoStrategy:
    """The strategy for ``strategy=None``: every call asks Consul, for each key one after another."""

    shares_in_flight = False

    def keeps(self, lease: BaseLease) -> bool:
        """No grant is remembered. The Locker still has the lease, to release it, but it answers no other call."""
        return False

    def serves(self, lease: BaseLease, now: float) -> bool:
        """No lease answers a call: Consul is asked."""
        return False

    def __repr__(self) -> str:
        return "NoStrategy()"
