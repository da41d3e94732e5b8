"""The asyncio face: calls, observers, loops, and what is left when it ends.

That cancelling leaves nothing behind is in test_aio_cancellation.py, that both faces have the same names in
test_surfaces.py. Every test runs on asyncio's own loop, and on uvloop's where that is installed.
"""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import logging
import os
import signal
import subprocess
import sys
import threading
import traceback
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from consul_locker import (
    AlreadyLocked,
    ConfigurationError,
    ConsulUnavailable,
    LockLost,
    LockTimeout,
    SessionEnded,
    signals,
)
from consul_locker.aio import Locker, LockerFactory
from consul_locker.aio import observers as aio_delivery
from consul_locker.core.messages import Call
from consul_locker.core.requests import Transact, Watch
from consul_locker.embedded import Agent, ManualClock

from .behaviour.tools import until

ROOT = Path(__file__).parents[1]
#: The limit on anything that is waited for, in seconds; far above what it takes.
LIMIT = 20.0

Run = Callable[[Callable[[], Awaitable[Any]]], Any]
since_311 = pytest.mark.skipif(sys.version_info < (3, 11), reason="task groups and asyncio.timeout came with 3.11")


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
    monkeypatch.setattr(aio_delivery, "DELIVERY_LIMIT", 0.02)


# --------------------------------------------------------------------------------------------- calls


def test_the_calls(agent: Any, run: Run) -> None:
    """Each of them once, on the embedded agent and on a real one."""

    async def main() -> None:
        async with LockerFactory(agent.address) as factory, factory.create("aio-calls") as locker:
            assert locker.state == "acquiring"
            lease = await locker.lock(1)
            assert locker.state == "ready"
            assert await locker.lock("1") is lease
            assert locker.held == {"1": lease}
            assert lease.valid
            assert [one.id for one in await locker.lock_many(["3", 2, 3])] == ["3", "2", "3"]
            assert await locker.lock_many([]) == []
            info, holder = await locker.info(1), await locker.holder(1)
            assert info is not None
            assert holder is not None
            assert info.fence == holder.fence == lease.fence
            assert holder.session == await locker.session_info() == await locker.session_info(locker.session_id)
            assert await locker.holder("nobody has it") is None
            (entry,) = await locker.guarded(lease, [{"KV": {"Verb": "get", "Key": lease.key}}])
            assert entry.fence == lease.fence
            delete = {"KV": {"Verb": "delete", "Key": "aio-calls/none"}}
            assert await locker.guarded(lease, [delete]) == await locker.guarded(lease, []) == []
            assert await locker.release(1)
            assert await lease.wait_lost() == "released"
            assert await locker.release(1) is False
            assert await locker.release_all() == 2
            assert locker.stats()["granted"] == 3
            assert repr(locker) == "<consul_locker.aio.Locker 'aio-calls' ready held=0>"
            assert agent.address in repr(factory)

    run(main)


def test_many_tasks_that_want_one_lock(embedded: Agent, run: Run) -> None:
    """They share a request, its answer, and its refusal; each has an error of its own, with its own frames only."""

    async def main() -> None:
        async with LockerFactory(embedded.address) as factory:
            holder, locker = factory.create("shared"), factory.create("shared")
            first, *others = await asyncio.gather(*(holder.lock("a") for _ in range(500)))
            assert all(lease is first for lease in others)
            assert holder.stats()["requests"] == 1
            errors = await asyncio.gather(*(locker.lock("a") for _ in range(500)), return_exceptions=True)
            assert {type(error) for error in errors} == {AlreadyLocked}
            assert len(set(map(id, errors))) == 500
            assert {len(list(traceback.walk_tb(error.__traceback__))) for error in errors} == {2}
            assert locker.stats()["requests"] == 1
            await holder.release("a")
            order: list[int] = []

            async def holding(number: int) -> None:
                async with locker.hold("a", wait=None):
                    order.append(number)

            await asyncio.gather(*map(holding, range(500)))
            assert order == list(range(500))

    run(main)


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


