"""A factory on asyncio: one loop, its close, and what is left of it."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from consul_locker import (
    ConfigurationError,
    ConsulUnavailable,
    signals,
)
from consul_locker.aio import Locker, LockerFactory
from consul_locker.core.requests import Watch
from consul_locker.embedded import Agent, ManualClock

from .tools import Run


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


def test_a_close_that_is_cancelled_twice_is_made_up_for(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
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
            end, closings = exchange._end, []

            async def cancelled(keep_destroys: bool) -> None:
                if not closings:
                    closings.append(factory._closing)
                    closings[0].cancel()
                    await asyncio.sleep(0)
                await end(keep_destroys=keep_destroys)

            monkeypatch.setattr(exchange, "_end", cancelled)
            await factory.close()
            assert closings[0].cancelled()
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
