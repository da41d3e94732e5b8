"""Holds on asyncio; tests/behaviour/test_holds.py has what both faces do."""

from __future__ import annotations

import asyncio

import pytest

from consul_locker import (
    AlreadyLocked,
    LockLost,
)
from consul_locker.aio import LockerFactory
from consul_locker.embedded import Agent

from .tools import Run


def test_holds(embedded: Agent, run: Run) -> None:
    async def main() -> None:
        async with LockerFactory(embedded.address) as factory, factory.create("holds") as locker:
            async with locker.hold_many([]) as none:
                assert none == []
            async with locker.hold("a", wait=5) as first, locker.hold_many(["b", "c"]) as more:
                assert [lease.id for lease in [first, *more]] == ["a", "b", "c"]
                with pytest.raises(AlreadyLocked, match="a") as refused:
                    await asyncio.ensure_future(locker.lock("a"))
                assert refused.value.reason == "local"
                with pytest.raises(RuntimeError, match="this task holds 'b' already"):
                    async with locker.hold("b", wait=5):
                        raise AssertionError("unreachable")
            async with locker.hold("a") as again:
                assert again.fence > first.fence
            assert locker.held == {}

    run(main)


def test_a_stop_within_a_hold(embedded: Agent, run: Run) -> None:
    async def main() -> None:
        async with LockerFactory(embedded.address) as factory:
            locker = factory.create("losing")
            with pytest.raises(LockLost, match="stopped"):
                async with locker.hold("a"):
                    await locker.stop()

    run(main)
