"""Two datacenters of real Consul on loopback, joined over WAN, and a client agent of the first."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from .behaviour.tools import Consul, until
from .real_consul import RealConsul

__all__ = ["Joined", "joined"]


@dataclass(frozen=True)
class Joined:
    """Their addresses: the node server-1 of dc1, server-2 of dc2, and client-1, a client agent of dc1."""

    dc1: str
    dc2: str
    client: str


def _ports(address: str) -> tuple[int, int]:
    """The agent's ports for the gossip of its datacenter, and for that between datacenters."""
    status, about = Consul(address).call("GET", "/v1/agent/self")
    assert status == 200, about
    return about["DebugConfig"]["SerfPortLAN"], about["DebugConfig"]["SerfPortWAN"]


@contextmanager
def joined(binary: str) -> Iterator[Joined]:
    """Start them, wait until each knows the others, and end them."""
    with ExitStack() as stack:

        def start(*extra: str) -> RealConsul:
            agent = stack.enter_context(RealConsul(binary, extra=extra))
            stack.callback(agent.kill)  # asked to end, a client agent takes 5 s to leave
            return agent

        one = start("-node", "server-1", "-datacenter", "dc1")
        two = start("-node", "server-2", "-datacenter", "dc2")
        lan, _ = _ports(one.address)
        _, wan = _ports(two.address)
        folder = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        # -dev makes a server of it, unless it is told otherwise; then it wants a folder
        options = ("-node", "client-1", "-datacenter", "dc1", "-server=false", "-data-dir", folder)
        client = start(*options, "-retry-join", f"127.0.0.1:{lan}")
        assert Consul(one.address).call("PUT", f"/v1/agent/join/127.0.0.1:{wan}?wan=1")[0] == 200
        for address in (one.address, client.address):
            until(lambda address=address: Consul(address).call("GET", "/v1/status/leader?dc=dc2")[0] == 200)
        # a session of the client agent's own node needs its registration
        until(lambda: len(Consul(one.address).call("GET", "/v1/catalog/nodes")[1]) == 2)
        yield Joined(one.address, two.address, client.address)
