"""A line to Consul that a test answers by hand, where the connections are of a factory's watches."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

from consul_locker.client.addresses import Addresses
from consul_locker.client.decode import HttpResponse
from consul_locker.client.encode import Encoder, HttpRequest
from consul_locker.config.options import ClientOptions
from consul_locker.core.requests import Outcome, Watch, WatchKey, WatchSession
from consul_locker.runtime.watches import OWN_SESSION_WATCHES, Watches

from ..behaviour.tools import WAIT, eventually, settle


class Line:
    """Takes requests as a transport does. Each is in ``sent`` with the future of its answer."""

    def __init__(self, addresses: Addresses) -> None:
        self.addresses = addresses
        self.sent: list[tuple[HttpRequest, asyncio.Future[HttpResponse]]] = []

    async def send(self, request: HttpRequest, limit: float, stays: bool = False) -> HttpResponse:
        answer: asyncio.Future[HttpResponse] = asyncio.get_running_loop().create_future()
        self.sent.append((request, answer))
        return await answer

    def open(self) -> list[asyncio.Future[HttpResponse]]:
        """The answers not given yet, of requests not given up."""
        return [answer for _, answer in self.sent if not answer.done()]

    async def arrived(self, count: int) -> None:
        """Wait until so many requests have come in all."""
        await eventually(lambda: len(self.sent) >= count)


def at(index: int) -> HttpResponse:
    """No such key, at this index."""
    return HttpResponse(404, {"x-consul-index": str(index)}, b"")


def run(test: Callable[[Watches, Line], Coroutine[Any, Any, None]], connections: int = 8) -> None:
    """Run a test on a loop; it must leave nothing behind there."""

    async def go() -> None:
        options = ClientOptions.build(["10.0.0.1", "10.0.0.2", "10.0.0.3"], environ={})
        line: Any = Line(Addresses(options))
        watching = Watches(options, Encoder(options), line, lambda: connections // 2)
        await asyncio.wait_for(test(watching, line), WAIT)
        await settle()
        left = watching._queries, watching._nodes, watching._tasks, watching._running, watching._pausing
        assert left == ({}, {}, set(), 0, 0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(go())


def wish(watching: Watches, index: int = 0, key: str = "k", kind: type[Watch] = WatchKey) -> asyncio.Task[Outcome]:
    """Begin a watch."""
    return asyncio.create_task(watching.watch(kind(1, key, index, 300.0)))


async def gone(task: asyncio.Task[Any]) -> None:
    """Give it up, and wait until it has ended."""
    task.cancel()
    await asyncio.wait_for(asyncio.wait({task}), WAIT)
    assert task.cancelled()


def just_before(watching: Watches, name: str, work: Callable[[], object]) -> None:
    """Do something at the very moment at which this method is called next."""
    method = getattr(watching, name)

    def wrapper(*args: Any) -> None:
        setattr(watching, name, method)
        work()
        method(*args)

    setattr(watching, name, wrapper)


def session(number: int) -> str:
    return f"00000000-0000-0000-0000-{number:012}"


def node_at(index: int, *numbers: int) -> HttpResponse:
    """The sessions of a node, at this index."""
    body = [{"ID": session(number), "Node": "n", "CreateIndex": number} for number in numbers]
    return HttpResponse(200, {"x-consul-index": str(index)}, json.dumps(body).encode())


def watch_session(watching: Watches, number: int, index: int, node: str = "n") -> asyncio.Task[Outcome]:
    """Begin a watch on a session that was seen at an index."""
    return asyncio.create_task(watching.watch(WatchSession(1, session(number), index, 300.0, node)))


async def on_node(watching: Watches, line: Line, *seen: tuple[int, int]) -> list[asyncio.Task[Outcome]]:
    """Begin watches that are one query on the node, beside those of Lockers that have their own; all are to be gone."""
    own = [watch_session(watching, 900 + number, 1) for number in range(OWN_SESSION_WATCHES)]
    await line.arrived(OWN_SESSION_WATCHES)
    shared = [watch_session(watching, number, index) for number, index in seen]
    await line.arrived(OWN_SESSION_WATCHES + 1)
    for one in own:
        await gone(one)
    assert len(line.sent) == OWN_SESSION_WATCHES + 1
    (answer,) = line.open()
    assert line.sent[-1][0].path == "/v1/session/node/n"
    assert line.sent[-1][1] is answer
    return shared
