"""Cancelling an asyncio call at every step leaves nothing behind, and takes nothing from others (rule 7).

The loop counts its rounds. Each call is run again and again, cancelled after 0, 1, 2, … rounds, until a run
completes before its cancellation would come: so it is cancelled before its request goes out, while that is on
the way, between the answer and the moment the caller gets it, and while observers hear of it. Nothing sleeps.
"""

from __future__ import annotations

import asyncio
import http.client
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from consul_locker import AlreadyLocked, signals
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
    return {asyncio.current_task()} | {
        task for task in asyncio.all_tasks() if task.get_coro().__name__ == "limited"
    }


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
        ]
        if not tasks:
            return
        await asyncio.wait(tasks)


def leftovers(locker: Locker) -> list[Any]:
    """What a call that is over must have taken away."""
    found: list[Any] = [*locker._runtime.state_waits._waiters, *locker._holds, *locker._runtime._delivery._flushing]
    found += [call for slot in locker._core.ledger.slots.values() for call in slot.waiters]
    found += [work for slot in locker._core.ledger.slots.values() for work in slot.works]
    found += locker._core.fsm.input_queue
    found += [
        name
        for receive, name in locker._runtime._io_loop._timers
        if receive is locker._runtime._receive and name[0] in ("call", "wait", "pause", "stop", "destroy")
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


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("ready", [True, False], ids=["ready", "acquiring"])
@FAIR
@HOW
def test_a_call_leaves_nothing_behind(agent: Agent, name: str, ready: bool, how: str, fair: bool) -> None:
    async def one(rounds: int) -> bool:
        async with a_factory(agent) as factory:
            locker = factory.create("sweep", fair=fair)
            if ready:
                assert await locker.wait_for_state("ready", LIMIT)
            done = await cancelled(lambda: CALLS[name](locker), rounds, how)
            assert await locker.wait_for_state("ready", LIMIT)
            await quiet(locker)
            assert leftovers(locker) == []
            assert locked(agent) == {}
            assert dict(locker.held) == {}
            return done

    assert sweep(one) > (0 if (name, ready) == ("session_info", False) else 2)


@pytest.mark.parametrize("ready", [True, False], ids=["ready", "acquiring"])
@pytest.mark.parametrize("many", [True, False], ids=["lock_many", "lock"])
@HOW
def test_a_lock_is_there_for_the_caller_or_for_nobody(agent: Agent, many: bool, ready: bool, how: str) -> None:
    async def one(rounds: int) -> bool:
        async with a_factory(agent) as factory:
            locker = factory.create("sweep")
            if ready:
                assert await locker.wait_for_state("ready", LIMIT)
            if many:
                done = await cancelled(lambda: locker.lock_many(["a", "b"]), rounds, how)
            else:
                done = await cancelled(lambda: locker.lock("a"), rounds, how)
            assert await locker.wait_for_state("ready", LIMIT)
            await quiet(locker)
            assert leftovers(locker) == []
            wanted = ({"a", "b"} if many else {"a"}) if done else set()
            assert set(locker.held) == wanted
            assert set(locked(agent)) == {f"sweep/{id}/lock" for id in wanted}
            return done

    assert sweep(one) > 2


@pytest.mark.parametrize("ready", [True, False], ids=["ready", "acquiring"])
def test_a_lock_that_others_share_stays_theirs(agent: Agent, ready: bool) -> None:
    async def one(rounds: int) -> bool:
        async with a_factory(agent) as factory:
            locker = factory.create("sweep")
            if ready:
                assert await locker.wait_for_state("ready", LIMIT)
            other = asyncio.ensure_future(locker.lock("a"))
            done = await cancelled(lambda: locker.lock("a"), rounds)
            third = await locker.lock("a")
            lease = await other
            assert lease is third
            await quiet(locker)
            assert leftovers(locker) == []
            assert lease.valid
            assert set(locked(agent)) == {"sweep/a/lock"}
            assert await locker.release("a")
            return done

    assert sweep(one) > 2


def test_a_lock_held_before_is_not_lost_by_a_cancelled_caller(agent: Agent) -> None:
    """`lock_many` goes by the core even when all is cached, so it can be cancelled with its answer on the way."""

    async def one(rounds: int) -> bool:
        async with a_factory(agent) as factory:
            locker = factory.create("sweep")
            lease = await locker.lock("a")
            done = await cancelled(lambda: locker.lock_many(["a", "b"]), rounds)
            await quiet(locker)
            assert leftovers(locker) == []
            assert lease.valid
            assert set(locked(agent)) == {f"sweep/{id}/lock" for id in (("a", "b") if done else ("a",))}
            return done

    assert sweep(one) > 2


@pytest.mark.parametrize("call", ["release", "release_all", "guarded"])
def test_what_is_done_with_a_lock_is_done_or_not(agent: Agent, call: str) -> None:
    async def one(rounds: int) -> bool:
        async with a_factory(agent) as factory:
            locker = factory.create("sweep")
            lease = await locker.lock("a")
            if call == "release":
                done = await cancelled(lambda: locker.release("a"), rounds)
            elif call == "release_all":
                done = await cancelled(lambda: locker.release_all(), rounds)
            else:
                read = {"KV": {"Verb": "get", "Key": lease.key}}
                done = await cancelled(lambda: locker.guarded(lease, [read]), rounds)
            await quiet(locker)
            assert leftovers(locker) == []
            # A release that was begun goes on; one that was never begun changes nothing.
            assert set(locked(agent)) == {f"sweep/{id}/lock" for id in locker.held}
            assert lease.valid == ("a" in locker.held)
            assert lease.valid == (call == "guarded" or rounds == 0)
            return done

    assert sweep(one) > 2


def test_a_denied_call_and_one_that_waits(agent: Agent) -> None:
    """Waiting for another Locker's lock: the watch and the timers go with the call; the holder keeps its lock."""

    async def one(rounds: int, wait: float | None) -> bool:
        async with a_factory(agent) as factory:
            holder, locker = factory.create("sweep"), factory.create("sweep")
            lease = await holder.lock("a")
            assert await locker.wait_for_state("ready", LIMIT)
            try:
                done = await cancelled(lambda: locker.lock("a", wait=wait), rounds)
            except AlreadyLocked:
                done = True
            await quiet(locker)
            assert leftovers(locker) == []
            assert not locker._core._waiting._watches
            assert lease.valid
            return done

    assert sweep(lambda rounds: one(rounds, 0.0)) > 2
    for rounds in range(16):  # it waits for longer than that: all of these are cancelled
        run(lambda rounds=rounds: one(rounds, 600.0))


@FAIR
def test_one_who_waits_behind_a_cancelled_one_gets_the_lock(agent: Agent, fair: bool) -> None:
    async def one(rounds: int) -> bool:
        async with a_factory(agent) as factory:
            locker = factory.create("sweep", fair=fair)
            order: list[str] = []

            async def holding(name: str) -> None:
                async with locker.hold("a", wait=LIMIT):
                    order.append(name)

            async with locker.hold("a"):
                first = asyncio.ensure_future(holding("first"))
                await asyncio.sleep(0)
                second = asyncio.ensure_future(holding("second"))
                await asyncio.sleep(0)
            done = await cancelled(lambda: _joined(first), rounds)
            await second
            assert order in (["first", "second"], ["second"])
            await quiet(locker)
            assert leftovers(locker) == []
            assert locked(agent) == {}
            return done

    assert sweep(one) > 2


async def _joined(task: asyncio.Task[Any]) -> Any:
    """Wait for a task; cancelled, it is cancelled too."""
    return await task


@pytest.mark.parametrize("state", ["ready", "acquiring", "paused"])
@HOW
def test_a_cancelled_stop_stops_all_the_same(agent: Agent, state: str, how: str) -> None:
    async def one(rounds: int) -> bool:
        async with a_factory(agent) as factory:
            locker = factory.create("sweep")
            leases = []
            if state == "ready":
                leases = await locker.lock_many(["a", "b"])
            elif state == "paused":
                locker.reboot()
            assert locker.state == state
            done = await cancelled(lambda: locker.stop(), rounds, how)
            await quiet(locker)
            if rounds:  # with 0 it was never called
                assert locker.state == "stopped"
                assert leftovers(locker) == []
                assert not any(lease.valid for lease in leases)
                assert ask(agent, "/v1/session/list") == []
            return done

    assert sweep(one) > 0


@pytest.mark.parametrize("state", ["ready", "acquiring"])
@HOW
def test_a_cancelled_close_closes_all_the_same(agent: Agent, state: str, how: str) -> None:
    """`a_factory` closes it again, which waits for the first close, and looks."""

    async def one(rounds: int) -> bool:
        async with a_factory(agent) as factory:
            locker, other = factory.create("sweep"), factory.create("other")
            if state == "ready":
                await locker.lock("a")
                await other.lock("a")
            return await cancelled(factory.close, rounds, how)

    assert sweep(one) > 2


@pytest.mark.parametrize("verb", ["lock", "lock_many", "hold", "hold_many"])
@FAIR
@HOW
def test_a_lock_that_comes_free_is_there_for_the_one_who_waits_or_for_nobody(
    agent: Agent, verb: str, how: str, fair: bool
) -> None:
    """Cancelled before and while another Locker's release is noticed, and while the lock is taken then."""

    async def one(rounds: int) -> bool:
        async with a_factory(agent) as factory:
            holder, locker = factory.create("sweep", fair=fair), factory.create("sweep", fair=fair)
            await holder.lock("a")
            assert await locker.wait_for_state("ready", LIMIT)

            async def waiting() -> None:
                wanted: Any = ["a", "b"] if verb.endswith("many") else "a"
                called = getattr(locker, verb)(wanted, wait=LIMIT)
                if verb.startswith("lock"):
                    await called
                else:
                    async with called:
                        pass

            release = asyncio.ensure_future(holder.release("a"))
            done = await cancelled(waiting, rounds, how)
            assert await release
            await quiet(locker)
            assert leftovers(locker) == []
            wanted = {"lock": {"a"}, "lock_many": {"a", "b"}}.get(verb, set()) if done else set()
            assert set(locker.held) == wanted
            assert set(locked(agent)) == {f"sweep/{id}/lock" for id in wanted}
            return done

    assert sweep(one) > 2


@HOW
def test_a_cancelled_stop_that_gives_locks_back_first(agent: Agent, how: str) -> None:
    """With a lock-delay the locks are released before the session is destroyed."""

    async def one(rounds: int) -> bool:
        async with a_factory(agent) as factory:
            locker = factory.create("sweep", lock_delay=10)
            # Of its own in each round: a destroy that overtakes a release leaves the key in its lock-delay.
            leases = await locker.lock_many([f"a{rounds}", f"b{rounds}"])
            done = await cancelled(locker.stop, rounds, how)
            await quiet(locker)
            if rounds:
                assert locker.state == "stopped"
                assert not any(lease.valid for lease in leases)
                assert ask(agent, "/v1/session/list") == []
        return done

    assert sweep(one) > 2


@HOW
def test_a_whole_program(agent: Agent, how: str) -> None:
    """Cancelled anywhere between making its factory and closing it, it leaves no more than when it ends by itself."""

    async def program(made: list[LockerFactory]) -> None:
        async with LockerFactory(agent.address) as factory:
            made.append(factory)
            async with factory.create("sweep") as locker, factory.create("sweep") as other:
                async with locker.hold("a", wait=5), other.hold_many(["b", "c"]) as leases:
                    await locker.info("a")
                    leases[0].check()
                await locker.release((await locker.lock("b")).id)

    async def one(rounds: int) -> bool:
        made: list[LockerFactory] = []
        done = await cancelled(lambda: program(made), rounds, how)
        for factory in made:
            await factory.close()  # it is closing already; this waits for the end of that
            assert factory._io_loop is None or not factory._io_loop._transport._open_ones
            assert [leftovers(locker) for locker in factory._lockers] == [[]] * len(factory._lockers)
        assert asyncio.all_tasks() == own_tasks()
        assert ask(agent, "/v1/session/list") == []
        return done

    assert sweep(one) > 10


@pytest.mark.parametrize("ready", [True, False], ids=["ready", "acquiring"])
@pytest.mark.parametrize("name", [*CALLS, "lock", "lock and release", "stop"])
def test_every_task_of_the_loop_is_cancelled(agent: Agent, name: str, ready: bool) -> None:
    """The library's own as well, as `asyncio.run` does at its end: nobody hangs, and who goes on can go on."""
    calls: Calls = {
        **CALLS,
        "lock": lambda locker: locker.lock("a"),
        "lock and release": _lock_and_release,
        "stop": lambda locker: locker.stop(),
    }

    async def one(rounds: int) -> bool:
        # Rule 5: a create or a destroy that was not answered leaves a session that expires by its TTL.
        async with a_factory(agent, sessions=not ready or name == "stop") as factory:
            locker = factory.create("sweep", retry_interval=lambda number: 0.0)
            if ready:
                assert await locker.wait_for_state("ready", LIMIT)
            done = await cancelled(lambda: calls[name](locker), rounds, "all")
            locker.start()
            assert (await locker.lock("next", timeout=LIMIT)).valid
            assert [left for left in leftovers(locker) if left[0] != "destroy"] == []  # which is tried again later
            return done

    assert sweep(one) > (0 if (name, ready) == ("session_info", False) else 2)


@pytest.mark.parametrize("state", ["ready", "acquiring"])
def test_every_task_of_the_loop_is_cancelled_during_a_close(agent: Agent, state: str) -> None:
    """`a_factory` closes it again, and looks."""

    async def one(rounds: int) -> bool:
        async with a_factory(agent, sessions=True) as factory:
            locker, other = factory.create("sweep"), factory.create("other")
            if state == "ready":
                await locker.lock("a")
                await other.lock("a")
            return await cancelled(factory.close, rounds, "all")

    assert sweep(one) > 2


def test_cancelled_waits_leave_no_waiter(agent: Agent) -> None:
    """Of `wait_for_state` and `wait_lost`, and of several who wait for the same."""

    async def one(rounds: int) -> bool:
        async with a_factory(agent) as factory:
            locker = factory.create("sweep")
            lease = await locker.lock("a")
            lost = asyncio.ensure_future(lease.wait_lost())
            paused = asyncio.ensure_future(locker.wait_for_state("stopped"))

            async def both() -> None:
                waits = lease.wait_lost(), locker.wait_for_state("stopped")
                stop = asyncio.ensure_future(locker.stop())
                try:
                    await asyncio.gather(*waits)
                finally:
                    await stop

            done = await cancelled(both, rounds)
            await locker.stop()
            assert await lost == "stopped"
            assert await paused
            assert leftovers(locker) == []
            assert not lease._waiters
            return done

    assert sweep(one) > 1


def test_with_observers(agent: Agent) -> None:
    """The steps of a call while its signals are delivered; a cancelled caller takes no observer with it."""

    async def one(rounds: int) -> bool:
        heard: list[str] = []

        async def observer(sender: Any, lease: Any, **facts: Any) -> None:
            await asyncio.sleep(0)
            heard.append("acquired")

        def released(sender: Any, **facts: Any) -> None:
            heard.append("released")

        async with a_factory(agent) as factory:
            locker = factory.create("sweep")
            with signals.lock_acquired.connected_to(observer), signals.released.connected_to(released):
                assert await locker.wait_for_state("ready", LIMIT)
                done = await cancelled(lambda: _lock_and_release(locker), rounds)
                await quiet(locker)
                await locker._runtime._delivery.flush(locker._runtime._queued)
                assert leftovers(locker) == []
                assert heard in ([], ["acquired", "released"])
                assert locked(agent) == {}
        return done

    assert sweep(one) > 5