def test_a_hold_says_that_its_lock_was_lost(embedded: Agent, run: Run) -> None:
    async def main() -> None:
        async with LockerFactory(embedded.address) as factory, factory.create("losing") as locker:
            with pytest.raises(LockLost, match="session destroyed"):
                async with locker.hold("a") as lease:
                    assert await lease.wait_lost(0) is None
                    embedded.expire_session(lease.session_id)
                    assert await lease.wait_lost() == "session destroyed"
            with pytest.raises(KeyError, match="the body's own") as raised:
                async with locker.hold("a"):
                    locker.reboot()
                    raise KeyError("the body's own")
            (note,) = raised.value.__notes__
            assert "rebooted" in note
            with pytest.raises(KeyError, match="nothing lost"):
                async with locker.hold("a"):
                    raise KeyError("nothing lost")

    run(main)


def test_a_stop_within_a_hold(embedded: Agent, run: Run) -> None:
    async def main() -> None:
        async with LockerFactory(embedded.address) as factory:
            locker = factory.create("losing")
            with pytest.raises(LockLost, match="stopped"):
                async with locker.hold("a"):
                    await locker.stop()

    run(main)


def test_life(embedded: Agent, run: Run) -> None:
    async def main() -> None:
        async with LockerFactory(embedded.address) as factory:
            locker = factory.create("life")
            assert await locker.session_info() is None
            assert await locker.wait_for_state("acquiring")
            assert not await locker.wait_for_state("stopped", 0)
            assert await locker.wait_for_state("ready", LIMIT)
            locker.start()
            assert locker.state == "ready"
            stopped = asyncio.ensure_future(locker.wait_for_state("stopped"))
            await locker.stop()
            locker.start()  # a state that was there for a moment was there
            assert await stopped
            locker.reboot()
            assert locker.state == "paused"
            with pytest.raises(LockTimeout):
                await locker.lock("a", timeout=0.01)
            locker.start()
            assert (await locker.lock("a", timeout=LIMIT)).valid
            await locker.stop(timeout=1)
            with pytest.raises(SessionEnded):
                await locker.lock("a")
            with pytest.raises(ConfigurationError):
                await locker.wait_for_state("asleep")

    run(main)


def test_nothing_is_pending_after_a_stop(embedded: Agent, run: Run) -> None:
    """Nor is a session left by one that came while the session was being created."""

    async def main() -> None:
        async with LockerFactory(embedded.address) as factory:
            for ready in (True, False):
                locker = factory.create("pending")
                if ready:
                    await locker.lock("a")
                await locker.stop()
                for _ in range(10):  # rounds in which cancelled tasks end, one within another
                    await asyncio.sleep(0)
                named = {task.get_coro().__qualname__ for task in asyncio.all_tasks()}
                assert not [name for name in named if name.startswith("IoLoop.")]
                requests = embedded.requests
                assert requests["PUT", "/v1/session/create"] == requests["PUT", "/v1/session/destroy/"]

    run(main)


def test_a_stop_whose_time_is_over_ends_all_the_same(embedded: Agent, run: Run) -> None:
    async def main() -> None:
        factory = LockerFactory(embedded.address, timeout=0.2)
        locker = factory.create("hurried")
        lease = await locker.lock("a")
        with embedded.pause():
            await locker.stop(timeout=0.05)
            assert locker.state == "stopped"
            assert not lease.valid
            await factory.close(timeout=0.05)

    run(main)


def test_a_start_during_a_stop_is_not_waited_for(embedded: Agent, run: Run) -> None:
    async def main() -> None:
        async with LockerFactory(embedded.address) as factory:
            locker = factory.create("restarted")
            await locker.lock("a")
            stop = asyncio.ensure_future(locker.stop())
            await asyncio.sleep(0)
            locker.start()
            await stop
            assert (await locker.lock("a")).valid

    run(main)


