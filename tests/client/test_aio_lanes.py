"""client/aio, runtime/io_loop: renewals go side by side, over connections that nothing else takes.

A server that the test makes answers when the test says so: what is looked at is what is under way at the same time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from consul_locker.client.aio_connection import AsyncConnection
from consul_locker.client.encode import Encoder, HttpRequest, HttpResponse
from consul_locker.config.options import ClientOptions
from consul_locker.core.messages import Answered, CancelRequest
from consul_locker.core.requests import (
    Failed,
    KeysRead,
    ReadKey,
    ReadSession,
    Renewed,
    RenewSession,
    Request,
    SessionRead,
    WatchKey,
)
from consul_locker.runtime.clock import SystemClock
from consul_locker.runtime.io_loop import IoLoop

from ..behaviour.tools import WAIT, eventually, settle
from .handmade import Handmade, ok, request_on

SESSION = "00000000-0000-0000-0000-{:012}"


def answer_to(line: str) -> bytes:
    """What Consul answers to a renewal or a read of a session, or of a key; for the rest an empty list does."""
    if "/v1/txn" in line:
        return ok('{"Results": [{"KV": {"Key": "k", "Flags": 0, "CreateIndex": 1, "ModifyIndex": 1, "LockIndex": 0}}]}')
    return ok(
        f'[{{"ID": "{request_on(line)[-36:]}", "Node": "n", "TTL": "15s", "CreateIndex": 7}}]'
        if "/session/" in line
        else "[]"
    )


class Crowd:
    """Answers requests of a kind only when so many of them are under way at once.

    Attributes:
        came: how many came, each with the number of its connection.
    """

    def __init__(self, kind: str, together: int) -> None:
        self.kind = kind
        self._together = together
        self.again()

    def again(self) -> None:
        """Begin to count anew."""
        self.came: list[int] = []
        self._all = asyncio.Event()

    def go(self) -> None:
        """They are enough."""
        self._all.set()

    async def __call__(self, line: str, number: int) -> bytes:
        if not request_on(line).startswith(self.kind):
            await asyncio.Event().wait()  # anything else is never answered
        self.came.append(number)
        if len(self.came) >= self._together:
            self._all.set()
        await self._all.wait()
        return answer_to(line)


class Asking:
    """Gives requests to an exchange, and takes the answers."""

    def __init__(self, exchange: IoLoop) -> None:
        self._io_loop = exchange
        self._answers: dict[Request, asyncio.Future[Answered]] = {}

    def begin(self, request: Request) -> asyncio.Future[Answered]:
        """Ask it."""
        answer = self._answers[request] = asyncio.get_running_loop().create_future()
        self._io_loop.carry_out(self._receive, [request])
        return answer

    def give_up(self, request: Request) -> None:
        """It is not wanted any more."""
        self._io_loop.carry_out(self._receive, [CancelRequest(request)])

    def _receive(self, event: object) -> None:
        assert isinstance(event, Answered)
        self._answers[event.request].set_result(event)

    async def ask(self, request: Request) -> object:
        """Ask it, and wait for what comes of it."""
        return (await asyncio.wait_for(self.begin(request), WAIT)).outcome


Test = Callable[[Asking, IoLoop, Handmade], Awaitable[None]]


def run(test: Test, answer: Callable[[str, int], Awaitable[bytes]], connections: int = 8) -> None:
    """Run a test on a loop with such a server. It never has more connections than there may be."""

    async def go() -> None:
        async with Handmade(answer) as server:
            options = ClientOptions.build(server.address, timeout=WAIT, environ={})
            exchange = IoLoop(options, Encoder(options), SystemClock(), connections)
            try:
                await test(Asking(exchange), exchange, server)
            finally:
                await exchange.close()
            assert server.peak <= connections

    asyncio.run(asyncio.wait_for(go(), 2 * WAIT))


def renewal(number: int, fresh: bool = False, timeout: float = WAIT) -> RenewSession:
    return RenewSession(1, SESSION.format(number), fresh, timeout=timeout)


def read(number: int) -> ReadKey:
    return ReadKey(1, f"k{number}", timeout=WAIT)


@pytest.mark.parametrize(("connections", "together"), [(64, 48), (48, 36), (8, 6), (3, 2), (2, 1)])
def test_renewals_go_side_by_side(connections: int, together: int) -> None:
    """They are answered only when so many are under way at once: all connections but those kept for all else."""
    crowd = Crowd("PUT /v1/session/renew", together)

    async def test(asking: Asking, exchange: IoLoop, server: Handmade) -> None:
        answers = [asking.begin(renewal(number)) for number in range(2 * together)]
        for answer in answers:
            assert isinstance((await asyncio.wait_for(answer, WAIT)).outcome, Renewed)
        assert server.accepted == together

    run(test, crowd, connections)


def test_renewals_have_connections_of_their_own() -> None:
    """All that others may have is taken by what Consul never answers, more waits, and watches want theirs too."""

    async def test(asking: Asking, exchange: IoLoop, server: Handmade) -> None:
        for number in range(20):
            asking.begin(read(number))
            asking.begin(WatchKey(1, f"w{number}", 7, 300.0))
        await eventually(lambda: len(server.open) == 6)
        for _ in range(3):
            answers = await asyncio.gather(*(asking.ask(renewal(number)) for number in range(5)))
            assert all(isinstance(answer, Renewed) for answer in answers)
        assert server.accepted == 8

    run(test, Crowd("PUT /v1/session/renew", 2))


def test_the_read_that_renews_a_session_without_a_ttl_goes_there_too() -> None:
    """A user's question goes with all else."""

    async def test(asking: Asking, exchange: IoLoop, server: Handmade) -> None:
        for number in range(20):
            asking.begin(read(number))
        asking.begin(ReadSession(1, SESSION.format(1), question=True, timeout=WAIT))
        await eventually(lambda: len(server.open) == 6)
        assert isinstance(await asking.ask(ReadSession(1, SESSION.format(2), timeout=WAIT)), SessionRead)
        assert len(crowd.came) == 1

    crowd = Crowd("GET /v1/session/info", 1)
    run(test, crowd)


