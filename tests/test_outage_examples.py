"""What the documentation shows survives five minutes without Consul, on a clock that the tests move."""

from __future__ import annotations

import ast
import asyncio
import dataclasses
import json
import runpy
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import consul_locker
from consul_locker import LockerFactory, aio
from consul_locker.embedded import Agent, ManualClock

from .behaviour.tools import WAIT, until
from .test_docs import python_blocks
from .test_fastapi_lifespan import application, load

DOCS = Path(__file__).parents[1] / "docs"
EXAMPLES = Path(__file__).parents[1] / "examples"

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


def of_a_page(page: str, *names: str, **given: Any) -> dict[str, Any]:
    """Functions of the examples of a page, as they stand there, with what they may use."""
    found: dict[str, Any] = {**vars(consul_locker), "asyncio": asyncio, "threading": threading, **given}
    for block in python_blocks((DOCS / page).read_text(encoding="utf-8")):
        wanted = [node for node in ast.parse(block.source).body if getattr(node, "name", None) in names]
        exec(compile(ast.Module(wanted, []), page, "exec"), found)
    assert set(names) <= set(found)
    return found


def away(agent: Agent, seconds: int = AWAY) -> None:
    """Consul is not there for a while."""
    agent.stop_listening()
    for _ in range(seconds):
        agent.advance(1.0)


@pytest.fixture
def agent() -> Iterator[Agent]:
    with Agent(clock=ManualClock(1000.0)) as agent:
        yield agent


def test_the_leader_of_the_recipe(agent: Agent, capsys: pytest.CaptureFixture[str]) -> None:
    led: list[int] = []
    leaving = threading.Event()

    def work(lease: Any) -> None:
        led.append(lease.fence)
        lease.wait_lost(WAIT)

    lead = of_a_page("recipes.rst", "lead")["lead"]
    with LockerFactory.embedded(agent) as factory:
        locker = factory.create("recipe", default_timeout=30)
        leader = threading.Thread(target=lead, args=(locker, work, leaving), daemon=True)
        leader.start()
        until(lambda: led)
        away(agent)
        told = []

        def heard(words: str) -> bool:
            told.append(capsys.readouterr().out)
            return words in "".join(told)

        until(lambda: heard("no longer the leader: deadline passed"))
        until(lambda: heard("no leader is known") or agent.advance(1.0) < 0)
        agent.listen_again()
        until(lambda: len(led) == 2 or agent.advance(1.0) < 0)
        assert led[1] > led[0]
        leaving.set()
        locker.stop()
        leader.join(WAIT)
        assert not leader.is_alive()


def test_the_leader_of_the_recipe_on_asyncio(agent: Agent) -> None:
    led: list[int] = []

    async def work(lease: Any) -> None:
        led.append(lease.fence)
        await asyncio.sleep(3600 if len(led) == 1 else 0)

    async def main() -> None:
        lead = of_a_page("recipes.rst", "lead_on_asyncio")["lead_on_asyncio"]
        async with aio.LockerFactory.embedded(agent) as factory, factory.create("recipe") as locker:
            leader = asyncio.create_task(lead(locker, work))
            await moved(agent, lambda: led, 5)
            agent.stop_listening()
            await moved(agent, lambda: locker.state != "ready", 30)
            for _ in range(AWAY):
                agent.advance(1.0)
                await asyncio.sleep(0)
            assert not leader.done()
            agent.listen_again()
            await moved(agent, leader.done, BACK)
            await leader
            assert led[1] > led[0]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("page", "call", "good", "bad"),
    [
        ("servers.rst", "answer", "200 OK", "503 Service Unavailable"),
        ("outages.rst", "order", 200, 503),
    ],
)
def test_what_answers_requests(agent: Agent, page: str, call: str, good: Any, bad: Any) -> None:
    """A request that comes in the outage is told so, and one that comes after it is served; health says how it is."""
    with LockerFactory.embedded(agent) as factory:
        locker = factory.create("web", outage_timeout=5)
        known = {"locker": locker, "json": json, "dataclasses": dataclasses}
        found = of_a_page(page, call, *["health"] * (call == "order"), **known)

        def request(what: Any) -> Any:
            status = found[call](what)
            return status[0] if isinstance(status, tuple) else status

        def health() -> Any:
            return (found["health"]() if call == "order" else found[call]("/health"))[0]

        assert (request("7"), health()) == (good, good)
        away(agent)
        until(lambda: health() == bad)
        with ThreadPoolExecutor(1) as pool:
            refused = pool.submit(request, "7")
            until(lambda: refused.done() or agent.advance(1.0) < 0)
            assert refused.result() == bad
            agent.listen_again()
            until(lambda: health() == good or agent.advance(1.0) < 0)
            served = pool.submit(request, "7")
            until(lambda: served.done() or agent.advance(1.0) < 0)
            assert served.result() == good


