"""Observers on asyncio: their order, what they raise, and what they may do."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Any

import pytest

from consul_locker import (
    signals,
)
from consul_locker.aio import Locker, LockerFactory
from consul_locker.embedded import Agent

from .tools import Run


def test_observers_are_called_in_order_one_after_another(embedded: Agent, run: Run) -> None:
    heard: list[str] = []

    async def requested(sender: Locker, id: str, **facts: Any) -> None:
        heard.append(f"requested {id}")
        await asyncio.sleep(0.01)
        heard.append(f"requested {id}, done")

    def acquired(sender: Locker, id: str, **facts: Any) -> None:
        heard.append(f"acquired {id}")

    async def released(sender: Locker, id: str, **facts: Any) -> None:
        heard.append(f"released {id}")

    async def main() -> None:
        async with LockerFactory(embedded.address) as factory:
            locker = factory.create("observed")
            with (
                signals.lock_requested.connected_to(requested, sender=locker),
                signals.lock_acquired.connected_to(acquired, sender=locker),
                signals.released.connected_to(released, sender=locker),
            ):
                await locker.lock("a")
                assert heard == ["requested a", "requested a, done", "acquired a"]  # delivered when the call returns
                await locker.release("a")
            assert heard[3:] == ["released a"]

    run(main)


def test_a_slow_observer_delays_signals_only(embedded: Agent, run: Run, impatient: None) -> None:
    heard: list[str] = []

    async def main() -> None:
        go_on = asyncio.Event()

        async def slow(sender: Locker, id: str, **facts: Any) -> None:
            await go_on.wait()
            heard.append(id)

        async with LockerFactory(embedded.address) as factory:
            locker, other = factory.create("slow"), factory.create("other")
            assert await other.wait_for_state("ready")
            with signals.lock_acquired.connected_to(slow):
                assert (await locker.lock("a")).valid
                assert (await other.lock("b")).valid
                assert await other.release("b")
                assert await locker.info("a")
                assert heard == []
                go_on.set()
                assert (await locker.lock("c")).valid
                assert heard == ["a", "b", "c"]

    run(main)


def test_calls_wait_for_their_own_signals_only(embedded: Agent, run: Run) -> None:
    """A question has none, so an observer that hangs for another Locker does not hold it up: patience is a second."""

    async def main() -> None:
        go_on, begun = asyncio.Event(), asyncio.Event()

        async def slow(sender: Locker, **facts: Any) -> None:
            begun.set()
            await go_on.wait()

        async with LockerFactory(embedded.address) as factory:
            locker, other = factory.create("slow"), factory.create("other")
            assert await other.wait_for_state("ready")
            with signals.lock_acquired.connected_to(slow, sender=locker):
                lock = asyncio.ensure_future(locker.lock("a"))
                await begun.wait()
                await other.info("a")
                assert not lock.done()
                go_on.set()
                await lock

    run(main)


def test_an_observer_that_raises_is_logged(embedded: Agent, run: Run, caplog: pytest.LogCaptureFixture) -> None:
    heard: list[str] = []

    def plain(sender: Locker, **facts: Any) -> None:
        raise KeyError("plain")

    async def coroutine(sender: Locker, **facts: Any) -> None:
        raise KeyError("coroutine")

    def good(sender: Locker, id: str, **facts: Any) -> None:
        heard.append(id)

    async def main() -> None:
        async with LockerFactory(embedded.address) as factory, factory.create("raising") as locker:
            for observer in (plain, coroutine, good):
                signals.lock_acquired.connect(observer, sender=locker)
            await locker.lock_many(["a", "b"])

    run(main)
    assert sorted(heard) == ["a", "b"]
    failures = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert sorted(str(record.exc_info[1]) for record in failures if record.exc_info) == [
        "'coroutine'", "'coroutine'", "'plain'", "'plain'",
    ]  # fmt: skip


class Outcome(BaseException):
    """As test frameworks have them, so that no ``except Exception`` hides a failure."""


def test_whatever_an_observer_raises_is_logged(embedded: Agent, run: Run, caplog: pytest.LogCaptureFixture) -> None:
    heard: list[str] = []

    def plain(sender: Locker, **facts: Any) -> None:
        raise Outcome("plain")

    async def coroutine(sender: Locker, **facts: Any) -> None:
        raise Outcome("coroutine")

    def good(sender: Locker, id: str, **facts: Any) -> None:
        heard.append(id)

    def listener(data: Any) -> None:
        raise Outcome("listener")

    async def main() -> None:
        async with LockerFactory(embedded.address) as factory, factory.create("raising") as locker:
            for observer in (plain, coroutine, good):
                signals.lock_acquired.connect(observer, sender=locker)
            locker.fsm.on("handled", listener)
            await locker.lock("a")
            await locker.lock("b")

    run(main)
    assert heard == ["a", "b"]
    failures = [str(record.exc_info[1]) for record in caplog.records if record.exc_info]
    assert [failures.count(one) for one in ("plain", "coroutine")] == [2, 2]
    assert "listener" in failures


def test_an_observer_can_end_the_program(embedded: Agent) -> None:
    def observer(sender: Locker, **facts: Any) -> None:
        raise SystemExit(3)

    async def main() -> None:
        async with LockerFactory(embedded.address) as factory, factory.create("ending") as locker:
            with signals.lock_acquired.connected_to(observer, sender=locker):
                await locker.lock("a")

    with pytest.raises(SystemExit, match="3"):
        asyncio.run(main())


def test_a_task_that_an_observer_returns_is_not_waited_for(embedded: Agent, run: Run) -> None:
    started: list[asyncio.Task[Any]] = []

    async def main() -> None:
        go_on = asyncio.Event()

        async def work() -> None:
            await go_on.wait()

        def observer(sender: Locker, **facts: Any) -> asyncio.Task[Any]:
            started.append(asyncio.ensure_future(work()))
            return started[-1]

        async with LockerFactory(embedded.address) as factory, factory.create("starting") as locker:
            with signals.lock_acquired.connected_to(observer, sender=locker):
                await locker.lock("a")
                await locker.lock("b")  # which would wait a second for the signals of the first
            assert len(started) == 2
            assert factory._delivery._task is None
            go_on.set()
            await asyncio.wait(started)

    run(main)


class KnowingTask(asyncio.Task):
    """A task of Python 3.10 that says what those of 3.11 say: that nobody asked for its cancellation."""

    def cancelling(self) -> int:
        return 0


def test_a_cancelled_error_of_an_observer_is_its_own(
    embedded: Agent, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    """Something that it waited for was cancelled, not the delivery."""
    heard: list[str] = []

    async def observer(sender: Locker, id: str, **facts: Any) -> None:
        heard.append(id)
        raise asyncio.CancelledError

    async def main() -> None:
        loop = asyncio.get_running_loop()
        if sys.version_info < (3, 11):
            loop.set_task_factory(lambda loop, coroutine, **options: KnowingTask(coroutine, loop=loop, **options))
        async with LockerFactory(embedded.address) as factory, factory.create("raising") as locker:
            with signals.lock_acquired.connected_to(observer, sender=locker):
                await locker.lock("a")
                await locker.lock("b")

    run(main)
    assert heard == ["a", "b"]
    assert "an observer of lock-acquired failed" in caplog.text


def test_delivery_goes_on_after_its_task_was_cancelled(embedded: Agent, run: Run) -> None:
    """As the end of a loop does to every task: what was not delivered then is with the next signal."""
    heard: list[str] = []

    async def main() -> None:
        stuck, at = asyncio.Event(), asyncio.Event()

        async def observer(sender: Locker, id: str, **facts: Any) -> None:
            heard.append(id)
            at.set()
            if id == "a":
                await stuck.wait()

        async with LockerFactory(embedded.address) as factory, factory.create("cancelled") as locker:
            with signals.lock_acquired.connected_to(observer, sender=locker):
                lock = asyncio.ensure_future(locker.lock("a"))
                await at.wait()
                (delivering,) = [task for task in asyncio.all_tasks() if task.get_name() == "consul_locker-signals"]
                delivering.cancel()
                assert (await lock).valid
                await locker.lock("b")
                assert heard == ["a", "b"]

    run(main)


def test_inside_an_observer(embedded: Agent, run: Run) -> None:
    """What would wait is refused, by the task: what it starts may wait; cached locks and properties work."""
    heard: list[Any] = []

    async def main() -> None:
        started: list[asyncio.Task[Any]] = []

        async with LockerFactory(embedded.address) as factory:
            locker = factory.create("inside")
            ended = await locker.lock("ended")
            await locker.release("ended")

            async def observer(sender: Locker, lease: Any, **facts: Any) -> None:
                if lease.id != "a":
                    return
                assert await sender.lock("a") is lease
                assert await ended.wait_lost() == "released"
                assert sender.held["a"].valid
                for wrong in (
                    lambda: sender.lock("b"),
                    lambda: sender.release("a"),
                    lambda: sender.stop(),
                    lambda: sender.wait_for_state("stopped"),
                    lambda: lease.wait_lost(),
                    lambda: factory.close(),
                ):
                    with pytest.raises(RuntimeError, match="inside an observer"):
                        await wrong()
                    heard.append("refused")
                assert await sender.wait_for_state("ready")
                started.append(asyncio.ensure_future(sender.lock("b")))

            with signals.lock_acquired.connected_to(observer, sender=locker):
                await locker.lock("a")
                assert heard == ["refused"] * 6
                assert (await started[0]).id == "b"

    run(main)


@pytest.mark.parametrize("stubborn", [False, True])
def test_closing_ends_an_observer_that_hangs(embedded: Agent, run: Run, impatient: None, stubborn: bool) -> None:
    ends: list[str] = []

    async def main() -> None:
        for_ever, enough = asyncio.Event(), asyncio.Event()

        async def observer(sender: Locker, **facts: Any) -> None:
            try:
                await for_ever.wait()
            except asyncio.CancelledError:
                ends.append("cancelled")
                if stubborn:
                    await enough.wait()
                raise

        with signals.lock_acquired.connected_to(observer):
            async with LockerFactory(embedded.address) as factory:
                await factory.create("hanging").lock_many(["a", "b"])
        assert ends == ["cancelled"]
        enough.set()
        for task in asyncio.all_tasks():
            if task.get_name() == "consul_locker-signals":
                await asyncio.wait({task})

    run(main)