def test_arguments_are_checked(embedded: Agent, run: Run) -> None:
    async def main() -> None:
        async with LockerFactory(embedded.address) as factory:
            locker = factory.create("checked")
            lease = await locker.lock("a")
            for wrong in (
                lambda: locker.lock("b", wait=-1),
                lambda: locker.stop(-1),
                lambda: lease.wait_lost(-1),
                lambda: locker.wait_for_state("ready", -1),
                lambda: locker.lock_many("ab"),
                lambda: factory.close(-1),
            ):
                with pytest.raises(ConfigurationError):
                    await wrong()

    run(main)


# ----------------------------------------------------------------------------------------- observers


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


def test_whatever_an_observer_raises_is_logged(
    embedded: Agent, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
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


def test_the_view_as_a_machine(embedded: Agent, run: Run, caplog: pytest.LogCaptureFixture) -> None:
    heard: list[Any] = []

    async def main() -> None:
        async with LockerFactory(embedded.address) as factory:
            locker = factory.create("view")
            locker.fsm.on("transition", lambda data: heard.append(data["to_state"]))
            locker.fsm.on("deferred", lambda data: 1 / 0)
            lease = await locker.fsm.handle("lock", "a")
            assert lease.valid
            assert await locker.fsm.handle("release", "a") is True
            assert locker.fsm.handle("start") is None
            assert await locker.fsm.handle("stop") is None
            assert heard == ["ready", "stopped"]

    run(main)


# --------------------------------------------------------------------------------------------- loops


@since_311
def test_task_groups_and_timeouts(embedded: Agent, run: Run) -> None:
    async def main() -> None:
        async with LockerFactory(embedded.address) as factory:
            locker, other = factory.create("groups"), factory.create("groups")
            async with locker.hold("a"):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.02):
                        await other.lock("a", wait=None)
            assert (await other.lock("a")).valid
            assert await other.release("a")

            async def losing() -> None:
                async with locker.hold("a") as lease:
                    embedded.expire_session(lease.session_id)
                    await lease.wait_lost()
                    lease.check()

            with pytest.raises(Exception, match="unhandled errors in a TaskGroup") as group:
                async with asyncio.TaskGroup() as tasks:
                    waiting = tasks.create_task(locker.hold("b").__aenter__())
                    tasks.create_task(other.wait_for_state("stopped"))
                    tasks.create_task(losing())
            assert LockLost in map(type, group.value.exceptions)
            assert waiting.done()

    run(main)


@since_311
def test_work_is_cancelled_when_its_lock_is_lost(embedded: Agent, run: Run) -> None:
    """`wait_lost` beside the work in a task group, as docs/asyncio.rst shows it."""
    ends: list[str] = []

    async def main() -> None:
        async with LockerFactory(embedded.address) as factory, factory.create("guarded") as locker:

            async def work() -> None:
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    ends.append("cancelled")
                    raise

            async def watch(lease: Any) -> None:
                await lease.wait_lost()
                lease.check()

            with pytest.raises(Exception, match="unhandled errors in a TaskGroup") as failed:
                async with locker.hold("a") as lease, asyncio.TaskGroup() as group:
                    group.create_task(watch(lease))
                    group.create_task(work())
                    embedded.expire_session(lease.session_id)
            (lost,) = failed.value.exceptions
            assert isinstance(lost, LockLost)
            assert ends == ["cancelled"]

    run(main)


async def _entered(manager: Any) -> None:
    async with manager:
        raise AssertionError("unreachable")