def test_one_that_hangs_holds_up_no_other() -> None:
    """Each tenth is never answered: as many of them as there are connections beyond one."""
    hanging = {SESSION.format(number) for number in (10, 20, 30, 40, 50)}

    async def answer(line: str, number: int) -> bytes:
        if request_on(line).rpartition("/")[2] in hanging:
            await asyncio.Event().wait()
        return answer_to(line)

    async def test(asking: Asking, exchange: IoLoop, server: Handmade) -> None:
        begun = [asking.begin(renewal(number)) for number in range(1, 61)]
        done, hung = [], []
        for number, one in enumerate(begun, 1):
            (hung if number % 10 == 0 and number < 60 else done).append(one)
        answers = await asyncio.wait_for(asyncio.gather(*done), WAIT)
        assert all(isinstance(answer.outcome, Renewed) for answer in answers)
        assert not any(one.done() for one in hung)

    run(test, answer)


@pytest.mark.parametrize("connections", range(2, 9))
def test_watches_never_take_the_last_place(connections: int) -> None:
    """Not even those of one Locker alone, which no other watch cuts short."""

    async def answer(line: str, number: int) -> bytes:
        if "index=" in line:
            await asyncio.Event().wait()
        return answer_to(line)

    async def test(asking: Asking, exchange: IoLoop, server: Handmade) -> None:
        for count in range(1, connections + 1):
            asking.begin(WatchKey(1, f"w{count}", 7, 300.0))
            await eventually(lambda count=count: exchange._watches._running >= min(count, exchange._watch_limit()))
            await settle()
            assert isinstance(await asking.ask(read(count)), KeysRead)
            assert isinstance(await asking.ask(renewal(count)), Renewed)

    run(test, answer, connections)


def test_the_time_of_a_renewal_begins_when_it_is_its_turn() -> None:
    """Else, when there are too many, each would be given up soon after it was sent, and so would the next."""
    deadlines: list[float] = []

    async def test(asking: Asking, exchange: IoLoop, server: Handmade) -> None:
        first, second = asking.begin(renewal(1)), asking.begin(renewal(2))
        await eventually(lambda: crowd.came)
        ask = exchange._lanes._ask

        async def noted(connection: AsyncConnection, request: HttpRequest, deadline: float) -> HttpResponse:
            deadlines.append(deadline)
            return await ask(connection, request, deadline)

        exchange._lanes._ask = noted  # type: ignore[method-assign]
        turn = asyncio.get_running_loop().time()
        crowd.go()
        await asyncio.wait_for(asyncio.gather(first, second), WAIT)
        assert deadlines[0] >= turn + WAIT

    crowd = Crowd("PUT /v1/session/renew", 2)
    run(test, crowd, connections=2)


