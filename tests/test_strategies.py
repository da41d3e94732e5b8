"""strategies: what is remembered, and what that answers."""

from __future__ import annotations

from consul_locker.lease import BaseLease, SessionLife
from consul_locker.strategies import NoStrategy, PermanentStrategy, Strategy

LEASE = BaseLease("a", SessionLife(1, "5e55", 10.0, "n", lambda: 2.0), 7, 1.0, False)


def test_permanent() -> None:
    strategy: Strategy = PermanentStrategy()
    assert strategy.keeps(LEASE)
    assert strategy.serves(LEASE, 2.0)
    assert strategy.shares_in_flight
    assert repr(strategy) == "PermanentStrategy()"


def test_none() -> None:
    strategy: Strategy = NoStrategy()
    assert not strategy.keeps(LEASE)
    assert not strategy.serves(LEASE, 2.0)
    assert not strategy.shares_in_flight
    assert repr(strategy) == "NoStrategy()"