@since_311
def test_a_timeout_around_each_call(embedded: Agent, run: Run) -> None:
    """While the agent is silent; once it answers again nothing is left of the calls."""
    calls: dict[str, Callable[[Locker, Any], Awaitable[Any]]] = {
        "lock": lambda locker, lease: locker.lock("b"),
        "lock_many": lambda locker, lease: locker.lock_many(["c", "d"]),
        "hold": lambda locker, lease: _entered(locker.hold("e")),
        "hold_many": lambda locker, lease: _entered(locker.hold_many(["f", "g"])),
        "info": lambda locker, lease: locker.info("a"),
        "holder": lambda locker, lease: locker.holder("a"),
        "session_info": lambda locker, lease: locker.session_info(),
        "guarded": lambda locker, lease: locker.guarded(lease, []),
        "wait_for_state": lambda locker, lease: locker.wait_for_state("stopped"),
        "wait_lost": lambda locker, lease: lease.wait_lost(),
        "release": lambda locker, lease: locker.release("a"),
        "release_all": lambda locker, lease: locker.release_all(),
        "stop": lambda locker, lease: locker.stop(),
        "close": lambda locker, lease: locker._factory.close(),
    }

    async def main() -> None:
        async with LockerFactory(embedded.address) as factory:
            locker = factory.create("limited")
            lease = await locker.lock("a")
            with embedded.pause():
                for name, call in calls.items():
                    with pytest.raises(TimeoutError) as over:
                        async with asyncio.timeout(0.01):
                            await call(locker, lease)
                    assert not isinstance(over.value, LockTimeout), name
            assert locker.state == "stopped"
            assert not locker.held
        assert not factory._io_loop._tasks

    run(main)
    requests = embedded.requests
    assert requests["PUT", "/v1/session/create"] == 1
    assert requests["PUT", "/v1/session/destroy/"] >= 1


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")
@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop], ids=["asyncio"])  # uvloop knows no eager tasks on 3.13
def test_eager_tasks(embedded: Agent, run: Run) -> None:
    """Signals are delivered, and no observer is called before the call that made them has gone on."""
    heard: list[str] = []

    def observer(sender: Locker, id: str, **facts: Any) -> None:
        heard.append(id)

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        async with LockerFactory(embedded.address) as factory, factory.create("eager") as locker:
            with signals.lock_acquired.connected_to(observer, sender=locker):
                await locker.lock("a")
                await locker.lock("b")
                assert heard == ["a", "b"]
            refused = Call("session_info", argument="/")  # before it is sent, so its task is over at once
            with pytest.raises(ConfigurationError):
                await locker._ask(refused)
            await asyncio.sleep(0)
            assert not [request for request in factory._io_loop._tasks if not isinstance(request, Watch)]

    run(main)


def test_a_program_whose_tasks_are_all_cancelled_ends(embedded: Agent, run: Run) -> None:
    """As `asyncio.run` does at its end, the library's own included: leaving a hold waits for none of their requests."""

    async def main() -> None:
        kept = asyncio.all_tasks()
        inside = asyncio.Event()
        async with LockerFactory(embedded.address) as factory, factory.create("cancelled") as locker:

            async def holding() -> None:
                async with locker.hold("a"):
                    inside.set()
                    await asyncio.Event().wait()

            holder = asyncio.ensure_future(holding())
            await inside.wait()
            with embedded.pause():
                other = asyncio.ensure_future(locker.lock("b"))
                while not [request for request in factory._io_loop._tasks if isinstance(request, Transact)]:
                    await asyncio.sleep(0)
                for task in asyncio.all_tasks() - kept:
                    task.cancel()
                await asyncio.wait({other})
            await asyncio.wait({holder})
            assert holder.cancelled()
            assert other.cancelled()
            assert (await locker.lock("a")).valid

    run(main)


def test_two_loops_in_two_threads(embedded: Agent, run: Run) -> None:
    """Each with a factory of its own, for the same locks."""
    counted = [0]
    failures: list[BaseException] = []

    async def main() -> None:
        async with LockerFactory(embedded.address) as factory, factory.create("two") as locker:
            for _ in range(10):
                async with locker.hold("counter", wait=None):
                    seen = counted[0]
                    await asyncio.sleep(0)
                    counted[0] = seen + 1

    def work() -> None:
        try:
            run(main)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert counted == [20]


