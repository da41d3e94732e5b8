"""``hold(…, cancel_on_loss=True)``: the body is cancelled, and nobody else's cancellation is taken for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from consul_locker import LockLost
from consul_locker.aio import Locker, LockerFactory
from consul_locker.aio import losses as losses_module
from consul_locker.embedded import Agent

from .tools import LIMIT, Run, since_311


@asynccontextmanager
async def a_locker(agent: Agent) -> AsyncIterator[Locker]:
    async with LockerFactory(agent.address) as factory, factory.create("losses", default_timeout=LIMIT) as locker:
        yield locker


@pytest.fixture(params=[pytest.param(True, marks=since_311), False], ids=["counted", "as in 3.10"])
def counted(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python 3.10 does not count who cancels a task."""
    monkeypatch.setattr(losses_module, "COUNTED", request.param)


Body = Callable[[Locker], Awaitable[None]]


def outcome(run: Run, agent: Agent, body: Body) -> BaseException | None:
    """Run a body in a task, within a hold that is lost. Returns what it raised."""

    async def main() -> BaseException | None:
        async with a_locker(agent) as locker:

            async def work() -> None:
                async with locker.hold("a", cancel_on_loss=True):
                    await body(locker)

            task = asyncio.create_task(work())
            await asyncio.wait({task})
            try:
                return task.exception()
            except asyncio.CancelledError as cancelled:
                return cancelled
            finally:
                assert not locker.held

    return run(main)


async def wait(locker: Locker) -> None:
    asyncio.get_running_loop().call_soon(locker.reboot)
    await asyncio.Event().wait()


async def end_at_once(locker: Locker) -> None:
    """The task itself has lost it; there is no round of the loop in which it could be cancelled."""
    locker.reboot()


async def go_on(locker: Locker) -> None:
    """A body that does not let itself be cancelled."""
    locker.reboot()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.Event().wait()
    await asyncio.sleep(0)  # it is cancelled once only


async def fail(locker: Locker) -> None:
    locker.reboot()
    try:
        await asyncio.Event().wait()
    finally:
        raise KeyError("its own")


async def cancel_itself(locker: Locker) -> None:
    """A cancellation that nobody made."""
    raise asyncio.CancelledError


@pytest.mark.usefixtures("counted")
@pytest.mark.parametrize("body", [wait, end_at_once, go_on])
def test_a_loss_is_told_by_its_own_error(run: Run, embedded: Agent, body: Body) -> None:
    lost = outcome(run, embedded, body)
    assert isinstance(lost, LockLost)
    assert lost.reason == "rebooted"


@pytest.mark.usefixtures("counted")
def test_the_body_s_own_error_goes_through(run: Run, embedded: Agent) -> None:
    error = outcome(run, embedded, fail)
    assert isinstance(error, KeyError)
    assert any("is lost" in note for note in error.__notes__)
    assert isinstance(outcome(run, embedded, cancel_itself), asyncio.CancelledError)


@pytest.mark.parametrize(
    ("first", "counts"),
    [
        pytest.param("loss", True, marks=since_311),
        pytest.param("cancellation", True, marks=since_311),
        ("cancellation", False),  # Python 3.10 cannot tell a cancellation that comes after the loss
    ],
)
def test_a_cancellation_from_outside_goes_through(
    run: Run, embedded: Agent, monkeypatch: pytest.MonkeyPatch, first: str, counts: bool
) -> None:
    """Both come in one round of the loop."""
    monkeypatch.setattr(losses_module, "COUNTED", counts)

    async def main() -> None:
        async with a_locker(embedded) as locker:
            inside = asyncio.Event()

            async def work() -> None:
                async with locker.hold("a", cancel_on_loss=True):
                    inside.set()
                    await asyncio.Event().wait()

            task = asyncio.create_task(work())
            await inside.wait()
            if first == "loss":
                locker.reboot()
                asyncio.get_running_loop().call_soon(task.cancel)  # after the callback of the lease
            else:
                task.cancel()
                locker.reboot()
            await asyncio.wait({task})
            assert task.cancelled()
            assert not locker.held

    run(main)


@since_311
def test_who_is_cancelled_by_a_loss_is_not_cancelled_after_it(run: Run, embedded: Agent) -> None:
    """What stands around the hold works on: a time limit, a group, another hold."""

    async def main() -> None:
        async with a_locker(embedded) as locker, asyncio.timeout(LIMIT), asyncio.TaskGroup():
            with pytest.raises(LockLost) as lost:
                async with (
                    locker.hold("outer", cancel_on_loss=True),
                    locker.hold("inner", cancel_on_loss=True),
                    asyncio.timeout(LIMIT),
                ):
                    locker.reboot()
                    await asyncio.Event().wait()
            assert lost.value.id in ("outer", "inner")
            task: Any = asyncio.current_task()
            assert task.cancelling() == 0
            await asyncio.sleep(0)

    run(main)


def test_a_loss_before_the_body_cancels_it(run: Run, embedded: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with a_locker(embedded) as locker:
            begin = locker._begin_hold

            def lose(*args: Any) -> Any:
                leases = begin(*args)
                locker.reboot()
                return leases

            monkeypatch.setattr(locker, "_begin_hold", lose)
            with pytest.raises(LockLost):
                async with locker.hold_many(["a", "b"], cancel_on_loss=True):
                    await asyncio.Event().wait()

    run(main)


def test_a_task_that_is_over_is_not_cancelled(run: Run, embedded: Agent) -> None:
    """Another task than the one that entered leaves the hold, as fixtures may do."""

    async def main() -> None:
        async with a_locker(embedded) as locker:
            holding = locker.hold("a", cancel_on_loss=True)
            lease = await asyncio.create_task(holding.__aenter__())
            locker.reboot()
            await lease.wait_lost()
            await asyncio.sleep(0)
            with pytest.raises(LockLost):
                await holding.__aexit__(None, None, None)

    run(main)
