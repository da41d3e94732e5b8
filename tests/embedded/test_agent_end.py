"""How the embedded agent ends while something is under way in its thread."""

from __future__ import annotations

import asyncio
import threading

import pytest

from consul_locker.embedded import Agent


def test_who_is_being_accepted_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """asyncio accepts a connection in a task of its own: it must not be destroyed with the loop."""
    winding_down, accepted = threading.Event(), threading.Event()
    wind_down = Agent._wind_down

    async def told(agent: Agent) -> None:
        winding_down.set()
        await wind_down(agent)

    async def accept() -> None:
        while not winding_down.is_set():
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        accepted.set()

    monkeypatch.setattr(Agent, "_wind_down", told)
    with Agent() as agent:
        assert agent._loop is not None
        asyncio.run_coroutine_threadsafe(accept(), agent._loop)
    assert accepted.is_set()
