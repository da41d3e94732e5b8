"""What a Locker caches: whether a grant is remembered, and whether it answers the next call."""

from __future__ import annotations

from typing import Protocol

from .lease import BaseLease

__all__ = ["NoStrategy", "PermanentStrategy", "Strategy"]


class Strategy(Protocol):
    """What a Locker remembers of its grants; `consul_locker.PermanentStrategy` says what its methods must not do."""

    @property
    def shares_in_flight(self) -> bool:
        """Whether callers who ask while a request is in flight share its answer."""
        ...

    def keeps(self, lease: BaseLease) -> bool:
        """Whether a granted lease is remembered at all."""
        ...

    def serves(self, lease: BaseLease, now: float) -> bool:
        """Whether a remembered lease answers a call made at ``now``, in seconds on the Locker's clock."""
        ...


class PermanentStrategy:
    """The original's: a granted lock is the Locker's until it is released, and asking again costs no request.

    One of your own has the same members. They are asked under the Locker's mutex, and `serves` also without it, by
    many threads at a time: they must be quick and must not call the Locker. Where `keeps` or `serves` raises, that is
    logged and counts as False.

    Attributes:
        shares_in_flight: whether callers who ask while a request is in flight share its answer.
    """

    shares_in_flight = True

    def keeps(self, lease: BaseLease) -> bool:
        """Every grant is remembered.

        Args:
            lease: that was just granted.

        Returns:
            True.
        """
        return True

    def serves(self, lease: BaseLease, now: float) -> bool:
        """A remembered lease answers every call (the Locker itself refuses one that is over).

        Args:
            lease: that `keeps` was true for.
            now: the time of the call, in seconds on the Locker's clock.

        Returns:
            True.
        """
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
