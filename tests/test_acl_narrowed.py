"""A policy that is narrowed for seconds takes no session that lives (rule 1).

Without session:read Consul answers reads of sessions as if there were none, consistent ones too, and renewals with 403.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from consul_locker.runtime.watches import OWN_SESSION_WATCHES

from .acl_agent import NODE, AclConsul
from .behaviour.tools import WAIT, Ear, Gate, until

#: More than are watched one by one: the others are watched on their node, where strangers' sessions wake the query.
LOCKERS = OWN_SESSION_WATCHES + 2


@pytest.fixture(scope="module")
def agent(consul_binary: str) -> Iterator[AclConsul]:
    with AclConsul(consul_binary) as agent:
        yield agent


def test_no_session_is_given_up(face: Any, agent: AclConsul) -> None:
    name = f"test-{uuid.uuid4().hex[:12]}"
    token, consul, ear = agent.token(name), agent.consul, Ear(name)
    with Gate(agent.address) as gate, face.factory(gate.address, token=token.secret) as factory:
        lockers = [factory.create(name, ttl=10.0) for _ in range(LOCKERS)] + [factory.create(name, ttl=None)]
        leases = [locker.lock(number) for number, locker in enumerate(lockers)]
        node = f"/v1/session/node/{NODE}"
        until(lambda: gate.under_way(f"GET {node}"))

        agent.change(token, re.sub(r'(?s)session "[^}]*}', "", token.rules))
        before = len(gate.seen)

        def asked(about: str, times: int = 1) -> bool:
            """Whether so many requests about this came since then."""
            return sum(about in seen.path for seen in list(gate.seen)[before:]) >= times

        # A query that is under way keeps the rights that it began with. A stranger's session ends it; the next one,
        # without them, is answered at once, with nothing.
        status, stranger = consul.call("PUT", "/v1/session/create", f'{{"Node": "{NODE}", "Name": "stranger"}}')
        assert status == 200
        until(lambda: asked(node))
        for lease in leases:
            # a renewal that is refused, or a read that finds nothing, and what comes of it
            until(lambda lease=lease: not lease.valid or asked(lease.session_id, 2))
        assert all(lease.valid for lease in leases)

        agent.change(token, token.rules)
        renewals = [locker.stats().get("renewals", 0) for locker in lockers]
        for locker, count in zip(lockers, renewals, strict=True):
            until(lambda locker=locker, count=count: locker.stats().get("renewals", 0) > count)
        assert all(lease.valid for lease in leases)
        assert [locker.session_id for locker in lockers] == [lease.session_id for lease in leases]
        assert not ear.of("session_ended")
        assert not ear.of("lock_lost")

        for lease in leases:  # and what is really gone is told, as ever
            consul.destroy(lease.session_id)
            assert lease.wait_lost(WAIT) == "session destroyed"
        consul.destroy(stranger["ID"])
    ear.close()
