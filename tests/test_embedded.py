"""The embedded agent's own features: its clock, its faults, its comings and goings, its command.

That it answers like a Consul is the business of tests/contract/.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from consul_locker.embedded import Agent, ManualClock, __main__
from consul_locker.embedded.golang import Invalid, duration, quote
from consul_locker.embedded.records import Rejected
from consul_locker.embedded.store import Store
from consul_locker.errors import ConfigurationError

from .contract.compare import Client

#: How long anything may take that must happen, in seconds.
PATIENCE = 30.0

#: How long something is given to happen that must not, in seconds.
QUIET = 0.1


class Background:
    """A call in a thread of its own."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self.outcome: list[Any] = []
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)
        self._thread.start()

    def _run(self, work: Callable[[], Any]) -> None:
        try:
            self.outcome.append(work())
        except Exception as error:
            self.outcome.append(error)

    def result(self, patience: float = PATIENCE) -> Any:
        """What it returned or raised; None while it is not over."""
        self._thread.join(patience)
        return self.outcome[0] if self.outcome else None


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(start=1000.0)


@pytest.fixture
def agent(clock: ManualClock) -> Iterator[Agent]:
    """An agent on a clock of the test's own."""
    with Agent(clock=clock) as found:
        yield found


@pytest.fixture
def client(agent: Agent) -> Iterator[Client]:
    found = Client(agent.address)
    yield found
    found.close()


def new_session(client: Client, **fields: Any) -> str:
    id = client.json("PUT", "/v1/session/create", {"Checks": [], "LockDelay": "0s", **fields})["ID"]
    assert isinstance(id, str)
    return id


def waiting(agent: Agent, path: str) -> Background:
    """A blocking query, in the agent by the time this returns."""
    before = sum(agent.requests.values())
    asked = Background(lambda: ask(agent.address, "GET", path))
    until(lambda: sum(agent.requests.values()) > before)
    return asked


def ask(address: str, method: str, path: str, body: bytes = b"") -> tuple[int, str, dict[str, str], bytes]:
    """One request on a connection of its own."""
    with Client(address) as client:
        return client.ask(method, path, body)


def leader(address: str) -> Any:
    return json.loads(ask(address, "GET", "/v1/status/leader")[3])


