"""Servers that fork, as docs/servers.rst has them: real processes against an embedded agent in this one."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from consul_locker.embedded import Agent

from .behaviour.tools import WAIT, Consul, until

pytestmark = [
    pytest.mark.xdist_group("processes and signals"),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork"),
]

LOCKS = """
import json, os
from consul_locker import AlreadyLocked, LockerFactory, LockTimeout
factory = LockerFactory()
locker = factory.create("web", max_retries=None)
with locker.hold("before the fork", wait=10, timeout=10):  # without preload both workers do this
    pass

def application(environ, start_response):
    try:
        with locker.hold("report", wait=10, timeout=10) as lease:
            start_response("200 OK", [("Content-Type", "application/json")])
            return [json.dumps([os.getpid(), lease.session_id, lease.fence]).encode()]
    except (AlreadyLocked, LockTimeout) as refused:
        start_response("409 Conflict", [("Content-Type", "text/plain")])
        return [str(refused).encode()]
"""


def ask(port: int) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT)
    try:
        connection.request("GET", "/")
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        return json.loads(answer.read())
    finally:
        connection.close()


def environment(agent: Agent) -> dict[str, str]:
    """Where the agent is; 3.12 warns of a fork with threads, which is what is tried."""
    root = str(Path(__file__).parents[1])
    return {
        **os.environ, "CONSUL_HTTP_ADDR": agent.address, "PYTHONPATH": root,
        "PYTHONWARNINGS": "ignore::DeprecationWarning",
    }  # fmt: skip


@pytest.mark.parametrize("preload", [True, False], ids=["preload", "without preload"])
def test_gunicorn(tmp_path: Path, preload: bool) -> None:
    (tmp_path / "locks.py").write_text(LOCKS)
    with Agent() as agent, socket.create_server(("127.0.0.1", 0)) as server:
        consul, port = Consul(agent.address), server.getsockname()[1]
        command = [sys.executable, "-m", "gunicorn", "--workers", "2", "--bind", f"fd://{server.fileno()}"]
        process = subprocess.Popen(
            [*command, *["--preload"] * preload, "locks:application"],
            cwd=tmp_path,
            env=environment(agent),
            pass_fds=[server.fileno()],
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            sessions: dict[int, str] = {}
            fences: list[int] = []

            def both() -> bool:
                worker, session, fence = ask(port)
                fences.append(fence)
                assert sessions.setdefault(worker, session) == session
                return len(sessions) == 2

            until(both)
            assert process.pid not in sessions
            assert len(set(sessions.values())) == 2
            assert fences == sorted(set(fences))
            found = {session["ID"] for session in consul.sessions("web")}
            assert len(found - set(sessions.values())) == preload  # the parent's
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=WAIT)
            assert process.returncode == 0, said
        finally:
            process.kill()
            process.communicate()
        assert not consul.sessions("web"), said


WORK = """
import multiprocessing
from consul_locker import LockerFactory

locker = LockerFactory().create("pool")

def work(number):
    with locker.hold("one", wait=10, timeout=10) as lease:
        return number * number, lease.session_id

if __name__ == "__main__":
    with locker.hold("parent", timeout=10) as mine:
        with multiprocessing.get_context("fork").Pool(2) as pool:
            done = pool.map(work, range(20), chunksize=1)
            pool.close()
            pool.join()
        assert [square for square, _ in done] == [number * number for number in range(20)]
        assert mine.session_id not in {session for _, session in done}
        mine.check()
"""


def test_multiprocessing(tmp_path: Path) -> None:
    (tmp_path / "work.py").write_text(WORK)
    with Agent() as agent:
        done = subprocess.run(
            [sys.executable, "work.py"],
            cwd=tmp_path,
            env=environment(agent),
            capture_output=True,
            text=True,
            timeout=WAIT,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert not Consul(agent.address).sessions("pool")
