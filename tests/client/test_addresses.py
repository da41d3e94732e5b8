"""client/addresses: one of several addresses is in use, and requests go on to the next where that is safe."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Any

import pytest

from consul_locker.client.addresses import Addresses, Way
from consul_locker.config.options import ClientOptions
from consul_locker.errors import ConsulUnavailable

from .certificates import Certificates
from .drivers import Make, failure, until
from .servers import (
    GET,
    OK,
    PUT,
    SOON,
    Script,
    Server,
    answering,
    closing_at_the_second,
    gate,
    patient,
    read_request,
    silent,
    swallowing,
)


def saying(status: int, words: bytes) -> Script:
    """A script that answers whatever comes with an error."""

    def script(sock: socket.socket) -> None:
        while read_request(sock):
            length = str(len(words)).encode()
            sock.sendall(b"HTTP/1.1 %d Error\r\nContent-Length: %s\r\n\r\n%s" % (status, length, words))

    return script


LEADERLESS = [
    b"No cluster leader",
    b"rpc error making call: No cluster leader",
    b"rpc error getting client: failed to get conn: dial tcp: connect: connection refused",
    b"No known Consul servers",
]
no_leader = saying(500, LEADERLESS[0])


def closing(sock: socket.socket) -> None:
    """A script that takes a request and closes without an answer."""
    read_request(sock)


def refusing() -> str:
    """An address that refuses connections."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


def at(*targets: Server | str, **changes: Any) -> ClientOptions:
    hosts = [f"127.0.0.1:{target.port}" if isinstance(target, Server) else target for target in targets]
    return ClientOptions.build(hosts, environ={}, **changes)


# ------------------------------------------------------------------------------------------ which one is in use


def test_a_late_failure_of_one_that_is_not_in_use_moves_nothing() -> None:
    addresses = Addresses(at("h", "i", "j"))
    heard: list[str] = []
    addresses.on_move(lambda: heard.append(addresses.in_use))
    h, i, j = addresses.peers
    assert addresses.in_use == "http://h:8500"
    addresses.failed(h)
    addresses.failed(h)
    addresses.failed(j)
    assert (addresses.current, addresses.moves) == (i, 1)
    addresses.failed(i)
    addresses.failed(j)
    assert addresses.current is h
    assert heard == ["http://i:8500", "http://j:8500", "http://h:8500"]


def test_the_only_one_is_always_in_use() -> None:
    addresses = Addresses(at("h"))
    addresses.on_move(lambda: pytest.fail("moved"))
    addresses.failed(addresses.current)
    assert (addresses.in_use, addresses.moves) == ("http://h:8500", 0)


def test_a_way_goes_to_the_one_that_others_found_and_nowhere_twice() -> None:
    addresses = Addresses(at("h", "i", "j"))
    h, i, j = addresses.peers
    way = Way(addresses, PUT)
    addresses.failed(h)
    addresses.failed(i)  # another request was here already
    way.failed(ConsulUnavailable("transaction: no"), over=False)
    assert way.peer is j
    way.failed(ConsulUnavailable("transaction: no"), over=False)
    assert (way.peer, addresses.current) == (i, h)
    with pytest.raises(ConsulUnavailable):
        way.failed(ConsulUnavailable("transaction: no"), over=False)


# ------------------------------------------------------------------------------------------------ going on


def test_the_first_one_is_asked_as_long_as_it_answers(make: Make) -> None:
    with Server(patient) as first, Server(patient) as second:
        driver = make(at(first, second))
        for request in (PUT, GET, PUT):
            assert driver.send(request).status == 200
        assert (first.accepted, second.accepted) == (1, 0)


@pytest.mark.parametrize("request_", [PUT, GET])
def test_one_that_refuses_is_passed_over_at_once_and_the_next_is_kept(make: Make, request_: Any) -> None:
    with Server(patient) as server:
        driver = make(at(refusing(), refusing(), server))
        for _ in range(3):
            assert driver.send(request_).status == 200
        assert driver.peer.options.port == server.port
        assert server.accepted == 1


