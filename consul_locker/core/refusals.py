"""Which failures of a session time alone does not mend, and what is known of a session's node."""

from __future__ import annotations

from ..config.options import LockerOptions
from ..errors import AccessDenied, ConsulLockerError, ConsulUnavailable

__all__ = ["lasting", "needs_node", "no_server"]

#: Consul's words for a right that the token lacks (measured, alone up to 1.8.7, later with the right behind them). Its
#: other 403, "ACL not found", may pass: a new token takes a while to reach every server.
NO_RIGHT = "Permission denied"


def lasting(options: LockerOptions, error: ConsulLockerError) -> bool:
    """Whether a session was refused for what stays until somebody mends it: an option, Consul, or the token's rights.

    What an option names can be unknown for good. The agent's own node and its serfHealth, which Consul puts in where no
    option names any, are unknown for the moment in which the agent has just started.
    """
    if isinstance(error, AccessDenied):
        return NO_RIGHT in error.detail
    if not isinstance(error, ConsulUnavailable):
        return False
    if error.option == "node":
        return options.node is not None or options.dc is not None
    if error.option == "checks":
        return bool(options.checks)
    return error.option is not None


def needs_node(options: LockerOptions, error: ConsulLockerError) -> str | None:
    """The datacenter, when it is another one and the session was refused for want of a node there; else None."""
    unknown = isinstance(error, ConsulUnavailable) and error.option == "node"
    return options.dc if unknown and options.node is None else None


def no_server(dc: str) -> ConsulUnavailable:
    """What is told when a datacenter shows no server."""
    return ConsulUnavailable(
        f"look-up of a datacenter's servers: the catalog of {dc!r} shows none; give the token service:read for "
        f"'consul' and node:read there, or name a node of that datacenter with the option 'node'",
        operation="look-up of a datacenter's servers",
        option="node",
    )
