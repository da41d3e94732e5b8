"""The command `consul-locker demo`: it tells the whole story, and what is wrong is said in one line."""

from __future__ import annotations

import contextlib
import http.client
import re
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result

from consul_locker import AlreadyLocked, LockerFactory, cli, signals
from consul_locker.cli import demo as demo_command

#: What the demo promises (in seconds): told before anybody gets impatient.
UNDER = 10.0

COLOUR = re.compile(r"\x1b\[[0-9;]*\b3[0-7]m")

#: What must be told, in this order, on any agent: locker, state, signal.
STORY = [
    ("first", "acquiring", "input-deferred"),
    ("first", "ready", "state-changed"),
    ("first", "ready", "lock-acquired"),
    ("second", "ready", "lock-denied"),
    ("first", "ready", "released"),
    ("second", "ready", "lock-acquired"),
    ("second", "paused", "state-changed"),
    ("second", "paused", "input-deferred"),
    ("second", "acquiring", "state-changed"),
    ("second", "ready", "state-changed"),
    ("second", "ready", "lock-acquired"),
    ("second", "stopped", "state-changed"),
]


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the terminal of whoever runs the tests says must not matter, nor a Consul of his."""
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "CONSUL_HTTP_ADDR", "CONSUL_HTTP_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


def demo(*arguments: str) -> Result:
    return CliRunner().invoke(cli.command(), ["demo", *arguments])


@contextlib.contextmanager
def signals_seen(name: str) -> Iterator[threading.Event]:
    """An event that is set at the first such signal of any Locker."""
    seen = threading.Event()

    def observe(locker: Any, **facts: Any) -> None:
        seen.set()

    with signals.ALL[name].connected_to(observe):
        yield seen


def check_story(result: Result, story: list[tuple[str, str, str]]) -> None:
    assert result.exit_code == 0, result.output
    told = iter([tuple(line.split()[:3]) for line in result.output.splitlines()])
    assert all(step in told for step in story), result.output
    assert "'invoice-7' is held by the first locker, process " in result.output
    assert "requests for locks so far: 1, as before" in result.output
    assert "What to try next" in result.output


def test_the_demo_needs_no_consul_and_tells_of_an_agent_that_goes_away() -> None:
    begun = time.monotonic()
    result = demo()
    assert time.monotonic() - begun < UNDER
    away = [("second", "acquiring", "state-changed"), ("second", "paused", "state-changed")]
    check_story(result, [*STORY[:8], *away, *STORY[8:]])
    assert "The agent comes back" in result.output
    assert result.output.isascii()


def test_the_demo_on_an_agent_of_ones_own_leaves_nothing_behind(agent: Any) -> None:
    host, _, port = agent.address.rpartition(":")
    # Nobody holds an agent of one's own back, so the session may be there before the first call.
    check_story(demo("--host", host, "--port", port), STORY[1:])
    connection = http.client.HTTPConnection(agent.address, timeout=10)
    connection.request("GET", "/v1/kv/consul-locker-demo?keys")
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (404, b"")
    connection.close()


def test_the_demo_knows_a_locker_by_its_first_signal(agent: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    create = LockerFactory.create

    def slowly(self: LockerFactory, *args: Any, **options: Any) -> Any:
        with signals_seen("state_changed") as seen:  # until the first signals were told
            locker = create(self, *args, **options)
            assert seen.wait(UNDER)
        return locker

    monkeypatch.setattr(LockerFactory, "create", slowly)
    host, _, port = agent.address.rpartition(":")
    check_story(demo("--host", host, "--port", port), STORY[1:])


def test_colours_only_where_they_are_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b" not in demo().output  # no terminal
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert COLOUR.search(demo().output)
    monkeypatch.setenv("NO_COLOR", "1")
    assert not COLOUR.search(demo().output)


def test_on_a_terminal_of_80_columns_no_word_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # what makes a terminal of it
    monkeypatch.setenv("COLUMNS", "80")
    lines = re.sub(r"\x1b\[[0-9;]*m", "", demo().output).splitlines()
    assert max(map(len, lines)) <= 80
    told = " ".join(" ".join(lines).split())
    assert re.search(r"denied: 'invoice-7' is held by the first locker, process \d+ on ", told)
    assert "Calls that come before it are kept, not refused." in told


def test_an_agent_that_is_not_there_is_one_line() -> None:
    result = demo("--port", "1")  # nobody listens there
    assert result.exit_code == cli.FAILED
    (line,) = result.output.splitlines()
    assert line.startswith("Error: no Consul agent answers")
    assert "127.0.0.1:1" in line


def test_an_option_that_cannot_be_meant_is_one_line() -> None:
    result = demo("--host", "no host")
    assert result.exit_code == cli.FAILED
    (line,) = result.output.splitlines()
    assert line.startswith("Error: host='no host'")


def test_wrong_usage_is_clicks_to_tell() -> None:
    assert demo("--port", "many").exit_code == 2


def test_a_holder_who_does_not_say_who_he_is() -> None:
    assert demo_command._holder(AlreadyLocked("7", "a/7/lock")) == "'7' is held by another holder"
