"""A loop that counts its rounds, and a sweep of cancellations over every round of a call (test_cancellation.py)."""

from __future__ import annotations

import asyncio
import http.client
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from consul_locker.aio import Locker, LockerFactory
from consul_locker.core.requests import Watch
from consul_locker.embedded import Agent

#: More rounds than any call here takes; a sweep that gets so far hangs.
MOST_ROUNDS = 500
#: How long a round takes in which nothing happens, in seconds: longer than the agent needs for an answer.
IDLE_ROUND = 0.01
#: The limit on anything that is waited for, in seconds; far above what it takes.
LIMIT = 20.0


class SteppedLoop(asyncio.SelectorEventLoop):
    """An event loop that cancels tasks after a number of rounds."""

    def __init__(self) -> None:
        super().__init__()
        self._left = -1
        self._task: asyncio.Task[Any] | None = None
        self._how = ""

    def cancel_after(self, rounds: int, task: asyncio.Task[Any], how: str = "once") -> None:
        """Cancel a new task after so many rounds of its own; with 0 before it has run at all.

        Args:
            rounds: how many.
            task: which.
            how: ``"once"``; ``"again"`` in every round from then on, as anyio's cancel scopes do; or ``"all"``
                tasks of the loop but those of the test, as `asyncio.run` does at its end.
        """
        self._left, self._task, self._how = rounds + 1, task, how  # the present round is one more
        self._kept = own_tasks()
        if rounds == 0:
            self._end_of_round(1)

    def done(self) -> None:
        """Cancel no more."""
        self._task = None

    def _end_of_round(self, rounds: int) -> None:
        task = self._task
        if task is None:
            return
        self._left -= rounds
        if self._left <= 0:
            for one in asyncio.all_tasks(self) - self._kept if self._how == "all" else {task}:
                one.cancel()
            if self._how != "again":
                self.done()
        self.call_later(IDLE_ROUND, lambda: None)  # rounds go on while there is nothing but to wait

    def _run_once(self) -> None:
        super()._run_once()
        self._end_of_round(1)


def own_tasks() -> set[asyncio.Task[Any] | None]:
    """The tasks of the test itself: this one, and the one of `run`."""
    return {asyncio.current_task()} | {task for task in asyncio.all_tasks() if task.get_coro().__name__ == "limited"}


def run(main: Callable[[], Awaitable[Any]]) -> Any:
    """What `asyncio.run` does, on a stepped loop; nothing may be left when it ends."""
    loop = SteppedLoop()
    strays: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: strays.append(context))
    try:

        async def limited() -> Any:
            return await asyncio.wait_for(main(), LIMIT)

        result = loop.run_until_complete(limited())
        assert asyncio.all_tasks(loop) == set()
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()
    assert strays == []
    return result


@pytest.fixture(scope="module")
def agent() -> Iterator[Agent]:
    with Agent() as embedded:
        yield embedded


def ask(agent: Agent, path: str) -> list[dict[str, Any]]:
    connection = http.client.HTTPConnection(agent.address, timeout=LIMIT)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read()
        return json.loads(body) if response.status == 200 else []
    finally:
        connection.close()


def locked(agent: Agent) -> dict[str, str]:
    """Which keys a session has, in the agent's own view."""
    return {entry["Key"]: entry["Session"] for entry in ask(agent, "/v1/kv/?recurse") if entry.get("Session")}


async def quiet(locker: Locker) -> None:
    """Wait until nothing of the Locker is on the way, except for its watches."""
    exchange = locker._runtime._io_loop
    while True:
        tasks = [
            task
            for request, (task, receive) in exchange._tasks.items()
            if receive is locker._runtime._receive and not isinstance(request, Watch)
        ] + [each.ended() for each, receive in exchange._without_task.values() if receive is locker._runtime._receive]
        if not tasks:
            return
        await asyncio.wait(tasks)


def leftovers(locker: Locker) -> list[Any]:
    """What a call that is over must have taken away."""
    found: list[Any] = [*locker._runtime.state_waits._waiters, *locker._holds, *locker._runtime._delivery._flushing]
    found += [call for slot in locker._core.ledger.slots.values() for call in slot.waiters]
    found += [work for slot in locker._core.ledger.slots.values() for work in slot.works]
    found += locker._core.fsm.input_queue
    # The timer for the next deadline of a call stays until it is due, unless the Locker is stopped.
    timers = {"wait", "pause", "stop", "destroy"} | ({"calls"} if locker.state == "stopped" else set())
    found += [
        name
        for receive, name in locker._runtime._io_loop._timers
        if receive is locker._runtime._receive and name[0] in timers
    ]
    return found


@asynccontextmanager
async def a_factory(agent: Agent, sessions: bool = False) -> AsyncIterator[LockerFactory]:
    """A factory that leaves no socket, no task and no session (unless there may be such whose id it never learned)."""
    factory = LockerFactory(agent.address)
    try:
        yield factory
    finally:
        await factory.close()
        assert factory._io_loop is not None
        assert not factory._io_loop._transport._open_ones
        assert not factory._io_loop._lanes._open_ones
        assert not factory._io_loop._tasks
        assert not factory._io_loop._without_task
        assert asyncio.all_tasks() == own_tasks()
        left = ask(agent, "/v1/session/list")
        assert sessions or left == []
        for session in left:
            agent.expire_session(session["ID"])
        assert locked(agent) == {}


def sweep(one: Callable[[int], Awaitable[bool]]) -> int:
    """Run with 0, 1, 2, … rounds before the cancellation until one completes; returns how many were cancelled."""
    for rounds in range(MOST_ROUNDS):
        if run(lambda rounds=rounds: one(rounds)):
            return rounds
    raise AssertionError(f"not over after {MOST_ROUNDS} rounds")


async def cancelled(call: Callable[[], Awaitable[Any]], rounds: int, how: str = "once") -> bool:
    """Run a call and cancel it after so many rounds; returns whether it was faster. Its errors come through."""

    async def calling() -> Any:
        return await call()

    task = asyncio.ensure_future(calling())
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SteppedLoop)
    loop.cancel_after(rounds, task, how)
    await asyncio.wait({task})
    loop.done()
    if task.cancelled():
        return False
    task.result()
    return True


#: Cancelled once, and again in every round that the call goes on.
HOW = pytest.mark.parametrize("how", ["once", "again"])
#: Whether waiters take places in a queue, which are keys of the session too.
FAIR = pytest.mark.parametrize("fair", [False, True], ids=["plain", "fair"])

# Each takes a ready Locker that nobody has used.
Calls = dict[str, Callable[[Locker], Awaitable[Any]]]


async def _hold(locker: Locker) -> None:
    async with locker.hold("a", wait=5):
        pass


async def _hold_many(locker: Locker) -> None:
    async with locker.hold_many(["a", "b"]):
        pass


async def _lock_and_release(locker: Locker) -> None:
    await locker.lock("a")
    assert await locker.release("a")


async def _hold_and_work(locker: Locker) -> None:
    async with locker.hold("a") as lease:
        await locker.info("a")
        lease.check()


CALLS: Calls = {
    "hold": _hold,
    "hold_many": _hold_many,
    "hold, work": _hold_and_work,
    "info": lambda locker: locker.info("a"),
    "holder": lambda locker: locker.holder("a"),
    "session_info": lambda locker: locker.session_info(),
}
