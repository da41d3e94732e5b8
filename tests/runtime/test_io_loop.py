"""runtime/io_loop: timers, requests and watches of a factory on an event loop; more of these: test_watches.py."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from consul_locker.client.encode import Encoder
from consul_locker.config.options import ClientOptions
from consul_locker.core.messages import Answered, CancelRequest, CancelTimer, SetTimer, TimerFired
from consul_locker.core.requests import (
    Committed,
    CreateSession,
    DestroySession,
    Done,
    Failed,
    KeysRead,
    NamesRead,
    ReadKey,
    ReadPrefix,
    ReadSession,
    RenewSession,
    SessionCreated,
    Transact,
    WatchKey,
    WatchNames,
)
from consul_locker.embedded import Agent, ManualClock
from consul_locker.runtime.clock import SystemClock
from consul_locker.runtime.io_loop import IoLoop
from consul_locker.runtime.watches import NAMES_SHARE

from ..behaviour.tools import WAIT, Consul, eventually
from ..client.servers import Server, answering, read_request

BATCH = Transact(1, ())


class Receiver:
    """Takes the events of one Locker."""

    def __init__(self) -> None:
        self.events: asyncio.Queue[Any] = asyncio.Queue()
        self.receive = self.events.put_nowait

    async def next(self) -> Any:
        """The next event."""
        return await asyncio.wait_for(self.events.get(), WAIT)


Test = Callable[[IoLoop, Receiver, Agent], Awaitable[None]]


def run(test: Test, clock: ManualClock | None = None, connections: int = 8) -> None:
    """Run a test on a loop, with an embedded agent."""

    async def go(agent: Agent) -> None:
        options = ClientOptions.build(agent.address, timeout=WAIT, environ={})
        exchange = IoLoop(options, Encoder(options), clock or SystemClock(), connections)
        try:
            await test(exchange, Receiver(), agent)
        finally:
            await exchange.close()

    with Agent() as agent:
        asyncio.run(go(agent))


def create() -> CreateSession:
    return CreateSession(1, "n", 15.0, 0.0, "release", ())


def test_the_system_s_clock() -> None:
    clock = SystemClock()
    assert 0 < clock.now() <= clock.now()


def test_a_request_and_its_answer() -> None:
    async def test(exchange: IoLoop, receiver: Receiver, agent: Agent) -> None:
        request = create()
        exchange.carry_out(receiver.receive, [request])
        answered = await receiver.next()
        assert answered.request is request
        assert isinstance(answered.outcome, SessionCreated)
        renew = RenewSession(1, answered.outcome.session_id, True)
        exchange.carry_out(receiver.receive, [renew])
        assert (await receiver.next()).request is renew

    run(test)


def test_failures_are_answers(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    async def test(exchange: IoLoop, receiver: Receiver, agent: Agent) -> None:
        agent.fail_next(1, drop=True)
        exchange.carry_out(receiver.receive, [create()])
        outcome = (await receiver.next()).outcome
        assert isinstance(outcome, Failed)
        assert outcome.sent
        exchange.carry_out(receiver.receive, [ReadPrefix(1, "k\ud800")])  # no encoding can carry it
        assert isinstance((await receiver.next()).outcome, Failed)

        def broken(request: Any) -> Any:
            raise KeyError("a fault of ours")

        monkeypatch.setattr(exchange._encoder, "encode", broken)
        with caplog.at_level(logging.ERROR, "consul_locker"):
            exchange.carry_out(receiver.receive, [create()])
            outcome = (await receiver.next()).outcome
        assert isinstance(outcome, Failed)
        assert outcome.sent
        assert "a fault of ours" in str(outcome.error)
        assert "unexpectedly" in caplog.text

        def refused(request: Any) -> Any:
            from consul_locker import ConfigurationError

            raise ConfigurationError("value", "…", "shorter")

        monkeypatch.setattr(exchange._encoder, "encode", refused)
        exchange.carry_out(receiver.receive, [create()])
        outcome = (await receiver.next()).outcome
        assert isinstance(outcome, Failed)
        assert not outcome.sent

    run(test)


def test_timers_of_the_system_s_clock() -> None:
    async def test(exchange: IoLoop, receiver: Receiver, agent: Agent) -> None:
        now = exchange._clock.now()
        commands = [
            SetTimer(("late",), now + 3600), SetTimer(("a",), now - 1), SetTimer(("b",), now + 0.02),
            SetTimer(("gone",), now), CancelTimer(("gone",)), CancelTimer(("never",)),
            SetTimer(("late",), now + 3601), SetTimer(("moved",), now + 3600), SetTimer(("moved",), now + 0.04),
        ]  # fmt: skip
        exchange.carry_out(receiver.receive, commands)
        assert [(await receiver.next()).name for _ in range(3)] == [("a",), ("b",), ("moved",)]
        assert exchange._clock.now() >= now + 0.04

    run(test)


def test_a_timer_that_the_loop_fires_early() -> None:
    class Slow:
        """A clock that is behind the loop's."""

        def __init__(self) -> None:
            self.times = [0.0, 0.0, 0.5, 2.0]

        def now(self) -> float:
            return self.times.pop(0) if len(self.times) > 1 else self.times[0]

    async def test(exchange: IoLoop, receiver: Receiver, agent: Agent) -> None:
        exchange._clock = Slow()
        exchange.carry_out(receiver.receive, [SetTimer(("a",), 0.001)])
        assert await receiver.next() == TimerFired(("a",))

    run(test)


