"""What is at the address: a gateway with a path, another server than Consul, and an open Consul that is asked for what
only Enterprise has.
"""

from __future__ import annotations

from typing import Any

import pytest

from consul_locker import AlreadyLocked, ConfigurationError, ConsulUnavailable, LockerFactory

from .behaviour.tools import WAIT
from .client.servers import Script, Server, answering, read_request
from .gateway import Gateway

# ------------------------------------------------------------------------------------------------- a path


def test_an_address_with_a_path(face: Any, agent: Any, name: str) -> None:
    with (
        Gateway(agent.address) as gateway,
        face.factory(gateway.address) as factory,
        face.factory(agent.address) as plain,
    ):
        ours, theirs = factory.create(name), plain.create(name)
        lease = ours.lock("a b/ü")
        with pytest.raises(AlreadyLocked):
            theirs.lock("a b/ü")
        assert ours.holder("a b/ü").session_id == lease.session_id
        waiting = theirs.submit_lock("a b/ü", wait=None)
        assert ours.release("a b/ü")
        assert waiting.result(WAIT).valid
        assert gateway.refused == []


def test_the_path_was_forgotten(face: Any, agent: Any, name: str) -> None:
    with Gateway(agent.address) as gateway:
        address = gateway.address.removesuffix("/consul")
        with face.factory(address) as factory, pytest.raises(ConsulUnavailable, match="address Consul's") as told:
            factory.create(name).lock("a", wait=None)
        assert told.value.option == "host"
        assert gateway.refused[0] == "/v1/session/create"


# --------------------------------------------------------------------------------------- another server


def saying(answer: bytes) -> Script:
    """A script that says the same to every request."""

    def script(sock: Any) -> None:
        while read_request(sock):
            sock.sendall(answer)

    return script


HTML = b"<!DOCTYPE html><html>Welcome</html>"


@pytest.mark.parametrize(
    "script",
    [
        saying(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(HTML), HTML)),
        saying(b"HTTP/1.1 302 Found\r\nLocation: /login\r\nContent-Length: 0\r\n\r\n"),
        answering(b"HTTP/1.0 501 Unsupported method ('PUT')\r\n\r\n"),
        answering(b"SSH-2.0-OpenSSH_9.2\r\n"),
    ],
    ids=["page", "login", "method", "ssh"],
)
def test_a_server_that_is_not_consul(face: Any, name: str, script: Script) -> None:
    with Server(script) as server, face.factory(f"127.0.0.1:{server.port}") as factory:
        locker = factory.create(name)
        calls = [locker.submit_lock("a"), locker.submit_lock("b", wait=None)]
        for call in calls:
            with pytest.raises(ConsulUnavailable, match="is this address Consul's") as told:
                call.result(WAIT)
            assert told.value.option == "host"
            assert not told.value.outage


# ------------------------------------------------------------------------------------- Consul Enterprise


def test_a_namespace_of_an_open_consul(face: Any, agent: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONSUL_NAMESPACE", "team")
    for options in ({}, {"namespace": "default"}):
        with face.factory(agent.address, **options) as factory:
            locker = factory.create(name)
            with pytest.raises(ConsulUnavailable, match="not Enterprise, and takes no namespace") as told:
                locker.lock("a", wait=None)
            assert told.value.option == "namespace"


def test_a_partition_of_an_open_consul(face: Any, agent: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is ignored (measured): there is one only."""
    monkeypatch.setenv("CONSUL_PARTITION", "team")
    with face.factory(agent.address) as factory:
        locker = factory.create(name)
        assert locker.lock("a").valid
        assert locker.holder("a").session_id == locker.session_id


def test_names_that_cannot_be_meant() -> None:
    for option in ("namespace", "partition"):
        with pytest.raises(ConfigurationError, match=f"{option}=''"):
            LockerFactory(**{option: ""})  # type: ignore[arg-type]