def test_a_retry_goes_over_a_new_connection() -> None:
    """What was open before is dead, a firewall has forgotten it, say: the next attempt tries none of them."""
    deaf = 0

    async def answer(line: str, number: int) -> bytes:
        if number <= deaf:
            await asyncio.Event().wait()
        return await crowd(line, number)

    crowd = Crowd("PUT /v1/session/renew", 3)

    async def test(asking: Asking, exchange: IoLoop, server: Handmade) -> None:
        nonlocal deaf
        await asyncio.gather(*(asking.ask(renewal(number)) for number in range(3)))
        assert server.accepted == deaf + 3
        deaf = 3
        failed = await asking.ask(renewal(1, timeout=0.05))
        assert isinstance(failed, Failed)
        assert isinstance(await asking.ask(renewal(1, fresh=True)), Renewed)
        assert crowd.came[-1] == server.accepted == 4
        assert len(server.open) == 2  # another of the old ones has made room for it

    run(test, answer)


def test_what_renewals_do_not_need_any_more_is_there_for_others() -> None:
    """And the other way round; there are never more connections than there may be."""
    renewals, reads = Crowd("PUT /v1/session/renew", 6), Crowd("PUT /v1/txn", 6)

    async def answer(line: str, number: int) -> bytes:
        return await (renewals if "renew" in line else reads)(line, number)

    async def test(asking: Asking, exchange: IoLoop, server: Handmade) -> None:
        for _ in range(2):
            await asyncio.gather(*(asking.ask(renewal(number)) for number in range(6)))
            assert len(server.open) == 8 or server.accepted == 6
            renewals.again()
            await asyncio.gather(*(asking.ask(read(number)) for number in range(6)))
            reads.again()
            await settle()
            assert len(server.open) == 8

    run(test, answer)


# ------------------------------------------------------------------------- when Consul refuses connections


async def all_but_watches(line: str, number: int) -> bytes:
    """Whatever has an index waits for a change that never comes."""
    if "index=" in line:
        await asyncio.Event().wait()
    return answer_to(line)


def test_where_consul_refuses_connections_watches_leave_a_place_for_requests_and_no_new_one_begins() -> None:
    """As over its `http_max_conns_per_client`. To close the others frees nothing. A renewal takes what is idle."""

    async def test(asking: Asking, exchange: IoLoop, server: Handmade) -> None:
        watches = [WatchKey(1, f"w{number}", 7, 300.0) for number in range(4)]
        for watch in watches[:2]:
            asking.begin(watch)
        await eventually(lambda: len(server.open) == 2)
        assert isinstance(await asking.ask(read(1)), KeysRead)
        server.accepts = 3
        outcomes = [await asking.ask(renewal(1, fresh=attempt < 2)) for attempt in range(3)]
        assert [type(outcome) for outcome in outcomes] == [Failed, Failed, Renewed]
        assert (server.refused, exchange._transport.limit) == (2, 3)
        for watch in watches[2:]:
            asking.begin(watch)
        await eventually(lambda: exchange._watches._pausing == 3)
        assert (len(server.open), exchange._watches._running) == (2, 1)
        assert isinstance(await asking.ask(read(2)), KeysRead)
        for watch in watches:
            asking.give_up(watch)

    run(test, all_but_watches)


def test_where_consul_refuses_connections_idle_ones_are_closed_as_far_as_there_are_too_many() -> None:
    reads = Crowd("PUT /v1/txn", 4)

    async def test(asking: Asking, exchange: IoLoop, server: Handmade) -> None:
        await asyncio.gather(*(asking.ask(read(number)) for number in range(4)))
        for _ in range(2):
            exchange._transport._allowance.refused(counted=3)
        await eventually(lambda: len(server.open) == 2)

    run(test, reads)


def test_a_single_fault_is_no_refusal() -> None:
    """Nor are two with an answered new connection between them, nor an agent that refuses every connection."""

    async def test(asking: Asking, exchange: IoLoop, server: Handmade) -> None:
        server.accepts = 0
        for _ in range(3):
            assert isinstance(await asking.ask(renewal(1)), Failed)
        server.accepts = None
        assert isinstance(await asking.ask(renewal(2)), Renewed)
        for _ in range(3):
            server.accepts = 1
            asking.begin(ReadKey(1, "k", timeout=WAIT))
            await eventually(lambda: server.refused)
            server.refused = 0
            server.accepts = None
            assert isinstance(await asking.ask(renewal(2, fresh=True)), Renewed)
        assert exchange._transport.limit == 8

    run(test, Crowd("PUT /v1/session/renew", 1))
