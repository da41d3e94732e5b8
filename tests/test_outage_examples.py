"""What the documentation shows survives five minutes without Consul, on a clock that the tests move."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from typing import Any

import pytest

from consul_locker import AlreadyLocked, ConsulUnavailable, LockerFactory, LockLost, SessionUnavailable, aio
from consul_locker.embedded import Agent, ManualClock

from .behaviour.tools import WAIT, until
from .test_fastapi_lifespan import application, load

#: How long Consul is away, in seconds of the clock that is moved.
AWAY = 300
#: How long it may take after that until all is well again, in seconds of that clock.
BACK = 60


async def moved(agent: Agent, done: Any, most: int) -> int:
    """Move the clock, a second at a time, until something has happened; returns the seconds."""
    for second in range(most):
        for _ in range(5):
            if done():
                return second
            await asyncio.sleep(0.002)  # the agent answers meanwhile
        agent.advance(1.0)
    pytest.fail(f"not within {most} s")


def test_the_web_application(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fastapi")
    pytest.importorskip("httpx")
    example = load()

    async def main(agent: Agent) -> None:
        monkeypatch.setattr(example, "LockerFactory", lambda: aio.LockerFactory.embedded(agent))
        async for client, locker in application(example.app):
            await locker.lock("warm")
            assert (await client.get("/health")).status_code == 200
            agent.stop_listening()
            refused = asyncio.create_task(client.post("/reports/7"))
            await moved(agent, refused.done, 30)
            assert (refused.result().status_code, refused.result().json()["detail"]) == (503, "Consul does not answer")
            state = partial(getattr, locker, "state")
            await moved(agent, lambda state=state: state() != "ready", 30)  # the deadline of its session
            for _ in range(AWAY):
                agent.advance(1.0)
                await asyncio.sleep(0.0)
            health = await client.get("/health")
            assert health.status_code == 503
            assert health.json()["outage_since"] >= AWAY
            assert "refused" in health.json()["cause"]
            agent.listen_again()
            await moved(agent, lambda state=state: state() == "ready", BACK)
            served = asyncio.create_task(client.post("/reports/7"))
            await moved(agent, served.done, 30)
            assert served.result().status_code == 200
            assert (await client.get("/health")).status_code == 200

    with Agent(clock=ManualClock(1000.0)) as agent:
        asyncio.run(main(agent))


def test_the_leader_of_the_recipe() -> None:
    """The loop of docs/recipes.rst; its work ends when the lease does."""
    led, met, leaving = [], [], threading.Event()

    def work(lease: Any) -> None:
        led.append(lease.fence)
        lease.wait_lost(WAIT)

    def lead(locker: Any) -> None:
        while not leaving.is_set():
            try:
                with locker.hold("leader", wait=5) as lease:
                    work(lease)
            except AlreadyLocked:
                continue
            except LockLost as lost:
                met.append(lost.reason)
            except (ConsulUnavailable, SessionUnavailable) as away:
                met.append(type(away).__name__)
                leaving.wait(0)

    with Agent(clock=ManualClock(1000.0)) as agent, LockerFactory.embedded(agent) as factory:
        locker = factory.create("recipe")
        leader = threading.Thread(target=lead, args=(locker,), daemon=True)
        leader.start()
        until(lambda: led)
        agent.stop_listening()
        for _ in range(AWAY):
            agent.advance(1.0)
        until(lambda: "deadline passed" in met)
        until(lambda: "SessionUnavailable" in met or agent.advance(1.0) < 0)
        agent.listen_again()
        until(lambda: len(led) == 2 or agent.advance(1.0) < 0)
        assert led[1] > led[0]
        leaving.set()
        locker.stop()
        leader.join(WAIT)
        assert not leader.is_alive()
