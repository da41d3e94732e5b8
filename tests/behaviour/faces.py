"""Both faces in one form, so that a test is written once: plain calls that return when they are answered."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import consul_locker
from consul_locker import aio

from .tools import WAIT


class ThreadedFace:
    """The face for threads is in this form already."""

    def factory(self, address: str, **options: Any) -> Any:
        """A factory for the agent there."""
        return consul_locker.LockerFactory(address, **options)

    def embedded(self, agent: Any) -> Any:
        """A factory on an embedded agent, and on its clock."""
        return consul_locker.LockerFactory.embedded(agent)

    def together(self, work: Callable[[], Any]) -> Any:
        """Do several things as one caller."""
        return work()

    def close(self) -> None:
        """Nothing to do."""


class AioFace:
    """The asyncio face, its loop in a thread of the test."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def factory(self, address: str, **options: Any) -> Any:
        """A factory for the agent there."""
        return Proxy(self, aio.LockerFactory(address, **options))

    def embedded(self, agent: Any) -> Any:
        """A factory on an embedded agent, and on its clock."""
        return Proxy(self, aio.LockerFactory.embedded(agent))

    def submit(self, call: Callable[[], Any]) -> Future[Any]:
        """Make a call on the loop; a coroutine is awaited."""

        async def go() -> Any:
            result = call()
            return _wrap(self, await result if inspect.isawaitable(result) else result)

        return asyncio.run_coroutine_threadsafe(go(), self.loop)

    def run(self, call: Callable[[], Any]) -> Any:
        """The same, waiting for it."""
        return self.submit(call).result(WAIT)

    def close(self) -> None:
        """End the loop; nothing may be pending on it."""
        pending = self.run(lambda: [task for task in asyncio.all_tasks() if task is not asyncio.current_task()])
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(WAIT)
        self.loop.close()
        assert not pending, pending


def _wrap(face: AioFace, result: Any) -> Any:
    if isinstance(result, (aio.Locker, aio.Lease)):
        return Proxy(face, result)
    if isinstance(result, list):
        return [_wrap(face, one) for one in result]
    return result


class Proxy:
    """An object of the asyncio face: its methods are called on the loop."""

    def __init__(self, face: AioFace, real: Any) -> None:
        self._face = face
        self.real = real

    def __getattr__(self, name: str) -> Any:
        if name in ("submit_lock", "submit_release"):
            method = getattr(self.real, name.removeprefix("submit_"))
            return lambda *args, **options: self._face.submit(lambda: method(*args, **options))
        found = getattr(self.real, name)
        if not callable(found):
            return found
        return lambda *args, **options: self._face.run(lambda: found(*map(_bare, args), **options))

    @contextmanager
    def hold(self, *args: Any, **options: Any) -> Iterator[Any]:
        """`async with locker.hold(…)`."""
        with self._entered(self.real.hold(*args, **options)) as lease:
            yield lease

    @contextmanager
    def hold_many(self, *args: Any, **options: Any) -> Iterator[Any]:
        """`async with locker.hold_many(…)`."""
        with self._entered(self.real.hold_many(*args, **options)) as leases:
            yield leases

    @contextmanager
    def _entered(self, manager: Any) -> Iterator[Any]:
        got = self._face.run(manager.__aenter__)
        try:
            yield got
        except BaseException as error:
            failure = error
            if not self._face.run(lambda: manager.__aexit__(type(failure), failure, None)):
                raise
        else:
            self._face.run(lambda: manager.__aexit__(None, None, None))

    def __enter__(self) -> Proxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._face.run(lambda: self.real.__aexit__(kind, error, trace))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Proxy) and self.real is other.real

    def __hash__(self) -> int:
        return id(self.real)

    def __repr__(self) -> str:
        return repr(self.real)


def _bare(value: Any) -> Any:
    return value.real if isinstance(value, Proxy) else value


def bare(value: Any) -> Any:
    """The library's own object."""
    return _bare(value)


FACES = {"threaded": ThreadedFace, "asyncio": AioFace}
