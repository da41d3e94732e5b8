"""Where an embedded agent listens: a loopback address, and a socket on it."""

from __future__ import annotations

import ipaddress
import socket

from ..errors import ConfigurationError

__all__ = ["listening_socket", "loopback"]

#: How many connections the kernel keeps for an agent that is busy, so that none is refused when many
#: clients begin at once.
_BACKLOG = 1024


def loopback(host: str) -> str:
    """The address for a host.

    Raises:
        ConfigurationError: other machines could reach it.
    """
    if host == "localhost":
        return "127.0.0.1"
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        address = None
    if address is None or not address.is_loopback:
        raise ConfigurationError("host", host, "the embedded agent has no access control and listens on loopback only")
    return str(address)


def listening_socket(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Args:
        host: a loopback address.
        port: 0 for any that is free.

    Raises:
        ConfigurationError: the port cannot be listened on.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(_BACKLOG)
    except (OSError, OverflowError) as error:
        listening.close()
        raise ConfigurationError("port", port, f"the agent cannot listen on {host}: {error}") from None
    return listening