def test_a_lock_for_each_job(agent: Agent, capsys: pytest.CaptureFixture[str]) -> None:
    with LockerFactory.embedded(agent) as factory, ThreadPoolExecutor(1) as pool:
        jobs = factory.create("jobs", delete_on_release=True)
        run = of_a_page("usage.rst", "run", jobs=jobs)["run"]
        run("before")
        away(agent)
        missed = pool.submit(run, "in the outage")
        until(lambda: missed.done() or agent.advance(1.0) < 0)
        missed.result()
        agent.listen_again()
        done = pool.submit(run, "after")
        until(lambda: done.done() or agent.advance(1.0) < 0)
        done.result()
        assert [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()] == ["in the outage is missed"]


def example(name: str) -> Any:
    return runpy.run_path(str(EXAMPLES / name))


def test_the_job_runner(agent: Agent, capfd: pytest.CaptureFixture[str]) -> None:
    """Its runs in the outage are missed, and told so; those after it are done."""
    program = example("job_runner.py")

    def runs(host: Any, minute: str) -> list[str]:
        host.wake_up(minute)
        until(lambda: all(run.settled.is_set() for run in host.runs) or agent.advance(1.0) < 0)
        return [program["RUNS"].state(run) for run in host.runs[-len(program["JOBS"]) :]]

    with LockerFactory.embedded(agent) as factory:
        host = program["Host"]("host", factory)
        assert set(runs(host, "12:00")) == {"done"}
        away(agent)
        assert set(runs(host, "12:05")) == {"failed"}
        agent.listen_again()
        assert set(runs(host, "12:06")) == {"done"}
    assert "backup of 12:05 is missed" in capfd.readouterr().err


def test_the_leader_of_the_machines(agent: Agent, capfd: pytest.CaptureFixture[str]) -> None:
    program = example("leader.py")
    pauses: list[Any] = []  # of members that are to stand again

    def later(seconds: float, call: Any) -> threading.Timer:
        pauses.append(call)
        return threading.Timer(seconds, call)  # it is only cancelled: here the test is the clock

    def begin_work(member: Any, lease: Any) -> None:
        threading.Thread(target=program["work"], args=(member, lease), daemon=True).start()

    def stand_again_until(done: Any) -> None:
        def moved_on() -> bool:
            if done():
                return True
            while pauses:
                pauses.pop()()
            agent.advance(1.0)
            return False

        until(moved_on)

    told: list[tuple[str, str]] = []
    with LockerFactory.embedded(agent) as factory:

        def create() -> Any:
            return factory.create(program["NAME"], behavior="delete")

        anna = program["Member"]("anna", create, begin_work, later, told.append)
        anna.fsm.begin()
        stand_again_until(lambda: ("anna", "leads") in told)
        agent.stop_listening()
        for _ in range(AWAY):
            agent.advance(1.0)
        until(lambda: ("anna", "draining") in told)
        stand_again_until(lambda: told.count(("anna", "standby")) >= 3)  # it stood again, and was refused
        agent.listen_again()
        stand_again_until(lambda: told.count(("anna", "leads")) == 2)
        anna.resign()
        until(lambda: told[-1] == ("anna", "standby"))
        anna.fsm.handle("leave")
