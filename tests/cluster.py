"""Three real Consul servers of one cluster on loopback, each of which can be killed and started again."""

from __future__ import annotations

import contextlib
from types import TracebackType

from .behaviour.tools import Consul, until
from .real_consul import RealConsul, free_ports

__all__ = ["Cluster", "Member"]

#: Elections as short as they can be; and a killed server stays a member, else the next kill loses the quorum for good.
_OPTIONS = (
    'performance { raft_multiplier = 1 } '
    'autopilot { cleanup_dead_servers = false, server_stabilization_time = "1s" }'
)  # fmt: skip


class Member(RealConsul):
    """One of the servers.

    Args:
        binary: its path.
        number: of this server.
        ports: of all servers: HTTP, server, gossip of the datacenter, gossip between datacenters.
    """

    def __init__(self, binary: str, number: int, ports: list[list[int]]) -> None:
        extra = ["-node", f"server-{number}", "-hcl", _OPTIONS]
        for _, _, lan, _ in ports:
            extra += ["-retry-join", f"127.0.0.1:{lan}"]
        super().__init__(binary, data_dir=True, servers=len(ports), extra=tuple(extra))
        self._ports = ports[number]
        self.port = self._ports[0]

    @property
    def rpc(self) -> str:
        """Its address as the others know it, and as ``/v1/status/leader`` says it."""
        return f"127.0.0.1:{self._ports[1]}"

    def launch(self) -> None:
        """Start it, without waiting for a leader."""
        self._launch()


class Cluster:
    """Three servers; a context manager that returns when all of them are healthy."""

    def __init__(self, binary: str) -> None:
        free = free_ports(12)
        ports = [free[place : place + 4] for place in (0, 4, 8)]
        self.members = [Member(binary, number, ports) for number in range(3)]

    @property
    def addresses(self) -> list[str]:
        """Of all members."""
        return [member.address for member in self.members]

    def leader(self) -> Member | None:
        """The member that another living one says is the leader."""
        for member in self.members:
            with contextlib.suppress(OSError):
                _, rpc = Consul(member.address).call("GET", "/v1/status/leader")
                for each in self.members:
                    if each.rpc == rpc:
                        return each
        return None

    def wait_until_healthy(self) -> None:
        """Wait until all members are voters that can be counted on: one more may be killed then."""
        for member in self.members:
            member.wait_for_leader()
        until(self._healthy, 60.0)

    def _healthy(self) -> bool:
        leader = self.leader()
        if leader is None:
            return False
        _, health = Consul(leader.address).call("GET", "/v1/operator/autopilot/health")
        return isinstance(health, dict) and health.get("FailureTolerance") == 1

    def __enter__(self) -> Cluster:
        for member in self.members:
            member.launch()
        try:
            self.wait_until_healthy()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        for member in self.members:
            member.kill()  # asked to end, each would wait for the others
            member.__exit__(None, None, None)
