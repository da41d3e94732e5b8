"""Who hears a signal."""

from __future__ import annotations

from typing import Any

from consul_locker import signals
from consul_locker.runtime.delivery import has_receivers, receivers


def test_of_a_locker_that_was_thrown_away_nobody_hears() -> None:
    """An observer of all Lockers would be called without one."""

    def hear(sender: Any, **facts: Any) -> None:
        raise AssertionError("it has no sender")

    with signals.lock_lost.connected_to(hear):
        assert has_receivers("lock_lost", object())
        assert not has_receivers("lock_lost", None)
        assert list(receivers("lock_lost", None)) == []
