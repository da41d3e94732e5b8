"""A FastAPI application with one Locker: made when the application starts, stopped when it ends.

Run it with ``uvicorn fastapi_lifespan:app`` in this directory; CONSUL_HTTP_ADDR says where Consul is. Each worker
process runs the lifespan of its own, so each has a Locker of its own, and they exclude each other.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any

from fastapi import FastAPI, HTTPException, Request, Response

from consul_locker import AlreadyLocked, ConsulUnavailable, LockLost, SessionUnavailable
from consul_locker.aio import Lease, Locker, LockerFactory


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Locker]]:
    """The Locker lives as long as the application; what is yielded is found in ``request.state``."""
    async with LockerFactory() as factory, factory.create(name="report-writer") as locker:
        yield {"locker": locker}


app = FastAPI(lifespan=lifespan)


async def write_report(report: int, lease: Lease) -> None:
    """The work that the lock protects. It hands the fence to whatever it writes to."""
    await asyncio.sleep(0)
    lease.check()


@app.post("/reports/{report}")
async def build(report: int, request: Request) -> dict[str, int]:
    """Build a report: one at a time, whatever worker of whatever machine is asked."""
    locker: Locker = request.state.locker
    try:
        async with locker.hold(report, wait=2, timeout=5) as lease:
            await write_report(report, lease)
            return {"report": report, "fence": lease.fence}
    except AlreadyLocked as error:
        raise HTTPException(409, "the report is being built") from error
    except LockLost as error:
        raise HTTPException(503, "the lock was lost meanwhile; nothing was written") from error
    except (ConsulUnavailable, SessionUnavailable, TimeoutError) as error:  # `timeout` is over: an outage of Consul
        raise HTTPException(503, "Consul does not answer") from error


@app.get("/health")
async def health(request: Request, response: Response) -> dict[str, Any]:
    """Whether locks can be had, and if not, since when and why; asks nothing of Consul."""
    found = request.state.locker.health()
    if found.state != "ready" or found.outage_since is not None:
        response.status_code = 503  # it mends itself: this is about readiness, so nothing has to be started again
    return asdict(found)