def until(condition: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(int(PATIENCE / 0.005)):
        if condition():
            return
        pause.wait(0.005)
    raise AssertionError("it did not happen")


def exchange(agent: Agent, data: bytes) -> bytes:
    """Send bytes as they are; returns everything up to the end of the connection."""
    with socket.create_connection((agent.host, agent.port), timeout=PATIENCE) as connection:
        connection.sendall(data)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    return received


# ----------------------------------------------------------------------------------------------- life


def test_it_has_an_address_and_forgets_everything() -> None:
    agent = Agent()
    assert "not started" in repr(agent)
    with agent:
        assert agent.address == f"127.0.0.1:{agent.port}"
        assert agent.address in repr(agent)
        assert agent.start() is agent  # runs already
        assert leader(agent.address) == agent.address
        thread = agent._thread
    assert thread is not None
    assert not thread.is_alive()
    assert "closed" in repr(agent)
    agent.close()
    with pytest.raises(RuntimeError, match="closed"):
        agent.start()
    with pytest.raises(ConnectionRefusedError):
        leader(agent.address)


def test_it_says_when_it_does_not_run() -> None:
    agent = Agent()
    for use in (lambda: agent.requests, lambda: agent.delete_key("k"), lambda: agent._served):
        with pytest.raises(RuntimeError, match="not running"):
            use()
    agent.close()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.0.0.2", "::1", "[::1]"])
def test_it_listens_on_loopback(host: str) -> None:
    with Agent(host=host) as agent:
        assert leader(agent.address) == agent.address
        if ":" in host:
            assert agent.address == f"[::1]:{agent.port}"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org", ""])
def test_it_listens_nowhere_else(host: str) -> None:
    with pytest.raises(ConfigurationError, match="loopback") as caught:
        Agent(host=host)
    assert pickle.loads(pickle.dumps(caught.value)).option == "host"


def test_a_port_that_cannot_be_had(agent: Agent) -> None:
    for port in (agent.port, 70000):
        with pytest.raises(ConfigurationError, match="cannot listen") as caught:
            Agent(port=port).start()
        assert caught.value.value == port


def test_close_ends_what_waits(clock: ManualClock) -> None:
    agent = Agent(clock=clock).start()
    client = Client(agent.address)
    client.json("PUT", "/v1/kv/a", "1")
    index = client.ask("GET", "/v1/kv/a")[2]["X-Consul-Index"]
    asked = waiting(agent, f"/v1/kv/a?index={index}")
    agent.close()
    assert isinstance(asked.result(), (OSError, http.client.HTTPException))
    clock.advance(1.0)  # nobody listens any more
    client.close()


def test_it_goes_away_and_comes_back(agent: Agent, client: Client) -> None:
    client.json("PUT", "/v1/kv/a", "1")
    index = client.ask("GET", "/v1/kv/a")[2]["X-Consul-Index"]
    session = new_session(client, TTL="10s")
    asked = waiting(agent, f"/v1/kv/a?index={index}")
    agent.stop_listening()
    agent.stop_listening()
    assert isinstance(asked.result(), (OSError, http.client.HTTPException))
    with pytest.raises(OSError):
        leader(agent.address)
    agent.advance(20.0)
    agent.listen_again()
    agent.listen_again()
    client.close()
    assert client.ask("GET", "/v1/kv/a?raw")[3] == b"1"
    assert client.json("GET", f"/v1/session/info/{session}") == []


# ---------------------------------------------------------------------------------------------- clock


def test_the_clock_moves_only_forward(clock: ManualClock) -> None:
    assert clock.now() == 1000.0
    assert clock.advance(2.5) == 1002.5
    assert clock.advance(0.0) == 1002.5
    with pytest.raises(ValueError, match="cannot go back"):
        clock.advance(-1.0)


def test_the_real_clock_cannot_be_moved() -> None:
    with Agent() as agent, pytest.raises(RuntimeError, match="ManualClock"):
        agent.advance(1.0)


def test_hours_of_ttls_in_a_moment(agent: Agent, client: Client, clock: ManualClock) -> None:
    short = new_session(client, TTL="10s", LockDelay="5s")
    renewed = new_session(client, TTL="15s")
    long = new_session(client, TTL="24h")
    assert client.json("PUT", f"/v1/kv/a?acquire={short}", "1") is True
    assert agent.advance(19.5) == clock.now()
    assert client.ask("PUT", f"/v1/session/renew/{renewed}")[0] == 200
    assert len(client.json("GET", "/v1/session/list")) == 3
    clock.advance(1.0)
    assert client.json("PUT", f"/v1/kv/a?acquire={long}", "1") is False  # its lock-delay began when the session ended
    clock.advance(4.5)
    assert client.json("PUT", f"/v1/kv/a?acquire={long}", "1") is True
    assert len(client.json("GET", "/v1/session/list")) == 2
    clock.advance(48 * 3600.0)
    assert client.json("GET", "/v1/session/list") == []


def test_what_is_due_happens_in_its_order(agent: Agent, client: Client) -> None:
    """A blocking query whose wait is over before a session ends does not see its end, in one step of the clock."""
    first = new_session(client, TTL="10s")
    second = new_session(client, TTL="20s")
    index = client.ask("GET", "/v1/session/list")[2]["X-Consul-Index"]
    before = waiting(agent, f"/v1/session/info/{first}?index={index}&wait=19s")
    after = waiting(agent, f"/v1/session/info/{first}?index={index}&wait=21s")
    default = waiting(agent, f"/v1/kv/none?index={10**6}")
    most = waiting(agent, f"/v1/kv/none?index={10**6}&wait=10h")
    agent.advance(40.0)
    assert len(json.loads(before.result()[3])) == 1
    assert json.loads(after.result()[3]) == []
    assert client.json("GET", f"/v1/session/info/{second}") == []
    assert default.result(QUIET) is None
    agent.advance(260.0)
    assert default.result()[0] == 404
    assert most.result(QUIET) is None
    agent.advance(300.0)
    assert most.result()[0] == 404


def test_on_the_real_clock_waits_end_by_themselves() -> None:
    with Agent() as agent:
        client = Client(agent.address)
        client.json("PUT", "/v1/kv/a", "1")
        new_session(client, TTL="10s")
        index = client.ask("GET", "/v1/kv/a")[2]["X-Consul-Index"]
        assert client.ask("GET", f"/v1/kv/a?index={index}&wait=20ms")[2]["X-Consul-Index"] == index
        client.close()


# --------------------------------------------------------------------------------------------- its data


def test_a_session_is_expired(agent: Agent, client: Client) -> None:
    session = new_session(client, LockDelay="10s")
    other = new_session(client)
    client.json("PUT", f"/v1/kv/a?acquire={session}", "1")
    index = client.ask("GET", "/v1/kv/a")[2]["X-Consul-Index"]
    asked = waiting(agent, f"/v1/kv/a?index={index}")
    assert agent.expire_session(session) is True
    assert "Session" not in json.loads(asked.result()[3])[0]
    assert agent.expire_session(session) is False
    assert client.json("PUT", f"/v1/kv/a?acquire={other}", "1") is False
    agent.advance(10.0)
    assert client.json("PUT", f"/v1/kv/a?acquire={other}", "1") is True
    assert agent.expire_session("x") is False
    with Agent(version="1.8") as older, pytest.raises(Rejected, match="36 characters"):
        older.expire_session("x")


def test_a_key_is_deleted(agent: Agent, client: Client) -> None:
    session = new_session(client, LockDelay="10s")
    client.json("PUT", f"/v1/kv/a?acquire={session}", "1")
    index = client.ask("GET", "/v1/kv/a")[2]["X-Consul-Index"]
    asked = waiting(agent, f"/v1/kv/a?index={index}")
    assert agent.delete_key("a") is True
    assert asked.result()[0] == 404
    assert agent.delete_key("a") is False
    assert client.json("PUT", f"/v1/kv/a?acquire={new_session(client)}", "1") is True


def test_a_session_written_in_capitals_is_the_same(client: Client) -> None:
    session = new_session(client)
    assert client.json("GET", f"/v1/session/info/{session.upper()}")[0]["ID"] == session
    assert client.json("PUT", f"/v1/kv/a?acquire={session.upper()}", "1") is True
    client.json("PUT", f"/v1/session/destroy/{session.upper()}")
    assert "Session" not in client.json("GET", "/v1/kv/a")[0]


def test_requests_are_counted(agent: Agent, client: Client) -> None:
    before = agent.requests
    for method, path in (("PUT", "/v1/kv/a"), ("GET", "/v1/kv/a?raw"), ("GET", "/v1/kv/b"), ("PUT", "/v1/txn")):
        client.ask(method, path, b"[]")
    assert dict(agent.requests - before) == {("PUT", "/v1/kv/"): 1, ("GET", "/v1/kv/"): 2, ("PUT", "/v1/txn"): 1}
    assert before == {}


# -------------------------------------------------------------------------------------------- its faults


def test_the_next_requests_fail(agent: Agent, client: Client) -> None:
    agent.fail_next(2, path="/v1/kv/", status=503, body="not now")
    agent.fail_next(path="/v1/session/")
    assert client.ask("GET", "/v1/status/leader")[0] == 200
    for _ in range(2):
        status, reason, _, body = client.ask("PUT", "/v1/kv/a", b"1")
        assert (status, reason, body) == (503, "Service Unavailable", b"not now")
    assert client.ask("PUT", "/v1/session/create")[3] == b"No cluster leader"
    assert client.ask("GET", "/v1/kv/a")[0] == 404  # the writes were not done
    agent.fail_next()
    assert client.ask("GET", "/v1/status/leader")[0] == 500


def test_a_request_fails_after_it_was_done(agent: Agent, client: Client) -> None:
    client.json("PUT", "/v1/kv/a", "1")
    index = client.ask("GET", "/v1/kv/a")[2]["X-Consul-Index"]
    asked = waiting(agent, f"/v1/kv/a?index={index}")
    agent.fail_next(after_commit=True, body="leadership lost while committing log")
    assert client.ask("PUT", "/v1/kv/a", b"2")[0] == 500
    assert asked.result()[0] == 200
    assert client.ask("GET", "/v1/kv/a?raw")[3] == b"2"


@pytest.mark.parametrize("after_commit", [False, True])
def test_a_connection_is_dropped(agent: Agent, client: Client, after_commit: bool) -> None:
    agent.fail_next(drop=True, after_commit=after_commit)
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        client.ask("PUT", "/v1/kv/a", b"1")
    assert client.ask("GET", "/v1/kv/a")[0] == (200 if after_commit else 404)


def test_a_pause_answers_nothing_and_then_everything(agent: Agent, client: Client) -> None:
    client.json("PUT", "/v1/kv/a", "1")
    index = client.ask("GET", "/v1/kv/a")[2]["X-Consul-Index"]
    session = new_session(client, TTL="10s")
    watching = waiting(agent, f"/v1/kv/a?index={index}")
    with agent.pause():
        asked = Background(lambda: ask(agent.address, "PUT", "/v1/kv/b", b"1"))
        agent.delete_key("a")
        agent.advance(20.0)
        assert asked.result(QUIET) is None
        assert watching.result(QUIET) is None
    assert asked.result()[3] == b"true"
    assert watching.result()[0] == 404
    assert client.json("GET", f"/v1/session/info/{session}") == []
    agent.pause()
    agent.resume()
    assert client.ask("GET", "/v1/kv/b")[0] == 200


def test_after_a_pause_also_those_are_served_who_gave_up(agent: Agent, client: Client) -> None:
    """As with a real agent that was stopped: a request that timed out may still be done."""
    requests = (
        b"PUT /v1/kv/late HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n1",
        b"PUT /v1/kv/dropped HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n1",
        b"GET /v1/kv/none?index=1000000 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"nonsense\r\n\r\n",
    )

    def has_parked(number: int) -> bool:
        return len(agent._served.parked) == number

    agent.fail_next(path="/v1/kv/dropped", drop=True)
    with agent.pause():
        for number, request in enumerate(requests, 1):
            with socket.create_connection((agent.host, agent.port), timeout=PATIENCE) as connection:
                connection.sendall(request)
                until(partial(has_parked, number))
        until(lambda: not agent._served.connections)
    assert client.ask("GET", "/v1/kv/late?raw")[3] == b"1"
    assert client.ask("GET", "/v1/kv/dropped")[0] == 404
    assert agent.requests["GET", "/v1/kv/"] == 3
    assert agent._served._waits == {}


def test_a_client_that_leaves_is_forgotten(agent: Agent) -> None:
    with socket.create_connection((agent.host, agent.port), timeout=PATIENCE) as connection:
        connection.sendall(b"GET /v1/kv/none?index=1000000 HTTP/1.1\r\nHost: x\r\n\r\n")
        until(lambda: bool(agent._served._waits))
    until(lambda: not agent._served._waits and not agent._served.connections)


def test_a_query_on_a_prefix_is_woken_by_its_keys_only(agent: Agent, client: Client) -> None:
    client.json("PUT", "/v1/kv/dir/a", "1")
    index = client.ask("GET", "/v1/kv/dir?keys")[2]["X-Consul-Index"]
    with socket.create_connection((agent.host, agent.port), timeout=PATIENCE) as connection:
        connection.sendall(
            f"GET /v1/kv/dir?keys&index={index} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
        )
        until(lambda: bool(agent._served._waits))
        client.json("PUT", "/v1/kv/elsewhere", "1")
        assert agent._served._waits
        client.json("PUT", "/v1/kv/dir/b", "1")
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    assert b"dir/b" in received


# ---------------------------------------------------------------------------------------------- the wire


def test_http_as_go_speaks_it(agent: Agent) -> None:
    close = b"Connection: close\r\n\r\n"
    assert exchange(agent, b"nonsense\r\n\r\n").startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert exchange(agent, b"GET /v1/status/leader HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 400 ")  # no Host
    chunked = b"PUT /v1/kv/c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n" + close
    assert exchange(agent, chunked + b"3\r\nabc\r\n0\r\n\r\n").endswith(b"\r\n\r\ntrue")
    two = b"GET /v1/kv/c?raw HTTP/1.1\r\nHost: x\r\n\r\nGET /v1/kv/c?raw HTTP/1.1\r\nHost: x\r\n" + close
    assert exchange(agent, two).count(b"HTTP/1.1 200 OK") == 2
    old = exchange(agent, b"GET /v1/kv/c?raw HTTP/1.0\r\n\r\n")
    assert old.startswith(b"HTTP/1.1 200 OK") and old.endswith(b"abc")
    assert exchange(agent, b"GET nothing HTTP/1.1\r\nHost: x\r\n" + close).startswith(b"HTTP/1.1 400 ")


def test_it_says_continue(agent: Agent) -> None:
    with socket.create_connection((agent.host, agent.port), timeout=PATIENCE) as connection:
        connection.sendall(b"PUT /v1/kv/c HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 100 Continue\r\n")
        connection.sendall(b"1")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_request_behind_a_blocking_query_waits_its_turn(agent: Agent, client: Client) -> None:
    client.json("PUT", "/v1/kv/a", "1")
    index = client.ask("GET", "/v1/kv/a")[2]["X-Consul-Index"]
    with socket.create_connection((agent.host, agent.port), timeout=PATIENCE) as connection:
        connection.sendall(f"GET /v1/kv/a?raw&index={index} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        until(lambda: bool(agent._served._waits))
        connection.sendall(b"GET /v1/status/leader HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        client.json("PUT", "/v1/kv/a", "2")
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    first, _, second = received.partition(b"2HTTP/1.1 200 OK")
    assert first.startswith(b"HTTP/1.1 200 OK")
    assert agent.address.encode() in second


def test_what_the_embedded_agent_leaves_out(client: Client) -> None:
    node = [{"Node": {"Verb": "get", "Node": {"Node": "embedded"}}}]
    status, _, _, body = client.ask("PUT", "/v1/txn", json.dumps(node).encode())
    assert status == 501
    assert b"only KV operations" in body
    assert client.ask("GET", "/v1/catalog/nodes")[0] == 404


def test_namespaces_of_a_transaction_are_ignored(client: Client) -> None:
    operation = {"KV": {"Verb": "set", "Key": "a", "Namespace": "n"}}
    assert client.ask("PUT", "/v1/txn", json.dumps([operation]).encode())[0] == 200


def test_a_segment_that_begins_with_a_dot_is_no_detour(client: Client) -> None:
    assert client.ask("PUT", "/v1/kv/.hidden", b"1")[0] == 200
    assert client.json("GET", "/v1/kv/?keys") == [".hidden"]


def test_a_watch_follows_a_key_that_comes_and_goes(agent: Agent, client: Client) -> None:
    """Waiting for an index far ahead, it is not answered by what happens meanwhile, and not lost by it either."""
    client.json("PUT", "/v1/kv/a", "1")
    asked = waiting(agent, f"/v1/kv/a?index={10**6}&wait=60s")
    client.json("PUT", "/v1/kv/a", "2")
    agent.delete_key("a")
    client.json("PUT", "/v1/kv/a", "3")
    assert asked.result(QUIET) is None
    agent.advance(60.0)
    assert json.loads(asked.result()[3])[0]["Value"] == "Mw=="


# ------------------------------------------------------------------------------------------ pure parts


def test_durations_and_quotes_as_in_go() -> None:
    assert duration("1h2m3s4ms5us6ns") == 3723_004_005_006
    assert duration("-1.5µs") == -1500
    for text in ("", "+", "1.2.3s"):
        with pytest.raises(Invalid):
            duration(text)
    assert quote("a\U000e0001b\udcff") == '"a\\U000e0001b\\xff"'


def test_the_store_needs_nobody_to_tell_the_time_but_its_caller() -> None:
    ids = iter(["00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002"])
    store = Store(node="here", new_id=lambda: next(ids))
    first = store.create_session(0.0, ttl=10.0)
    second = store.create_session(5.0, ttl=10.0)
    assert store.next_expiry() == 20.0
    store.renew_session(first, 6.0)
    assert store.next_expiry() == 25.0
    assert store.expire(24.9) == 0
    assert store.expire(1000.0) == 2
    assert store.next_expiry() is None
    assert store.find_session(second.id) is None
    changes = store.take_changes()
    assert changes is not None
    assert changes.sessions == {first.id, second.id}
    assert store.take_changes() is None


# ---------------------------------------------------------------------------------------------- command


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