def test_a_factory_belongs_to_one_loop(embedded: Agent, run: Run) -> None:
    factory = LockerFactory(embedded.address)
    kept: list[Locker] = []

    async def first() -> None:
        kept.append(factory.create("one loop"))
        await kept[0].stop()

    async def second() -> None:
        (locker,) = kept
        for wrong in (locker.start, locker.reboot, lambda: factory.create("another")):
            with pytest.raises(RuntimeError, match="one event loop"):
                wrong()
        for waiting in (
            lambda: locker.lock("a"),
            lambda: locker.wait_for_state("ready"),
            lambda: factory.close(),
        ):
            with pytest.raises(RuntimeError, match="one event loop"):
                await waiting()

    async def closing() -> None:
        await factory.close()

    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(first())
        run(second)
        for wrong in (kept[0].start, lambda: factory.create("another")):
            with pytest.raises(RuntimeError, match="no event loop is running"):
                wrong()
        loop.run_until_complete(closing())
    finally:
        loop.close()
    run(closing)  # it is closed: nothing is left to do, on whatever loop


def test_after_closing(embedded: Agent, run: Run) -> None:
    """The rest is in the behaviour suite, for both faces."""

    async def main() -> None:
        unused = LockerFactory(embedded.address)
        await unused.close()
        with pytest.raises(RuntimeError, match="closed"):
            unused.create("late")
        factory = LockerFactory(embedded.address)
        locker = factory.create("closed")
        lease = await locker.lock("a")
        await asyncio.gather(factory.close(), factory.close())
        assert not lease.valid
        for wrong in (locker.start, locker.reboot, lambda: factory.create("late")):
            with pytest.raises(RuntimeError, match="closed"):
                wrong()

    run(main)


def test_nothing_is_begun_anew_while_a_factory_closes(embedded: Agent, run: Run) -> None:
    """By whoever hears that a Locker was stopped: it would leave a session."""
    said: list[str] = []

    def observer(sender: Locker, to_state: str, **facts: Any) -> None:
        for call in (sender.start, sender.reboot, lambda: sender._factory.create("another")):
            try:
                call()
            except RuntimeError as refused:
                said.append(str(refused))

    async def main() -> None:
        async with LockerFactory(embedded.address) as factory:
            locker, other = factory.create("closing"), factory.create("closing")
            await locker.lock("a")
            await other.lock("b")
            paused = asyncio.ensure_future(locker.wait_for_state("paused"))
            stopped = asyncio.ensure_future(locker.wait_for_state("stopped"))
            await asyncio.sleep(0)
            with signals.state_changed.connected_to(observer):
                await factory.close()
        assert said == ["the factory is closed; make a new one"] * 6
        assert await stopped
        with pytest.raises(RuntimeError, match="closed"):
            await paused

    run(main)
    requests = embedded.requests
    assert requests["PUT", "/v1/session/create"] == requests["PUT", "/v1/session/destroy/"] == 2


def test_closing_on_a_clock_that_stands_still(run: Run) -> None:
    """The limit on a close is one of real time, shorter than that on a request."""

    async def main() -> None:
        with Agent(clock=ManualClock()) as agent:
            factory = LockerFactory.embedded(agent)
            locker = factory.create("still")
            await locker.lock("a")
            begun = asyncio.get_running_loop().time()
            with agent.pause():
                await factory.close(timeout=0.05)
            assert asyncio.get_running_loop().time() - begun < 5
            assert locker.state == "stopped"

    run(main)


@pytest.mark.parametrize("rounds", [0, 1, 2])
def test_a_close_whose_own_task_is_cancelled(run: Run, rounds: int) -> None:
    """By a stranger, before it begins or later: whoever waits for the close goes on when it is closed."""

    async def main() -> None:
        with Agent(clock=ManualClock()) as agent:
            factory = LockerFactory.embedded(agent)
            await factory.create("closing").lock("a")
            close = asyncio.ensure_future(factory.close())
            while factory._closing is None:
                await asyncio.sleep(0)
            for _ in range(rounds):
                await asyncio.sleep(0)
            closing = factory._closing
            closing.cancel()
            await close
            assert closing.cancelled()
            assert factory._io_loop is not None
            assert not factory._io_loop._transport._open_ones
            await factory.close()

    run(main)


