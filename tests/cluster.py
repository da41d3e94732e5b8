"""Three servers of real Consul on loopback, with their data on disk: one can be killed, and started again."""

from __future__ import annotations

import http.client
import json
import shutil
import time
from types import TracebackType

from .real_consul import LEADER_PATIENCE, RealConsul, free_ports

__all__ = ["Cluster"]

#: How often a leader is asked for, in seconds.
_POLL = 0.05


class _Member(RealConsul):
    """One server of several. It is not asked for a leader when it starts: it has none without the others."""

    def __init__(self, binary: str, node: str, ports: list[int], lans: list[int], extra: tuple[str, ...]) -> None:
        joins = [word for lan in lans for word in ("-retry-join", f"127.0.0.1:{lan}")]
        super().__init__(binary, data_dir=True, extra=("-node", node, "-retry-interval", "1s", *joins, *extra))
        self._servers = ("-server", "-bootstrap-expect", str(len(lans)))
        self._ports = ports
        self.port = ports[0]

    def _run(self) -> None:
        self._launch()

    def start(self) -> RealConsul:
        self._launch()
        return self

    @property
    def raft(self) -> str:
        """Its address among the servers, as ``/v1/status/leader`` says it."""
        return f"127.0.0.1:{self._ports[1]}"

    def remove(self) -> None:
        """End it, with its data."""
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)


class Cluster:
    """A context manager: inside, the servers run and have a leader.

    Args:
        binary: the path of Consul.
        count: how many servers.
        extra: more arguments for each ``consul agent``.
    """

    def __init__(self, binary: str, count: int = 3, extra: tuple[str, ...] = ()) -> None:
        ports = free_ports(4 * count)
        each = [ports[4 * number : 4 * number + 4] for number in range(count)]
        lans = [own[2] for own in each]
        self.members = [_Member(binary, f"server-{number}", own, lans, extra) for number, own in enumerate(each)]

    @property
    def addresses(self) -> list[str]:
        """Where their HTTP APIs answer."""
        return [member.address for member in self.members]

    def leader(self) -> _Member | None:
        """The server that a majority of those that answer says is the leader; None while there is none."""
        says = [_leader_by(member.address) for member in self.members]
        for member in self.members:
            if says.count(member.raft) * 2 > len(self.members):
                return member
        return None

    def wait_for_leader(self) -> _Member:
        """Wait until there is one.

        Raises:
            RuntimeError: there was none in time.
        """
        deadline = time.monotonic() + LEADER_PATIENCE
        while (leader := self.leader()) is None:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{len(self.members)} servers had no leader within {LEADER_PATIENCE:g} s")
            time.sleep(_POLL)
        return leader

    def __enter__(self) -> Cluster:
        for member in self.members:
            member.start()
        try:
            self.wait_for_leader()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for member in self.members:
            member.remove()


def _leader_by(address: str) -> str:
    """Who is the leader, as one server says; empty when it does not answer, or knows none."""
    host, _, port = address.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=1.0)
    try:
        connection.request("GET", "/v1/status/leader")
        answer = connection.getresponse()
        return str(json.loads(answer.read())) if answer.status == 200 else ""
    except (OSError, http.client.HTTPException, ValueError):
        return ""
    finally:
        connection.close()
