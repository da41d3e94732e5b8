"""The command ``python -m consul_locker.embedded``, and closing."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from typing import Any

import pytest

from consul_locker.embedded import Agent, __main__

from .tools import PATIENCE, QUIET, ask


def leader(address: str) -> Any:
    return json.loads(ask(address, "GET", "/v1/status/leader")[3])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_runs_until_it_is_told_to_stop(number: signal.Signals) -> None:
    command = [sys.executable, "-m", "consul_locker.embedded", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        address = first.split("http://")[1].strip()
        try:
            assert leader(address) == address
        finally:
            process.send_signal(number)
        said = process.stdout.read()
        assert process.wait(PATIENCE) == 0
    assert "NOT a Consul" in said
    assert "has stopped" in said


@pytest.mark.xdist_group("processes and signals")
def test_the_command_in_this_process(capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    timer = threading.Timer(QUIET, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    assert __main__.main(["--port", "0"]) == 0
    timer.join()
    assert signal.getsignal(signal.SIGTERM) is before
    assert "loopback" not in capsys.readouterr().err
    assert __main__.main(["--host", "0.0.0.0"]) == 2
    assert "loopback" in capsys.readouterr().err
    assert __main__.main(["--port", "0", "--version", "1.7"]) == 2
    assert "'1.8', '1.16', '1.23'" in capsys.readouterr().err


def test_closing_waits_for_what_is_just_being_accepted() -> None:
    agent = Agent().start()

    async def accepting() -> str:
        while not agent._closed:
            await asyncio.sleep(0)
        for _ in range(100):  # rounds of the loop in which it would have been left behind
            await asyncio.sleep(0)
        return "accepted"

    assert agent._loop is not None
    late = asyncio.run_coroutine_threadsafe(accepting(), agent._loop)
    agent.close()
    assert late.result(30) == "accepted"
