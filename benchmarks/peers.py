"""The same with what others use to lock, each as its users use it. What is not installed is `Missing`, by its name."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from benchmarks.bare import place_of, session_at
from benchmarks.measuring import (
    PATIENCE,
    Figures,
    Lock,
    Missing,
    Setting,
    fresh_name,
    on_loop,
    rate_of_tasks,
    rate_of_threads,
)
from benchmarks.servers import plain_client

HERE = Path(__file__).resolve().parent

#: Where ``npm install --prefix`` may have put Node's packages, beside NODE_PATH.
NODE_MODULES = HERE.parent / ".ci" / "cache" / "node" / "node_modules"

#: The exit status of node_locks.js without the package.
NO_PACKAGE = 3

#: What each lock has as its value, about as long as ours.
VALUE = '{"pid": 1, "host": "vm", "name": "bench"}'

#: Connections to Redis, at most: redis-py's own limit.
MOST_CONNECTIONS = 100

#: How long a lock in Redis lives, in seconds, as a session does.
TTL = 15.0


def python_consul(setting: Setting, callers: int) -> Figures:
    """python-consul2's own client: one session for all threads, a client for each, which is the faster of its uses."""

    def lock_with(client: Any) -> Lock:
        def lock(id: str) -> None:
            if client.kv.put(f"{name}/{id}/lock", VALUE, acquire=session) is not True:
                raise RuntimeError(f"{id} was not granted")

        return lock

    with session_at(setting.url) as (name, session):
        return rate_of_threads([lock_with(plain_client(setting.url)) for _ in range(callers)], setting.seconds)


def node(setting: Setting, callers: int) -> Figures:
    """Node's package consul with connections that are kept; `callers` promises at a time."""
    program = shutil.which("node")
    if program is None:
        raise Missing("node (Node.js), and its package consul")
    paths = os.pathsep.join(filter(None, (os.environ.get("NODE_PATH"), str(NODE_MODULES))))
    environment = {**os.environ, "NODE_PATH": paths}

    host, port = place_of(setting.url)
    with session_at(setting.url) as (name, session):
        told = {"host": host, "port": port, "name": name, "session": session, "value": VALUE}
        told |= {"callers": callers, "seconds": setting.seconds}
        command = [program, str(HERE / "node_locks.js"), json.dumps(told)]
        said = subprocess.run(command, env=environment, timeout=PATIENCE, capture_output=True, text=True, check=False)
    if said.returncode == NO_PACKAGE:
        raise Missing("Node's package consul (npm install --prefix .ci/cache/node consul)")
    if said.returncode:
        raise RuntimeError(f"node_locks.js says {said.stderr!r}")
    return {"rate": float(json.loads(said.stdout)["rate"])}


def wrk(setting: Setting, callers: int) -> Figures:
    """wrk, a load generator in C: one PUT for each lock, a connection for each caller; whole seconds, at least one."""
    program = shutil.which("wrk")
    if program is None:
        raise Missing("wrk (Debian: apt-get install wrk)")

    seconds = max(1, round(setting.seconds))
    command = [program, "-t1", f"-c{callers}", f"-d{seconds}s", "-s", str(HERE / "wrk_locks.lua"), setting.url]
    with session_at(setting.url) as (name, session):
        environment = {**os.environ, "BENCH_NAME": name, "BENCH_SESSION": session, "BENCH_VALUE": VALUE}
        said = subprocess.check_output(command, env=environment, timeout=PATIENCE, text=True)
    found = re.search(r"Requests/sec: +([\d.]+)", said)
    if found is None or "Non-2xx" in said:
        raise RuntimeError(f"wrk says {said!r}")
    return {"rate": float(found[1])}


def redis_module(setting: Setting) -> tuple[Any, int]:
    """redis-py, and the port of the Redis."""
    try:
        import redis
        import redis.asyncio
    except ImportError:
        raise Missing("redis-py (pip install redis)") from None
    if setting.redis is None:
        raise Missing("redis-server (Debian: apt-get install redis-server)")
    return redis, setting.redis


def redis_threads(setting: Setting, callers: int) -> Figures:
    """redis-py's Lock by threads: one client for all, which has a pool of connections."""
    redis, port = redis_module(setting)
    name = fresh_name()
    with redis.Redis(port=port) as client:

        def lock(id: str) -> None:
            if not client.lock(f"{name}/{id}", timeout=TTL, thread_local=False).acquire(blocking=False):
                raise RuntimeError(f"{id} was not granted")

        return rate_of_threads([lock] * callers, setting.seconds)


def redis_tasks(setting: Setting, callers: int) -> Figures:
    """redis-py's Lock by tasks."""
    redis, port = redis_module(setting)
    name = fresh_name()

    async def main() -> Figures:
        most = min(callers, MOST_CONNECTIONS)
        pool = redis.asyncio.BlockingConnectionPool(port=port, max_connections=most, timeout=None)
        async with redis.asyncio.Redis(connection_pool=pool) as client:

            async def lock(id: str) -> None:
                if not await client.lock(f"{name}/{id}", timeout=TTL, thread_local=False).acquire(blocking=False):
                    raise RuntimeError(f"{id} was not granted")

            return await rate_of_tasks(lock, callers, setting.seconds)

    return on_loop(False, main)
