"""aio/state_waits: a state is noticed even if the Locker was in it for a moment only."""

from __future__ import annotations

import asyncio

import pytest

from consul_locker.aio.state_waits import StateWaits


@pytest.mark.parametrize(
    "states, expected", [(["paused", "ready", "acquiring"], True), ([], False), (["paused"], False)]
)
def test_a_wait_ends_with_its_state_or_with_the_end(states: list[str], expected: bool) -> None:
    async def go() -> bool | None:
        waits = StateWaits()
        waiting = asyncio.create_task(waits.wait("ready", None))
        await asyncio.sleep(0)
        for state in states:
            waits.reached(state)
        waits.end()
        return await waiting

    assert asyncio.run(go()) is expected


def test_the_time_ends_and_leaves_nothing() -> None:
    async def go() -> tuple[bool | None, int]:
        waits = StateWaits()
        found = await waits.wait("ready", 0.0)
        waits.reached("ready")
        return found, len(waits._waiters)

    assert asyncio.run(go()) == (None, 0)
