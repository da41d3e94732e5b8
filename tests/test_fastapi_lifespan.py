"""examples/fastapi_lifespan.py, as a server would run it; and the dependency on threads of docs/usage.rst."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from consul_locker import AlreadyLocked, Lease, Locker, LockerFactory
from consul_locker.embedded import Agent

from .behaviour.tools import WAIT

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

EXAMPLE = Path(__file__).parents[1] / "examples" / "fastapi_lifespan.py"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fastapi_lifespan", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def application(app: Any) -> Any:
    """The answers to some requests, between the application's start and its end."""
    import httpx

    async with app.router.lifespan_context(app) as state:
        locker = state["locker"]
        transport = httpx.ASGITransport(app=_with_state(app, state))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            yield client, locker


def _with_state(app: Any, state: dict[str, Any]) -> Any:
    """What a server does with what the lifespan yields."""

    async def asgi(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "state": dict(state)}, receive, send)

    return asgi


def test_the_example(monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    async def main() -> None:
        example = load()
        async for client, locker in application(example.app):
            assert (await client.get("/health")).json()["state"] in ("acquiring", "ready")
            both = await asyncio.gather(client.post("/reports/7"), client.post("/reports/7"))
            assert [answer.status_code for answer in both] == [200, 200]
            first, second = (answer.json()["fence"] for answer in both)
            assert first != second
            monkeypatch.setattr(example, "write_report", _stopping(locker))
            assert (await client.post("/reports/8")).status_code == 503
        assert locker.state == "stopped"
        assert asyncio.all_tasks() == {asyncio.current_task()}

    async def contended(agent: Agent) -> None:
        with LockerFactory(agent.address) as factory, factory.create("report-writer") as other, other.hold("7"):
            monkeypatch.setattr("consul_locker.aio.Locker.hold", _impatient(monkeypatch))
            async for client, _ in application(load().app):
                answer = await client.post("/reports/7")
                assert (answer.status_code, answer.json()["detail"]) == (409, "the report is being built")

    with Agent() as agent:
        monkeypatch.setenv("CONSUL_HTTP_ADDR", agent.address)
        asyncio.run(main())
        asyncio.run(contended(agent))


def _stopping(locker: Any) -> Any:
    async def write(report: int, lease: Any) -> None:
        await locker.stop()

    return write


def _impatient(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`hold` that waits no 2 s."""
    from consul_locker.aio import Locker

    hold = Locker.hold
    return lambda self, id, *, wait, timeout: hold(self, id, wait=0.01, timeout=timeout)


def _on_threads(locker: Locker, wait: float) -> Any:
    """The application of docs/usage.rst, which notices two at work."""
    from fastapi import Depends, FastAPI, HTTPException

    app = FastAPI()
    alone = threading.Lock()

    def report_lock(report: int) -> Iterator[Lease]:
        try:
            with locker.hold(report, wait=wait) as lease:
                yield lease
        except AlreadyLocked as error:
            raise HTTPException(409, "the report is being built") from error

    taken = Depends(report_lock)

    @app.post("/reports/{report}")
    def build(report: int, lease: Any = taken) -> dict[str, int]:
        assert alone.acquire(blocking=False)
        lease.check()
        alone.release()
        return {"report": report, "fence": lease.fence}

    return app


def test_a_dependency_on_threads() -> None:
    import asyncio

    import httpx

    async def main(locker: Locker, wait: float) -> list[Any]:
        transport = httpx.ASGITransport(app=_on_threads(locker, wait))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await asyncio.gather(*(client.post("/reports/7") for _ in range(5)))

    with Agent() as agent, LockerFactory(agent.address) as factory:
        locker, rival = factory.create("report-writer"), factory.create("report-writer")
        answers = asyncio.run(main(locker, WAIT))
        assert [answer.status_code for answer in answers] == [200] * 5
        assert len({answer.json()["fence"] for answer in answers}) == 5
        assert not locker.held
        with rival.hold("7"):
            assert {answer.status_code for answer in asyncio.run(main(locker, 0))} == {409}
