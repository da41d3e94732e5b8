"""A loop that is closed while a connection is being opened: no traceback, whatever becomes of what is left."""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
from typing import Any

import pytest

from consul_locker.aio import LockerFactory

from ..behaviour.tools import WAIT


def opening() -> bool:
    """Whether a task is within asyncio's own opening of a connection: it waits for one more round of the loop."""
    for task in asyncio.all_tasks():
        step: Any = task.get_coro()
        while step is not None:
            if getattr(step, "__name__", "") == "_create_connection_transport":
                return True
            step = getattr(step, "cr_await", None)
    return False


@pytest.mark.parametrize("unix", [False, True], ids=["TCP", "unix socket"])
def test_a_connection_that_its_loop_is_closed_under(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, unix: bool, tmp_path: Any
) -> None:
    """asyncio closes it when its coroutine is thrown away, for which it wants the loop."""
    raised: list[BaseException | None] = []
    gc.collect()
    gc.disable()  # a collection meanwhile changes the order of the last one, and asyncio's coroutine may go before ours
    request.addfinalizer(gc.enable)
    address = f"unix://{tmp_path}/consul" if unix else "127.0.0.1"
    with socket.create_server(("127.0.0.1", 0)) if not unix else socket.socket(socket.AF_UNIX) as listener:
        if unix:
            listener.bind(f"{tmp_path}/consul")
            listener.listen()
        else:
            address += f":{listener.getsockname()[1]}"
        loop = asyncio.new_event_loop()

        async def main() -> bool:
            left = LockerFactory(address).create("left alone")
            running = asyncio.get_running_loop()
            end = running.time() + WAIT
            while not (found := opening()) and running.time() < end:
                await asyncio.sleep(0)
            running.stop()  # at the end of this very round
            del left
            return found

        task = loop.create_task(main())
        loop.run_forever()
        assert task.result()
        with monkeypatch.context() as patched:
            patched.setattr(sys, "unraisablehook", lambda found: raised.append(found.exc_value))
            loop.close()
            del loop, task
            gc.collect()
    assert [error for error in raised if not isinstance(error, ResourceWarning)] == []
