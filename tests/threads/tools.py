"""What the tests of threads share."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from consul_locker import Locker

from ..behaviour.tools import WAIT, Gate, until


def served_together(locker: Locker, gate: Gate, count: int) -> None:
    """A call's transaction is held up meanwhile, so that the next one has that many callers."""
    wanted = locker.stats()["requests"]
    held = gate.hold("PUT /v1/txn", 1)
    first = in_thread(lambda: locker.lock("first"))
    held.wait()
    others = [in_thread(lambda id=id: locker.lock(id)) for id in range(count)]
    until(lambda: locker.stats()["requests"] == wanted + count + 1)
    held.let_go()
    assert all(future.result(WAIT).valid for future in [first, *others])


def in_thread(work: Callable[[], Any]) -> Future[Any]:
    """Run something in a thread of its own."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future