def test_timers_of_a_manual_clock() -> None:
    clock = ManualClock(100.0)

    async def test(exchange: IoLoop, receiver: Receiver, agent: Agent) -> None:
        exchange.carry_out(
            receiver.receive,
            [SetTimer(("due",), 100.0), SetTimer(("c",), 130.0), SetTimer(("b",), 120.0), SetTimer(("gone",), 120.0)],
        )
        assert await receiver.next() == TimerFired(("due",))
        exchange.carry_out(receiver.receive, [CancelTimer(("gone",))])
        clock.advance(10.0)
        clock.advance(50.0)
        assert [await receiver.next() for _ in range(2)] == [TimerFired(("b",)), TimerFired(("c",))]
        assert receiver.events.empty()

    run(test, clock)
    clock.advance(1.0)  # a closed exchange hears no more of it


def test_a_timer_replaced_by_the_one_that_fires_before_it() -> None:
    clock = ManualClock()

    async def test(exchange: IoLoop, receiver: Receiver, agent: Agent) -> None:
        fired: list[Any] = []

        def receive(event: Any) -> None:
            fired.append(event.name)
            if event.name == ("first",):
                exchange.carry_out(receive, [CancelTimer(("second",))])
            receiver.receive(event)

        exchange.carry_out(receive, [SetTimer(("first",), 1.0), SetTimer(("second",), 2.0), SetTimer(("third",), 3.0)])
        clock.advance(5.0)
        await receiver.next()
        await receiver.next()
        assert fired == [("first",), ("third",)]

    run(test, clock)