def test_a_close_that_is_cancelled_twice_is_made_up_for(run: Run) -> None:
    """Both times by strangers, the second while it clears up."""

    async def main() -> None:
        with Agent(clock=ManualClock()) as agent:
            factory = LockerFactory.embedded(agent)
            locker = factory.create("closing")
            await locker.lock("a")
            exchange = factory._io_loop
            assert exchange is not None
            while not [request for request in exchange._tasks if isinstance(request, Watch)]:
                await asyncio.sleep(0)
            close = asyncio.ensure_future(factory.close())
            while not exchange._closed:
                await asyncio.sleep(0)
            first = factory._closing
            assert first is not None
            first.cancel()
            await close
            assert first.cancelled()
            assert factory._over
            assert not exchange._transport._open_ones

    run(main)


def test_a_close_that_fails_says_so(embedded: Agent, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        factory = LockerFactory(embedded.address)
        factory.create("closing")
        with monkeypatch.context() as patched, pytest.raises(OSError, match="no"):
            patched.setattr(factory._delivery, "close", failing)
            await factory.close()
        await factory.close()

    async def failing() -> None:
        raise OSError("no")

    run(main)


def test_a_lease_belongs_to_one_loop(embedded: Agent, run: Run) -> None:
    leases: list[Any] = []

    async def first() -> None:
        async with LockerFactory(embedded.address) as factory:
            locker = factory.create("one loop")
            leases.append(await locker.lock("a"))
            with ThreadPoolExecutor() as pool, pytest.raises(RuntimeError, match="event loop of its Locker"):
                pool.submit(lambda: run(leases[0].wait_lost)).result(LIMIT)

    async def later() -> None:
        assert await leases[0].wait_lost() == "stopped"

    run(first)
    run(later)  # it is over: there is nothing to wait for, on whatever loop


def test_a_question_under_way_is_answered_when_the_factory_closes(embedded: Agent, run: Run) -> None:
    async def main() -> None:
        factory = LockerFactory(embedded.address)
        locker = factory.create("closed")
        await locker.stop()
        with embedded.pause():
            question = asyncio.ensure_future(locker.info("a"))
            await asyncio.sleep(0)
            await factory.close()
            with pytest.raises(ConsulUnavailable, match="closed"):
                await question

    run(main)


def test_an_agent_of_its_own(run: Run) -> None:
    before = threading.active_count()

    async def main() -> None:
        async with LockerFactory.embedded() as factory:
            assert (await factory.create("embedded").lock("a")).valid
        with Agent() as agent:
            async with LockerFactory.embedded(agent) as factory:
                assert (await factory.create("embedded").lock("a")).valid
            with pytest.raises(ConfigurationError):
                LockerFactory.embedded(agent, timeout=-1)
        with pytest.raises(ConfigurationError):
            LockerFactory.embedded(timeout=-1)

    run(main)
    assert threading.active_count() == before


def in_the_child(factory: LockerFactory, locker: Locker, lease: Any) -> int:
    """What can be used in a forked child that is not to be used there; counts the faults."""
    wrong = bool(lease.valid) + bool(locker.held) + (lease.reason != "forked")
    for waiting in (
        lambda: locker.lock("a"),
        lambda: locker.lock("b"),
        lambda: locker.info("a"),
        lambda: locker.stop(),
        lambda: locker.wait_for_state("ready"),  # which it is, as far as it knows
    ):
        try:
            waiting().send(None)
        except RuntimeError as refused:
            wrong += "fork" not in str(refused)
        except StopIteration:
            wrong += 1
    for done, answer in ((lambda: lease.wait_lost(), "forked"), (lambda: factory.close(), None)):
        try:
            done().send(None)
        except StopIteration as stop:
            wrong += stop.value != answer
    for refusing in (locker.start, locker.reboot, lambda: factory.create("another")):
        try:
            refusing()
        except RuntimeError as refused:
            wrong += "fork" not in str(refused)
        else:
            wrong += 1
    factory.__del__()
    return wrong


def test_a_hold_that_is_thrown_away(embedded: Agent, run: Run) -> None:
    """As the garbage collector does with a coroutine, in whatever thread: the lock is given back in the background."""

    async def main() -> None:
        async with LockerFactory(embedded.address) as factory, factory.create("thrown away") as locker:
            holding = locker.hold("a")
            lease = await holding.__aenter__()
            await asyncio.get_running_loop().run_in_executor(None, lambda: throw_away(holding))
            assert await lease.wait_lost() == "released"
            async with locker.hold("a", wait=5):
                pass

            async def held() -> AsyncIterator[Any]:
                async with locker.hold("b") as lease:
                    yield lease

            leases = held()
            lease = await anext(leases)
            await leases.aclose()  # where something can be waited for, it is
            assert lease.reason == "released"
            assert not locker.held

    run(main)


def throw_away(manager: Any) -> None:
    """What becomes of an ``async with`` whose coroutine nobody wants any more."""
    with pytest.raises(StopIteration):
        manager.__aexit__(GeneratorExit, GeneratorExit(), None).send(None)


@pytest.mark.xdist_group("processes and signals")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_forked_child_can_use_nothing(embedded: Agent, run: Run) -> None:
    async def main() -> None:
        async with LockerFactory(embedded.address) as factory:
            locker = factory.create("forked")
            idle = factory.create("idle")
            await idle.stop()
            lease = await locker.lock("a")
            holding = locker.hold("held")
            held = await holding.__aenter__()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # 3.12: a fork with threads, here the agent's
                child = os.fork()
            if child == 0:
                wrong = 1
                try:
                    throw_away(holding)
                    wrong = in_the_child(factory, locker, lease)
                finally:
                    os._exit(wrong)
            _, status = os.waitpid(child, 0)
            assert os.waitstatus_to_exitcode(status) == 0
            assert lease.valid
            assert held.valid
            await holding.__aexit__(None, None, None)

    run(main)


# ------------------------------------------------------------------------------- what is left, and who runs it

LIVING = """
import asyncio, sys
from consul_locker import signals
from consul_locker.aio import LockerFactory
from consul_locker.embedded import Agent

async def stuck(sender, id, **facts):
    if id == "observed":
        await asyncio.Event().wait()

async def holding(locker):
    async with locker.hold("held"):
        await asyncio.Event().wait()

async def within(address):
    async with LockerFactory(address) as factory, factory.create("within") as locker, locker.hold_many(["a", "b"]):
        entered.set()
        await asyncio.Event().wait()

async def main():
    locker = LockerFactory(agent.address).create("living")
    lease = await locker.lock("a")
    signals.lock_acquired.connect(stuck, sender=locker)
    for left in (
        holding(locker), within(agent.address), locker.wait_for_state("paused"), lease.wait_lost(),
        locker.lock("held", wait=None), locker.lock("observed"),
    ):
        tasks.append(asyncio.ensure_future(left))
    await entered.wait()
    while len(locker.held) < 3 or agent.requests["GET", "/v1/session/info/"] < 2:  # the watches are under way too
        await asyncio.sleep(0)

tasks = []
entered = asyncio.Event()
with Agent() as agent:
    if sys.argv[1] == "run":
        asyncio.run(main())
    else:
        loop = asyncio.new_event_loop()
        loop.run_until_complete(main())
        loop.close()
        del loop
    tasks.clear()
    import gc; gc.collect()
"""


def a_program(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CONSUL_")}
    return subprocess.run(
        [sys.executable, *arguments],
        env={**environment, "PYTHONPATH": os.pathsep.join([str(ROOT), environment.get("PYTHONPATH", "")])},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=6 * LIMIT,
        check=False,
    )


@pytest.mark.parametrize("how", ["run", "close"])
def test_a_loop_that_ends_with_a_living_locker(how: str) -> None:
    """One ResourceWarning of each factory that was not closed, no traceback, whatever was under way."""
    done = a_program("-W", "always::ResourceWarning", "-c", LIVING, how)
    assert done.returncode == 0, done.stderr
    # At the end of `asyncio.run` every ``async with`` is left; of a loop that is just closed none is.
    assert done.stderr.count("LockerFactory http://127.0.0.1") == {"run": 1, "close": 2}[how]
    assert "was not closed" in done.stderr
    assert "Traceback" not in done.stderr


INTERRUPTED = """
import asyncio, signal, sys
from consul_locker.aio import LockerFactory

# A shell that starts the tests in the background lets them ignore it.
signal.signal(signal.SIGINT, signal.default_int_handler)

async def main():
    async with LockerFactory(sys.argv[1]) as factory:
        async with factory.create("interrupted") as locker, factory.create("interrupted") as other:
            async with locker.hold("a"):
                await other.lock("a", wait=None)

asyncio.run(main())
"""


def test_an_interrupted_program_leaves_no_session(embedded: Agent) -> None:
    """KeyboardInterrupt while one of its tasks holds a lock and waits for another one."""
    program = [sys.executable, "-W", "default", "-c", INTERRUPTED, embedded.address]
    running = subprocess.Popen(program, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        until(lambda: embedded.requests["GET", "/v1/kv/"])  # it watches the key
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=LIMIT)
    finally:
        running.kill()
    assert said.rstrip().endswith("KeyboardInterrupt")
    # Before 3.11 asyncio lets it come between any two lines, also of a coroutine's making and its being awaited.
    assert "ResourceWarning" not in said
    assert sys.version_info < (3, 11) or "Warning" not in said
    requests = embedded.requests
    assert requests["PUT", "/v1/session/create"] == requests["PUT", "/v1/session/destroy/"] == 2


PYTEST_ASYNCIO = """
import pytest, pytest_asyncio
from consul_locker.aio import LockerFactory

@pytest_asyncio.fixture
async def locker():
    async with LockerFactory.embedded() as factory, factory.create("users") as locker:
        yield locker

@pytest_asyncio.fixture
async def held(locker):
    async with locker.hold("fixture") as lease:
        yield lease

@pytest.mark.asyncio
async def test_with_a_lock(locker, held):
    assert held.valid
    async with locker.hold("1", wait=5) as lease:
        lease.check()
"""

ANYIO = """
import anyio, pytest
from consul_locker import AlreadyLocked
from consul_locker.aio import LockerFactory

pytestmark = pytest.mark.anyio

@pytest.fixture
def anyio_backend():
    return "asyncio"

@pytest.fixture
async def locker(anyio_backend):
    async with LockerFactory.embedded() as factory, factory.create("users") as locker:
        yield locker

async def test_a_scope_that_is_cancelled(locker):
    other = locker._factory.create("users")
    async with locker.hold("1", wait=5) as lease:
        with anyio.move_on_after(0.02) as scope:
            async with other.hold("1", wait=None):
                raise AssertionError("unreachable")
        assert scope.cancelled_caught
        with anyio.move_on_after(0.02) as scope:  # leaving a hold in a scope that is cancelled again and again
            async with locker.hold("2"):
                await anyio.sleep_forever()
        assert scope.cancelled_caught
    async with other.hold_many(["1", "2"], wait=5):
        pass

async def test_task_groups(locker):
    order = []

    async def work(number):
        async with locker.hold("1", wait=5):
            order.append(number)
            await anyio.sleep(0)
            order.append(number)

    async with anyio.create_task_group() as tasks:
        for number in range(3):
            tasks.start_soon(work, number)
    assert order == [0, 0, 1, 1, 2, 2]
"""


@pytest.mark.parametrize(
    ("plugin", "source"), [("pytest_asyncio", PYTEST_ASYNCIO), ("anyio", ANYIO)], ids=["pytest-asyncio", "anyio"]
)
def test_as_users_test(tmp_path: Path, plugin: str, source: str) -> None:
    """Fixtures are entered and left in tasks of the plugin's, which need not be the test's."""
    pytest.importorskip(plugin)
    (tmp_path / "test_users.py").write_text(source, encoding="utf-8")
    options = ["-p", "no:asyncio"]
    if plugin == "pytest_asyncio":
        options = ["-o", "asyncio_default_fixture_loop_scope=function"]
    run_it = ["-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", *options, "test_users.py"]
    done = a_program(*run_it, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout
