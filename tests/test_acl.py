"""Under ACLs: the policy of docs/operations.rst is enough and no more, and what is said when a right is missing."""

from __future__ import annotations

import http.client
import pathlib
import re
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from consul_locker import AccessDenied, LockerFactory, LockTimeout
from consul_locker.client.credentials import with_token
from consul_locker.client.encode import Encoder, HttpResponse
from consul_locker.config.options import ClientOptions
from consul_locker.core.requests import FindNode, NodesFound

from .acl_agent import NODE, AclConsul, documented_policy_of_another_datacenter
from .behaviour.tools import WAIT

#: One worker has them all, so that the agent is started once.
pytestmark = pytest.mark.xdist_group("acl")

#: Less than the documented policy: the right that is missing, a part of the policy, and what stands there instead.
LESS = [
    ("session:write", r'(?s)session "[^}]*}', ""),
    ("session:write", r'(session "[^}]*)"write"', r'\1"read"'),
    ("key:write", r'(?s)key_prefix "[^}]*}', ""),
    ("key:write", r'(key_prefix "[^}]*)"write"', r'\1"read"'),
    ("key:write", r"/", "-2/"),
]


@pytest.fixture(scope="module")
def agent(consul_binary: str) -> Iterator[AclConsul]:
    with AclConsul(consul_binary) as agent:
        yield agent


def less(rules: str, pattern: str, replacement: str) -> str:
    found, count = re.subn(pattern, replacement, rules)
    assert count == 1, rules
    return found


def test_the_policy_that_is_documented(face: Any, agent: AclConsul, name: str) -> None:
    with face.factory(agent.address, token=agent.token(name).secret) as factory:
        locker = factory.create(name, fair=True)
        lease = locker.lock("a", wait=None)
        assert locker.holder("a").session_id == lease.session_id == locker.session_info().id
        assert locker.session_info().node == NODE
        assert locker.release("a")
    assert agent.consul.sessions(name) == []


@pytest.mark.parametrize(("right", "pattern", "replacement"), LESS, ids=lambda one: one)
def test_there_is_nothing_in_it_that_is_not_needed(
    face: Any, agent: AclConsul, name: str, right: str, pattern: str, replacement: str
) -> None:
    token = agent.token(name)
    agent.change(token, less(token.rules, pattern, replacement))
    with face.factory(agent.address, token=token.secret) as factory:
        locker = factory.create(name)
        for _ in range(2):
            words = rf"Permission denied.*the token \(argument token\).*{right}"
            with pytest.raises(AccessDenied, match=words) as told:
                locker.lock("a", wait=None)  # nobody waits for a right
            on = NODE if right.startswith("session") else f"{name}/"
            assert told.value.right == right
            # The policy that would do is in the message. Consul of 1.8.7 names no node, newer ones do.
            assert told.value.on == on or (told.value.on is None and right.startswith("session"))
            assert token.secret not in str(told.value)
        agent.change(token, token.rules)
        assert locker.wait_for_state("ready", WAIT)  # by itself
        assert locker.lock("a").valid


def test_the_rights_of_what_is_done_in_guarded(face: Any, agent: AclConsul, name: str) -> None:
    with face.factory(agent.address, token=agent.token(name).secret) as factory:
        locker = factory.create(name)
        lease = locker.lock("a")
        with pytest.raises(AccessDenied, match=r'lacks key:write on \'other/k\': key "other/k"') as told:
            locker.guarded(lease, [{"KV": {"Verb": "set", "Key": "other/k", "Value": "eA=="}}])
        assert (told.value.right, told.value.on) == ("key:write", "other/k")
        with pytest.raises(AccessDenied, match="lacks key:read on 'other/k'"):
            locker.guarded(lease, [{"KV": {"Verb": "check-not-exists", "Key": "other/k"}}])
        assert lease.valid


@pytest.mark.parametrize("given", ["file", "variable", "none"])
def test_where_the_token_came_from(
    agent: AclConsul, name: str, given: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = agent.token(name)
    agent.change(token, less(token.rules, *LESS[0][1:]))
    file = tmp_path / "token"
    file.write_text(token.secret)
    if given == "file":
        monkeypatch.setenv("CONSUL_HTTP_TOKEN_FILE", str(file))
    if given == "variable":
        monkeypatch.setenv("CONSUL_HTTP_TOKEN", token.secret)
    told = {
        "file": f"the token (file {file}, of CONSUL_HTTP_TOKEN_FILE) lacks",
        "variable": "the token (CONSUL_HTTP_TOKEN) lacks",
        "none": "no token was given (argument token, CONSUL_HTTP_TOKEN_FILE, CONSUL_HTTP_TOKEN), and the "
        "agent's own or the anonymous one, which counts then, lacks",
    }[given]
    with LockerFactory(agent.address) as factory, pytest.raises(AccessDenied) as refused:
        factory.create(name).lock("a")
    assert f"{told} session:write on the node" in str(refused.value)
    assert token.secret not in str(refused.value)


def test_a_start_makes_the_next_attempt_at_once(face: Any, agent: AclConsul, name: str) -> None:
    token = agent.token(name)
    agent.change(token, less(token.rules, *LESS[0][1:]))
    with face.factory(agent.address, token=token.secret) as factory:
        locker = factory.create(name, retry_interval=lambda _: 3600.0)
        with pytest.raises(AccessDenied):
            locker.lock("a")
        agent.change(token, token.rules)
        locker.start()
        assert locker.lock("a").valid


def test_a_token_that_is_not_known_may_be_in_a_moment(face: Any, agent: AclConsul, name: str) -> None:
    token = agent.token(name)
    secret = str(uuid.uuid4())
    with face.factory(agent.address, token=secret) as factory:
        locker = factory.create(name)
        assert locker.wait_for_state("paused", WAIT)
        with pytest.raises(LockTimeout, match=r"ACL not found.*the token .*a new token takes a while") as late:
            locker.lock("a", timeout=0.01)
        assert isinstance(late.value.cause, AccessDenied)
        waiting = locker.submit_lock("a")
        agent.make_token(token.policy_id, secret)
        assert waiting.result(WAIT).valid


def test_the_rights_of_a_look_up(agent: AclConsul, name: str) -> None:
    """Without them the catalog shows nothing, and says nothing of it."""
    token = agent.token(name)

    def look_up() -> Any:
        found = with_token(Encoder(ClientOptions.build(environ={})).encode(FindNode(1, "dc1")), token.secret)
        connection = http.client.HTTPConnection(*agent.address.split(":"), timeout=WAIT)
        try:
            connection.request(found.method, found.target, headers=dict(found.headers))
            answer = connection.getresponse()
            headers = {name.lower(): value for name, value in answer.getheaders()}
            return found.decode(HttpResponse(answer.status, headers, answer.read()))
        finally:
            connection.close()

    assert look_up() == NodesFound(())
    agent.change(token, token.rules + documented_policy_of_another_datacenter())
    assert look_up() == NodesFound((NODE,))
