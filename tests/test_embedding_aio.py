"""A Locker below a state of a user's machine, on asyncio."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from consul_locker import AlreadyLocked, aio, embed
from consul_locker.fsm import Action, Defer, Fsm, State, Table

#: How long anything may take that is waited for, in seconds; far more than it needs.
WAIT = 20.0


def test_the_program_of_the_design(agent: Any) -> None:
    """Section 8 on an event loop: the same table, without a mutex."""
    done: list[int] = []

    async def main() -> None:
        acquired, standby = asyncio.Event(), asyncio.Event()
        async with aio.LockerFactory(agent.address) as factory, aio.LockerFactory(agent.address) as others:
            table = Table(
                {
                    "standby": State(inputs={"lead": "leading", "job": Defer("leading")}),
                    "leading": State(
                        child=lambda service: embed(factory.create(name="embedding-aio", delete_on_release=True)),
                        on_enter=lambda service: service.handle("lock", "leader"),
                        inputs={
                            "job": Action(lambda service, n: done.append(n), "run it"),
                            "lock_acquired": lambda service, facts: acquired.set(),
                            "lock_denied": "standby",
                            "lock_lost": "standby",
                        },
                    ),
                },
                initial_state="standby",
            )
            service: Fsm = Fsm(table)
            service.on("transition", lambda data: standby.set() if data["to_state"] == "standby" else None)
            service.handle("job", 1)
            service.handle("lead")
            assert service.composite_state == "leading.acquiring"
            assert done == [1]
            await asyncio.wait_for(acquired.wait(), WAIT)
            assert service.composite_state == "leading.ready"
            rival = others.create("embedding-aio")
            with pytest.raises(AlreadyLocked):
                await rival.lock("leader")
            first = service.child.locker
            first.reboot()
            await asyncio.wait_for(standby.wait(), WAIT)
            await rival.lock("leader", wait=WAIT)
            assert await first.wait_for_state("stopped", WAIT)  # leaving has begun it
            standby.clear()
            service.handle("lead")
            await asyncio.wait_for(standby.wait(), WAIT)
            await rival.release("leader")

    asyncio.run(main())


def test_a_refused_call_leaves_no_line_in_the_log_of_asyncio(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        denied = asyncio.Event()
        async with aio.LockerFactory.embedded() as factory:
            rival = factory.create("e")
            await rival.lock("a")
            on = State(
                child=lambda me: embed(factory.create("e")),
                on_enter=lambda me: me.handle("lock", "a"),
                inputs={"lock_denied": lambda me, facts: denied.set(), "cancel": "off"},
            )
            fsm = Fsm.of({"on": on, "off": State()}, initial_state="on")
            await asyncio.wait_for(denied.wait(), WAIT)
            task = fsm.child.handle("lock", "b", wait=None)
            task.cancel()
            await asyncio.wait({task}, timeout=WAIT)
            fsm.handle("cancel")

    asyncio.run(main())
    assert "never retrieved" not in caplog.text
    assert "failed" not in caplog.text
