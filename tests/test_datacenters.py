"""Locks of another datacenter: two real servers joined over WAN, and a client agent of the first."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from consul_locker import AlreadyLocked, ConsulUnavailable
from consul_locker.client.encode import Encoder, HttpResponse
from consul_locker.config.options import ClientOptions
from consul_locker.core.requests import (
    Committed,
    CreateSession,
    DestroySession,
    Done,
    FindNode,
    Gone,
    KeysRead,
    NamesRead,
    NodesFound,
    Operation,
    Outcome,
    PollKey,
    RawTransact,
    ReadKey,
    ReadPrefix,
    ReadSession,
    Renewed,
    RenewSession,
    Request,
    SessionCreated,
    SessionRead,
    SessionsRead,
    Transact,
    Verb,
    WatchKey,
    WatchNames,
    WatchNode,
    WatchSession,
)
from consul_locker.embedded import Agent

from .behaviour.tools import WAIT, Consul, Gate, until
from .joined import Joined, joined

#: One worker has them all, so that the agents are started once.
pytestmark = pytest.mark.xdist_group("datacenters")

#: What an agent that passes requests on says of sessions that another refuses, and the option that is about it.
UNKNOWN = [
    ({"node": "nobody"}, "node", "Missing node registration"),
    ({"node": "server-2", "checks": ["nothing"]}, "checks", "Missing check 'nothing' registration"),
    ({"checks": ["nothing"]}, "checks", "Missing check 'nothing' registration"),  # of the server that was looked up
]


@pytest.fixture(scope="module")
def servers(consul_binary: str) -> Iterator[Joined]:
    with joined(consul_binary) as servers:
        yield servers


@pytest.fixture
def gate(servers: Joined) -> Iterator[Gate]:
    """Before the server of dc1."""
    with Gate(servers.dc1) as gate:
        yield gate


@pytest.fixture
def far(face: Any, gate: Gate) -> Iterator[Any]:
    """A factory for dc2 that asks the server of dc1."""
    with face.factory(gate.address, dc="dc2") as factory:
        yield factory


@pytest.fixture
def near(face: Any, servers: Joined, name: str) -> Iterator[Any]:
    """A Locker that asks the server of dc2 itself."""
    with face.factory(servers.dc2) as factory:
        yield factory.create(name)


def test_locks_exclude_those_of_the_datacenter_itself(
    far: Any, near: Any, gate: Gate, servers: Joined, name: str
) -> None:
    locker = far.create(name, ttl=10.0)
    lease = locker.lock("a")
    assert locker.session_info().node == "server-2"
    key = Consul(servers.dc2).key(f"{name}/a/lock")
    assert key is not None
    assert (key.session, key.fence) == (lease.session_id, lease.fence)
    assert Consul(servers.dc1).keys(name) == {}
    with pytest.raises(AlreadyLocked) as refused:
        near.lock("a")
    assert refused.value.holder.session_id == lease.session_id
    assert locker.holder("a").session_id == lease.session_id

    waiting = near.submit_lock("a", wait=WAIT)
    until(lambda: near.stats().get("denied", 0) >= 2)
    assert locker.release("a")
    taken = waiting.result(WAIT)
    assert taken.fence > lease.fence

    waiting = locker.submit_lock("a", wait=WAIT)
    until(lambda: gate.under_way("GET /v1/kv/"))  # it is watched from here
    assert near.release("a")
    assert waiting.result(WAIT).fence > taken.fence

    assert locker.guarded(waiting.result(), [{"KV": {"Verb": "set", "Key": f"{name}-data", "Value": "eA=="}}])
    assert Consul(servers.dc2).key(f"{name}-data") is not None
    until(lambda: locker.stats().get("renewals"))
    session = locker.session_id
    locker.stop()
    assert Consul(servers.dc2).sessions(name) == [
        one for one in Consul(servers.dc2).sessions(name) if one["ID"] != session
    ]
    queries = [parse_qsl(urlsplit(seen.path).query, keep_blank_values=True) for seen in gate.seen]
    assert queries
    assert all([value for option, value in query if option == "dc"] == ["dc2"] for query in queries)


def test_a_session_destroyed_there(far: Any, gate: Gate, servers: Joined, name: str) -> None:
    locker = far.create(name, ttl=86_400.0)  # its renewals are due in hours
    lease = locker.lock("a")
    until(lambda: gate.under_way("GET /v1/session/"))
    Consul(servers.dc2).destroy(lease.session_id)
    assert lease.wait_lost(WAIT) == "session destroyed"
    assert locker.lock("a").fence > lease.fence
    assert gate.count("GET /v1/catalog/service/consul") == 1  # the node is remembered


def test_the_node_is_the_one_that_is_named(far: Any, gate: Gate, servers: Joined, name: str) -> None:
    locker = far.create(name, node="server-2", ttl=None)
    assert locker.lock("a").valid
    info = locker.session_info()
    assert (info.node, info.checks) == ("server-2", ("serfHealth",))
    assert gate.count("PUT /v1/session/create") == 1
    assert gate.count("GET /v1/catalog/") == 0


def test_the_agents_own_datacenter_may_be_named(face: Any, servers: Joined, name: str) -> None:
    with Gate(servers.client) as gate, face.factory(gate.address, dc="dc1") as factory:
        locker = factory.create(name)
        assert locker.lock("a").valid
        assert locker.session_info().node == "client-1"  # as without it: no server's
        assert gate.count("GET /v1/catalog/") == 0


@pytest.mark.parametrize(("options", "option", "said"), UNKNOWN, ids=lambda one: str(one))
def test_what_is_not_known_there_is_told_at_once(
    far: Any, servers: Joined, name: str, options: dict[str, Any], option: str, said: str
) -> None:
    with pytest.raises(ConsulUnavailable, match=f"option '{option}' .*rpc error making call: {said}") as error:
        far.create(name, **options).lock("a", wait=None)
    assert error.value.option == option


def test_a_datacenter_that_nobody_knows(face: Any, servers: Joined, name: str) -> None:
    for address in (servers.dc1, servers.client):
        with (
            face.factory(address, dc="dc3") as factory,
            pytest.raises(ConsulUnavailable, match=r"option 'dc' .*No path to datacenter") as error,
        ):
            factory.create(name).lock("a", wait=None)
        assert error.value.option == "dc"


def test_through_a_client_agent(face: Any, servers: Joined, near: Any, name: str) -> None:
    """That of 1.8.7 does it; newer ones refuse, and say that a server must be asked."""
    _, about = Consul(servers.client).call("GET", "/v1/agent/self")
    assert about["Config"]["Server"] is False
    with face.factory(servers.client, dc="dc2") as factory:
        locker = factory.create(name)
        if tuple(map(int, about["Config"]["Version"].split(".")[:2])) > (1, 8):
            with pytest.raises(ConsulUnavailable, match="option 'host' the address of a server") as error:
                locker.lock("a")
            assert error.value.option == "host"
            return
        assert locker.lock("a").valid
        with pytest.raises(AlreadyLocked):
            near.lock("a")


def test_a_client_agent_that_makes_no_such_session(face: Any, name: str) -> None:
    """Its words, as newer Consuls say them, from the embedded agent."""
    said = "cross datacenter lock must be created at server agent"
    with Agent() as agent, face.factory(agent.address) as factory:
        agent.fail_next(body=said, path="/v1/session/create")
        locker = factory.create(name)
        assert locker.wait_for_state("paused", WAIT)
        with pytest.raises(ConsulUnavailable, match=f"'host' the address of a server, or of .*: {said}"):
            locker.lock("a")
        locker.start()
        assert locker.lock("a").valid


def test_every_request_goes_to_the_datacenter(servers: Joined, name: str) -> None:
    encoder = Encoder(ClientOptions.build(dc="dc2", environ={}))
    host, _, port = servers.dc1.rpartition(":")
    asked: set[type[Request]] = set()

    def ask(request: Request) -> Outcome:
        asked.add(type(request))
        found = encoder.encode(request)
        assert dict(found.params)["dc"] == "dc2"
        connection = http.client.HTTPConnection(host, int(port), timeout=WAIT)
        try:
            connection.request(found.method, found.target, found.body, dict(found.headers))
            answer = connection.getresponse()
            headers = {name.lower(): value for name, value in answer.getheaders()}
            return found.decode(HttpResponse(answer.status, headers, answer.read()))
        finally:
            connection.close()

    key = f"{name}/a/lock"
    assert ask(FindNode(1, "dc2")) == NodesFound(("server-2",))
    created = ask(CreateSession(1, name, 10.0, 0.0, "release", (), "server-2"))
    assert isinstance(created, SessionCreated)
    session = created.session_id
    assert ask(RenewSession(1, session)) == Renewed(10.0)
    for read in (ReadSession(1, session), WatchSession(1, session, 0, 1.0)):
        outcome = ask(read)
        assert isinstance(outcome, SessionRead)
        assert outcome.session is not None
        assert outcome.session.node == "server-2"
    everybody = ask(WatchNode(1, "server-2", 0, 1.0))
    assert isinstance(everybody, SessionsRead)
    assert session in everybody.sessions
    locked = ask(Transact(1, (Operation(Verb.LOCK, key, b"{}", session=session),)))
    assert isinstance(locked, Committed)
    for look in (
        Transact(1, (Operation(Verb.GET, key),), consistent=True),
        RawTransact(1, ({"KV": {"Verb": "get", "Key": key}},)),
        ReadKey(1, key),
        WatchKey(1, key, 0, 1.0),
        PollKey(1, key, 0, 1.0),
    ):
        outcome = ask(look)
        assert isinstance(outcome, (Committed, KeysRead))
        assert [(entry.key, entry.session) for entry in outcome.entries] == [(key, session)]
    for names in (ReadPrefix(1, f"{name}/"), WatchNames(1, f"{name}/", 0, 1.0)):
        outcome = ask(names)
        assert isinstance(outcome, NamesRead)
        assert outcome.names == (key,)
    assert ask(DestroySession(1, session)) == Done()
    assert ask(RenewSession(1, session)) == Gone()
    assert asked == set(encoder._encoders)
    assert Consul(servers.dc1).keys(name) == {}
