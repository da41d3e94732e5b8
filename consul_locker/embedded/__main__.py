"""``python -m consul_locker.embedded``: an agent for the other programs on this machine, until it is interrupted."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Sequence
from types import FrameType

from ..embedded import Agent
from ..errors import ConfigurationError
from .versions import DEFAULT

__all__ = ["main"]

#: What it prints at its start.
NOTICE = """\
An embedded agent of consul_locker answers at http://{address}
It IS the part of Consul's HTTP API that lockers need (sessions, keys, transactions, blocking
queries), for demos, tests and development on this machine.
It is NOT a Consul: one node, no access control, no TLS, nothing is kept once it stops.
Stop it with Ctrl-C."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run an agent until SIGINT or SIGTERM.

    Args:
        arguments: those of the command line; None for the process's own.

    Returns:
        The exit code: 0 when it was stopped, 2 when it could not start.
    """
    parser = argparse.ArgumentParser(
        prog="python -m consul_locker.embedded",
        description="Run an embedded Consul agent for demos, tests and development (loopback only, nothing is kept).",
    )
    parser.add_argument("--host", default="127.0.0.1", help="a loopback address (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8500, help="0 for any free one (default: %(default)s)")
    parser.add_argument("--version", default=DEFAULT, help="the Consul that it answers like (default: %(default)s)")
    options = parser.parse_args(arguments)

    stopped = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        stopped.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with Agent(host=options.host, port=options.port, version=options.version) as agent:
            print(NOTICE.format(address=agent.address), flush=True)
            stopped.wait()  # until the signal
    except ConfigurationError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    print("The embedded agent has stopped.", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
