"""Loops and agents of the tests of the asyncio face.

``run`` runs a coroutine on asyncio's own loop, and on uvloop's where that is installed.
"""

from __future__ import annotations

import asyncio
import gc
import importlib.util
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from consul_locker.aio import observers as aio_delivery
from consul_locker.embedded import Agent

from .tools import LIMIT, Run


@pytest.fixture(
    params=[
        "asyncio",
        pytest.param(
            "uvloop", marks=pytest.mark.skipif(not importlib.util.find_spec("uvloop"), reason="uvloop is not installed")
        ),
    ]
)
def new_loop(request: pytest.FixtureRequest) -> Callable[[], asyncio.AbstractEventLoop]:
    """Makes event loops."""
    if request.param == "uvloop":
        import uvloop

        return uvloop.new_event_loop
    return asyncio.new_event_loop


@pytest.fixture
def run(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> Run:
    """Runs a coroutine function on a new loop; fails when a task is left, or the loop was told of an error."""

    def running(main: Callable[[], Awaitable[Any]]) -> Any:
        loop = new_loop()
        strays: list[dict[str, Any]] = []
        loop.set_exception_handler(lambda _, context: strays.append(context))

        async def limited() -> Any:
            return await asyncio.wait_for(main(), LIMIT)

        try:
            result = loop.run_until_complete(limited())
            assert asyncio.all_tasks(loop) == set()
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.close()
        gc.collect()
        assert strays == []
        return result

    return running


@pytest.fixture
def embedded() -> Iterator[Agent]:
    with Agent() as agent:
        yield agent


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls wait 20 ms for their signals, not a second."""
    monkeypatch.setattr(aio_delivery, "PATIENCE", 0.02)