def test_watches_without_a_place_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one place for three: the others see at a poll that the index is another one."""
    monkeypatch.setattr("consul_locker.runtime.watches.POLL_PAUSE", 0.01)

    async def test(exchange: IoLoop, receiver: Receiver, agent: Agent) -> None:
        await asyncio.to_thread(Consul(agent.address).put, "k", "at first")
        exchange.carry_out(receiver.receive, [ReadKey(1, "k")])
        outcome = (await receiver.next()).outcome
        assert isinstance(outcome, KeysRead)
        index = outcome.entries[0].modify_index
        first, *others = (WatchKey(1, "k", index + later, 300.0) for later in (0, 1_000, 2_000))
        exchange.carry_out(receiver.receive, [first])
        await eventually(lambda: exchange._watches._running)
        exchange.carry_out(receiver.receive, others)
        answered = [await receiver.next() for _ in others]
        assert {one.request for one in answered} == set(others)
        await asyncio.to_thread(Consul(agent.address).put, "k", "changed")
        answer = await receiver.next()
        assert answer.request is first
        assert answer.outcome.entries[0].value == b"changed"

    run(test, connections=3)


def test_lockers_that_wait_for_the_same_key_have_an_answer_each() -> None:
    async def test(exchange: IoLoop, receiver: Receiver, agent: Agent) -> None:
        other = Receiver()
        mine, his, given_up = (WatchKey(generation, "k", 1_000_000, 300.0) for generation in (1, 2, 3))
        exchange.carry_out(receiver.receive, [mine, given_up])
        exchange.carry_out(other.receive, [his])
        await eventually(lambda: exchange._watches._running)
        exchange.carry_out(receiver.receive, [CancelRequest(given_up), CancelRequest(given_up)])  # again: not known
        await asyncio.to_thread(agent.stop_listening)
        answers = [await receiver.next(), await other.next()]
        assert [answer.request for answer in answers] == [mine, his]
        assert all(isinstance(answer.outcome, Failed) for answer in answers)
        assert receiver.events.empty()

    run(test)


def test_closed() -> None:
    async def test(exchange: IoLoop, receiver: Receiver, agent: Agent) -> None:
        watch = WatchKey(1, "k", 1_000_000, 300.0)
        exchange.carry_out(receiver.receive, [watch, SetTimer(("a",), 0.0), SetTimer(("b",), 1e12)])
        await exchange.close()
        answered = await receiver.next()
        assert isinstance(answered, Answered)
        assert answered.request is watch
        assert isinstance(answered.outcome, Failed)
        exchange.carry_out(receiver.receive, [create()])
        await asyncio.sleep(0)
        assert receiver.events.empty()

    run(test)


def test_closed_with_a_timer_of_a_manual_clock() -> None:
    async def test(exchange: IoLoop, receiver: Receiver, agent: Agent) -> None:
        exchange.carry_out(receiver.receive, [SetTimer(("never",), 5.0)])

    run(test, ManualClock())


def test_all_but_destroys_is_ended() -> None:
    clock = ManualClock()

    async def test(exchange: IoLoop, receiver: Receiver, agent: Agent) -> None:
        answers: list[int] = []
        destroy = DestroySession(1, "00000000-0000-0000-0000-000000000000")
        watch, not_begun = WatchKey(1, "k", 1_000_000, 300.0), ReadSession(1, destroy.session_id)
        assert not exchange.destroying
        with agent.pause():
            exchange.carry_out(receiver.receive, [destroy, watch, SetTimer(("renew",), 1.0)])
            while len(exchange._transport._open_ones) < 2:
                await asyncio.sleep(0)
            exchange.carry_out(receiver.receive, [not_begun, SetTimer(("destroy", "t"), 2.0)])
            await exchange.keep_destroys(lambda: answers.append(receiver.events.qsize()))
            for request in (watch, not_begun):
                answered = await receiver.next()
                assert answered.request is request
                assert isinstance(answered.outcome, Failed)
            assert exchange.destroying
            assert not answers
        assert await receiver.next() == Answered(destroy, Done())
        assert answers == [1]  # the Locker was told before
        assert exchange.destroying
        clock.advance(3.0)
        assert await receiver.next() == TimerFired(("destroy", "t"))
        assert not exchange.destroying
        assert receiver.events.empty()

    run(test, clock)


def test_a_request_that_comes_twice_is_sent_once() -> None:
    async def go() -> int:
        options = ClientOptions.build("127.0.0.1:1", environ={})
        exchange = IoLoop(options, Encoder(options), SystemClock(), 2)
        exchange.carry_out(print, [BATCH, BATCH])
        sent = len(exchange._tasks)
        await exchange.close()
        return sent

    assert asyncio.run(go()) == 1


def test_a_transaction_without_a_task() -> None:
    """The second one, since there is a connection then; it ends with all others."""

    async def test(exchange: IoLoop, receiver: Receiver, agent: Agent) -> None:
        for _ in range(2):
            exchange.carry_out(receiver.receive, [BATCH])
            assert (await receiver.next()).outcome == Committed(())
        assert not exchange._tasks
        with agent.pause():
            exchange.carry_out(receiver.receive, [BATCH, BATCH])
            (ended,) = exchange.requests(receiver.receive)
            assert not exchange._tasks
            await exchange.close()
            await ended
        answered = await receiver.next()
        assert answered.request is BATCH
        assert "closed" in str(answered.outcome.error)

    run(test)


def test_the_receiver_of_a_transaction_without_a_task_is_interrupted() -> None:
    """It hears once more, at once; unless it was told in the meantime that all is over."""

    async def test(exchange: IoLoop, receiver: Receiver, agent: Agent) -> None:
        def receive(event: Any) -> None:
            receiver.receive(event)
            if receiver.events.qsize() == 1:
                raise RecursionError

        exchange.carry_out(print, [BATCH])
        await eventually(lambda: not exchange._tasks)
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        exchange.carry_out(receive, [BATCH])
        await eventually(lambda: receiver.events.qsize() == 2)
        assert (await receiver.next()).outcome == Committed(())
        assert "interrupted" in str((await receiver.next()).outcome.error)
        exchange._interrupted(receive, BATCH)
        assert receiver.events.empty()

    run(test)


def test_a_transaction_without_a_task_that_must_go_again() -> None:
    async def go() -> list[Any]:
        events: list[Any] = []
        options = ClientOptions.build([f"127.0.0.1:{each.port}" for each in (first, second)], environ={})
        exchange = IoLoop(options, Encoder(options), SystemClock(), 2)
        for count in range(1, 4):
            exchange.carry_out(events.append, [BATCH])
            await eventually(lambda count=count: len(events) == count)
        await exchange.close()
        return events

    no_leader = b"HTTP/1.1 500 Error\r\nContent-Length: 17\r\n\r\nNo cluster leader"
    committed = b'HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n{"Results":null}'

    def once(sock: socket.socket) -> None:
        read_request(sock)
        sock.sendall(committed)
        read_request(sock)

    with Server(answering(committed, no_leader)) as first, Server(once) as second:
        granted, again, failed = asyncio.run(go())
    assert granted.outcome == again.outcome == Committed(())
    assert isinstance(failed.outcome, Failed)
    assert failed.outcome.sent


def test_a_request_whose_task_breaks_off_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[Any] = []

    async def go() -> None:
        options = ClientOptions.build("127.0.0.1:1", environ={})
        exchange = IoLoop(options, Encoder(options), SystemClock(), 2)

        async def broken(request: Any, timeout: Any) -> Any:
            raise RecursionError

        monkeypatch.setattr(exchange, "_answer", broken)
        exchange.carry_out(answers.append, [BATCH])
        await eventually(lambda: answers)
        await exchange.close()

    asyncio.run(go())
    (answered,) = answers
    assert answered.request is BATCH
    assert answered.outcome.sent
    assert "interrupted" in str(answered.outcome.error)


def test_a_hint_is_not_asked_for_where_connections_are_few() -> None:
    async def test(exchange: IoLoop, receiver: Receiver, agent: Agent) -> None:
        most = int(exchange._watch_limit() * NAMES_SHARE)
        watches = [WatchNames(1, "svc/", 0, 300.0) for _ in range(most)]
        exchange.carry_out(receiver.receive, watches)
        first = (await receiver.next()).outcome
        assert isinstance(first, NamesRead)
        assert first.names == ()
        for _ in watches[1:]:
            await receiver.next()
        waiting = [WatchNames(1, "svc/", first.index, 300.0) for _ in range(most + 1)]
        exchange.carry_out(receiver.receive, waiting)
        answered = await receiver.next()
        assert answered.request is waiting[-1]
        assert isinstance(answered.outcome, Failed)
        assert not answered.outcome.sent
        exchange.carry_out(receiver.receive, [CancelRequest(watch) for watch in waiting[:-1]])
        await asyncio.gather(*exchange._ending, return_exceptions=True)
        assert exchange._watches._names == 0

    run(test)