@pytest.mark.parametrize("words", LEADERLESS)
def test_one_without_a_leader_is_passed_over_at_once(make: Make, words: bytes) -> None:
    with Server(saying(500, words)) as first, Server(patient) as second:
        driver = make(at(first, second))
        for _ in range(3):
            assert driver.send(PUT).status == 200
        assert (first.accepted, second.accepted) == (1, 1)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (500, b"rpc error making call: EOF"),
        (500, b"leadership lost while committing log"),
        (503, b"rate limit exceeded for operation that can only be performed by the leader"),
        (429, b"rate limit exceeded"),
        (502, b"Bad Gateway"),
        (403, b"Permission denied"),
        (404, b"No cluster leader"),
    ],
)
def test_other_answers_are_answers(make: Make, status: int, words: bytes) -> None:
    """What may have been done is not sent again; a limit is there to be kept."""
    with Server(saying(status, words)) as first, Server(patient) as second:
        driver = make(at(first, second))
        assert [driver.send(PUT).status for _ in range(2)] == [status] * 2
        assert (first.accepted, second.accepted) == (1, 0)


@pytest.mark.parametrize("ends", [closing, silent])
def test_what_was_sent_is_not_sent_again_and_the_next_request_goes_elsewhere(make: Make, ends: Script) -> None:
    with Server(ends) as first, Server(patient) as second:
        driver = make(at(first, second))
        for request in (PUT, GET):
            first_asked = first.accepted
            error = failure(driver, request, 0.5)
            assert error.sent and f"127.0.0.1:{first.port}" in str(error)
            assert first.accepted == first_asked + 1
            assert second.accepted == 0
            driver.call(lambda driver=driver: _addresses(driver).failed(driver.peer))  # back to the first
        driver.call(lambda: _addresses(driver).failed(_addresses(driver).peers[0]))
        assert driver.send(PUT).status == 200
        assert second.accepted == 1


def _addresses(driver: Any) -> Addresses:
    found = getattr(driver.transport, "addresses", None) or driver.transport._addresses
    assert isinstance(found, Addresses)
    return found


def test_a_connection_that_closed_is_opened_again_at_the_same_address(make: Make) -> None:
    with Server(closing_at_the_second, patient) as first, Server(patient) as second:
        driver = make(at(first, second))
        for _ in range(2):
            assert driver.send(GET).status == 200
        assert (first.accepted, second.accepted) == (2, 0)


def test_a_server_that_went_away_costs_no_request(make: Make) -> None:
    with Server(patient) as second:
        with Server(patient) as first:
            driver = make(at(first, second))
            driver.send(PUT)
        assert driver.send(GET).status == 200
        assert driver.send(PUT).status == 200
        assert second.accepted == 1


def test_all_that_failed_is_told(make: Make) -> None:
    first, second = refusing(), refusing()
    error = failure(make(at(first, second, token="hidden-one")), PUT)
    assert not error.sent
    assert isinstance(error.cause, OSError)
    assert str(error).startswith(f"transaction: connection refused at http://{first} (")
    assert f"; connection refused at http://{second} (" in str(error)
    assert "hidden-one" not in str(error) + repr(error)


def test_one_round_and_no_more(make: Make) -> None:
    with Server(no_leader) as first, Server(no_leader) as second:
        driver = make(at(first, second))
        answer = driver.send(PUT)
        assert (answer.status, answer.body) == (500, LEADERLESS[0])
        assert (first.accepted, second.accepted) == (1, 1)
        assert failure(make(at(first, refusing())), PUT).sent is False
    with Server(no_leader) as first:
        error = failure(make(at(first, refusing())), PUT)
        assert f"transaction: no leader at http://127.0.0.1:{first.port} (status 500); connection refused" in str(error)


def test_one_that_swallows_packets_leaves_time_for_the_next(make: Make) -> None:
    with swallowing() as port, Server(patient) as server:
        driver = make(at(f"127.0.0.1:{port}", server))
        began = time.monotonic()
        assert driver.send(PUT, 2.0).status == 200
        assert 0.9 <= time.monotonic() - began <= 2.0
        assert driver.send(PUT, 0.5).status == 200  # it is not asked again


def test_time_that_is_over_ends_the_round(make: Make) -> None:
    with Server(patient) as server:
        driver = make(at(refusing(), server))
        error = failure(driver, PUT, 0.0)
        assert not error.sent
        assert server.accepted == 0
        assert driver.send(PUT).status == 200


def test_a_closed_transport_goes_nowhere(make: Make) -> None:
    with Server(silent) as first, Server(patient) as second:
        driver = make(at(first, second))
        pending = driver.start(PUT)
        until(lambda: first.accepted == 1)
        driver.call(driver.transport.close)
        with pytest.raises(ConsulUnavailable):
            pending.result(SOON)
        assert second.accepted == 0


