"""client/dns: names that are looked up, and addresses that need no look-up."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from consul_locker.client import dns as dns_module
from consul_locker.config.options import ClientOptions
from consul_locker.errors import ConsulUnavailable

from .drivers import Make, failure, found, named
from .servers import GET, OK, PUT, SOON, Server, answering, patient, swallowing


def test_a_unix_socket(make: Make, tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with Server(patient, path=path):
        assert make(ClientOptions.build(f"unix://{path}", environ={})).send(PUT).status == 200
    error = failure(make(ClientOptions.build(f"unix://{path}.gone", environ={})), PUT)
    assert not error.sent
    assert f"unix://{path}.gone" in str(error)


def test_a_name_is_looked_up(make: Make) -> None:
    with Server(patient) as server:
        assert make(ClientOptions.build("localhost", server.port, environ={})).send(PUT).status == 200
    assert not failure(make(ClientOptions.build("no-such-host.invalid", environ={})), PUT).sent


def test_a_name_with_several_addresses(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    with Server(patient) as server, socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        dead = unused.getsockname()[1]
        monkeypatch.setattr(socket, "getaddrinfo", found(dead, server.port))
        assert make(named()).send(PUT).status == 200
        first = (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", dead, 0, 0))  # no one there, or no IPv6 at all
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [first, *found(server.port)()])
        assert make(named()).send(PUT).status == 200
        monkeypatch.setattr(socket, "getaddrinfo", found(dead, dead))
        assert isinstance(failure(make(named()), PUT).cause, ConnectionRefusedError)
        monkeypatch.setattr(socket, "getaddrinfo", found())
        assert "no addresses" in str(failure(make(named()), PUT))


def test_an_address_that_does_not_answer_leaves_time_for_the_others(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Server(patient) as server, swallowing() as port:
        monkeypatch.setattr(socket, "getaddrinfo", found(port, server.port))
        assert make(named()).send(PUT, 1.0).status == 200


def test_a_slow_look_up_is_limited_and_shared(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    go, calls = threading.Event(), []

    def slow(*args: Any, **_: Any) -> Any:
        calls.append(args)
        go.wait(SOON)
        raise socket.gaierror("nobody knows")

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    driver = make(named())
    for _ in range(2):
        error = failure(driver, PUT, 0.05)
        assert not error.sent
        assert isinstance(error.cause, TimeoutError)
        assert "the name consul.example was not resolved in time" in str(error)
    waiting = driver.start(PUT)
    assert len(calls) == 1
    (thread,) = [each for each in threading.enumerate() if each.name == "consul_locker-dns"]
    assert thread.daemon
    go.set()
    thread.join(SOON)
    for each in (waiting, driver.start(PUT)):  # the second may share what the first one asks anew
        with pytest.raises(ConsulUnavailable, match="nobody knows"):
            each.result(SOON)
    assert driver.peer.resolver._running is None


class NoThread:
    """What starts no thread, as where there are too many, or the interpreter is going down."""

    def __init__(self, **_: Any) -> None:
        pass

    def start(self) -> None:
        raise RuntimeError("can't start new thread")


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """The resolver's module cannot start a thread; the rest of the process can."""
    monkeypatch.setattr(dns_module, "threading", SimpleNamespace(Lock=threading.Lock, Thread=NoThread))


@pytest.mark.usefixtures("no_threads")
def test_addresses_need_no_thread(make: Make, tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with Server(patient) as server, Server(patient, path=path):
        assert make(server).send(PUT).status == 200
        assert make(ClientOptions.build(f"unix://{path}", environ={})).send(PUT).status == 200


@pytest.mark.usefixtures("no_threads")
def test_where_no_thread_can_be_started_a_name_is_not_looked_up(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    with Server(answering(OK)) as server:
        driver = make(ClientOptions.build("localhost", server.port, environ={}))
        error = failure(driver, PUT)
        assert not error.sent
        assert "the name localhost cannot be looked up: can't start new thread" in str(error)
        with monkeypatch.context() as again:
            again.setattr(dns_module, "threading", threading)
            assert driver.send(GET).status == 200
        assert driver.send(GET).status == 200  # over a new connection, to the address found before
        assert server.accepted == 2
