"""Lasting refusals of a session, which time alone does not end; and the node of a session."""

from __future__ import annotations

from ..config.options import LockerOptions
from ..errors import AccessDenied, ConsulLockerError, ConsulUnavailable

__all__ = ["denied", "lasting", "needs_node", "no_server"]

#: Consul's words for a right that the token lacks (measured, alone up to 1.8.7, later with the right behind them). Its
#: other 403, "ACL not found", may pass: a new token takes a while to reach every server.
NO_RIGHT = "Permission denied"


def lasting(options: LockerOptions, error: ConsulLockerError) -> bool:
    """Whether a session was refused for a lasting reason: an option, Consul's configuration, or the token's rights.

    A node or check that an option names may never exist. Without the option Consul uses the agent's own node and its
    serfHealth; these are unknown only for a moment, when the agent has just started.
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
    """The datacenter whose servers to look up, when the session was refused for lack of a node there; else None."""
    unknown = isinstance(error, ConsulUnavailable) and error.option == "node"
    return options.dc if unknown and options.node is None else None


def denied(options: LockerOptions, operation: str, what: str, on: str, right: str = "key:write") -> AccessDenied:
    """The error when Consul refuses an operation of a transaction for want of a right.

    Args:
        options: the Locker's.
        operation: what was asked, in words for the message.
        what: Consul's words.
        on: the key, or the beginning of keys with its slash.
        right: which right it is, unless Consul's words say so.
    """
    return AccessDenied(operation, 403, what, right=right, on=on, token_source=options.token_source)


def no_server(dc: str) -> ConsulUnavailable:
    """The error when a datacenter shows no server."""
    return ConsulUnavailable(
        f"look-up of a datacenter's servers: the catalog of {dc!r} shows none; give the token service:read for "
        f"'consul' and node:read there, or name a node of that datacenter with the option 'node'",
        operation="look-up of a datacenter's servers",
        option="node",
    )