# --------------------------------------------------------------------------------------------- connections


def test_connections_to_another_address_end(make: Make) -> None:
    opened, slow = gate()
    ended = []

    def ending(sock: socket.socket) -> None:
        slow(sock)
        ended.append(sock)

    with Server(ending) as first, Server(patient) as second:
        driver = make(at(first, second), 2)
        pending = [driver.start(PUT), driver.start(PUT)]
        until(lambda: first.accepted == 2)
        driver.call(lambda: _addresses(driver).failed(driver.peer))
        opened.set()
        assert [one.result(SOON).status for one in pending] == [200, 200]  # what is under way is not broken off
        until(lambda: len(ended) == 2)
        assert driver.send(PUT).status == 200
        assert (first.accepted, second.accepted) == (2, 1)


def test_idle_connections_to_another_address_are_not_used(make: Make) -> None:
    ended = []

    def ending(sock: socket.socket) -> None:
        patient(sock)
        ended.append(sock)

    with Server(ending) as first, Server(patient) as second:
        driver = make(at(first, second), 1)
        driver.send(PUT)
        driver.call(lambda: _addresses(driver).failed(driver.peer))
        assert driver.send(PUT).status == 200
        until(lambda: len(ended) == 1)
        assert (first.accepted, second.accepted) == (1, 1)


def test_a_lane_chooses_for_itself(make_asyncio: Make) -> None:
    with Server(answering(OK), silent) as first, Server(patient) as second:
        driver = make_asyncio(at(first, second), 4)
        lane = driver.call(driver.transport.reserve)
        driver.send(PUT)
        with pytest.raises(ConsulUnavailable):
            driver.send(PUT, 0.2, lane)
        assert driver.peer.options.port == first.port
        assert driver.send(PUT, SOON, lane, fresh=True).status == 200
        assert lane.addresses.current.options.port == second.port
        assert driver.peer.options.port == first.port


def test_one_that_stays_is_not_sent_elsewhere(make_asyncio: Make) -> None:
    with Server(patient) as server:
        driver = make_asyncio(at(refusing(), server))
        with pytest.raises(ConsulUnavailable):
            driver.send(GET, stays=True)
        assert server.accepted == 0
        assert driver.send(GET, stays=True).status == 200  # the next one is in use now
    with Server(no_leader) as first, Server(patient) as second:
        driver = make_asyncio(at(first, second))
        assert driver.send(GET, stays=True).status == 500
        assert driver.peer.options.port == second.port


# ------------------------------------------------------------------------------------------ all kinds mixed


def test_plain_tls_unix_and_ipv6_addresses_mixed(make: Make, tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    path = str(tmp_path / "socket")
    with Server(patient, path=path):
        with Server(patient, context=certificates.server("127.0.0.1")) as secure:
            with Server(patient) as plain:
                ipv6 = f"[::1]:{plain.port}"  # nobody listens there
                where = at(ipv6, plain, f"https://127.0.0.1:{secure.port}", f"unix://{path}", ca=[certificates.pem])
                driver = make(where)
                assert driver.send(PUT).status == 200
                assert driver.peer.options.address == f"http://127.0.0.1:{plain.port}"
            assert driver.send(PUT).status == 200
            assert driver.peer.options.address == f"https://127.0.0.1:{secure.port}"
        assert driver.send(GET).status == 200
        assert driver.peer.options.address == f"unix://{path}"


def test_each_server_must_have_its_own_name(make: Make, tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    with Server(patient, context=certificates.server("other.example")) as wrong:
        with Server(patient, context=certificates.server("localhost")) as right:
            hosts = [f"https://127.0.0.1:{wrong.port}", f"https://localhost:{right.port}"]
            driver = make(at(*hosts, ca=[certificates.pem]))
            assert driver.send(PUT).status == 200
            assert driver.peer.options.host == "localhost"
        error = failure(make(at(hosts[0], hosts[0].replace("127.0.0.1", "localhost"), ca=[certificates.pem])), PUT)
        assert str(error).count("has another name") == 2
    untrusted = Certificates(tmp_path)
    with Server(patient, context=untrusted.server("127.0.0.1")) as wrong:
        assert not failure(make(at(f"https://127.0.0.1:{wrong.port}", refusing())), PUT).sent
