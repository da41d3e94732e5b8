"""A real agent with ACLs, and an operator who narrows a policy for some seconds: no session that lives is given up."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any

import pytest

from consul_locker import LockerFactory

from ..behaviour.tools import until
from ..real_consul import RealConsul, version_of
from .test_restarts import renewed_since

pytestmark = [pytest.mark.real, pytest.mark.slow]

#: The agent's first token: a secret of this test's own.
FIRST = "11111111-2222-3333-4444-555555555555"
WIDE = 'key_prefix "" { policy = "write" } session_prefix "" { policy = "write" }'
NARROW = 'key_prefix "" { policy = "write" } session_prefix "" { policy = "deny" }'


class Operator:
    """Who has the first token of an agent."""

    def __init__(self, agent: RealConsul) -> None:
        self._agent = agent

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The answer, or None for one that is no success."""
        connection = http.client.HTTPConnection(self._agent.address, timeout=30)
        try:
            content = None if body is None else json.dumps(body)
            connection.request(method, path, content, {"X-Consul-Token": FIRST})
            answer = connection.getresponse()
            text = answer.read()
            return json.loads(text) if answer.status == 200 else None
        finally:
            connection.close()


@pytest.fixture
def agent(consul_binary: str) -> Iterator[RealConsul]:
    """An agent with ACLs; without a token everything is allowed."""
    major, minor = version_of(consul_binary).split(".")[:2]
    name = "initial_management" if (int(major), int(minor)) >= (1, 11) else "master"
    acl = f'acl {{ enabled = true default_policy = "allow" tokens {{ {name} = "{FIRST}" }} }}'
    with RealConsul(consul_binary, extra=("-hcl", acl)) as agent:
        yield agent


def test_a_policy_narrowed_for_seconds_loses_nothing(agent: RealConsul) -> None:
    operator = Operator(agent)
    # For a moment after the start of an agent its ACLs are not there yet.
    policy = until(lambda: operator.ask("PUT", "/v1/acl/policy", {"Name": "lockers", "Rules": WIDE}))
    token = operator.ask("PUT", "/v1/acl/token", {"Policies": [{"Name": "lockers"}]})["SecretID"]

    def rules(text: str) -> None:
        assert operator.ask("PUT", f"/v1/acl/policy/{policy['ID']}", {"Name": "lockers", "Rules": text})

    with LockerFactory(agent.address, token=token) as factory:
        lockers = [factory.create(f"narrowed-{number}", ttl=None if number % 2 else 15.0) for number in range(8)]
        leases = [locker.lock("a", timeout=60) for locker in lockers]
        rules(NARROW)
        assert operator.ask("PUT", "/v1/session/create", {"Name": "wakes the watches"})
        until(lambda: all(locker.stats().get("renewals_failed", 0) > 1 for locker in lockers))
        rules(WIDE)
        renewals = [locker.stats().get("renewals", 0) for locker in lockers]
        until(lambda: renewed_since(lockers, renewals))
        assert all(lease.valid for lease in leases)
        alive = {session["ID"] for session in operator.ask("GET", "/v1/session/list?consistent")}
        assert {lease.session_id for lease in leases} <= alive
