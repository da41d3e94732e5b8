"""What the benchmarks have in common. To be imported before all else that is not the standard library's."""

from __future__ import annotations

import argparse
import contextlib
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # this tree, not an installed version; and the tests' way to start a Consul

from tests.real_consul import RealConsul, find_binary  # noqa: E402

#: How long a session may take to be there, in seconds.
READY = 10.0

Figure = TypeVar("Figure")


def add_url(parser: argparse.ArgumentParser) -> None:
    """The option for `agent`."""
    parser.add_argument("--url", help="an agent's address (default: a Consul binary is looked for, and started)")


@contextlib.contextmanager
def agent(url: str | None, *extra: str) -> Iterator[str]:
    """The address of the agent to measure on.

    Args:
        url: of one that runs; None starts a private one.
        extra: arguments for the private one.
    """
    if url is not None:
        yield url
        return
    binary = find_binary()
    if binary is None:
        raise SystemExit("no Consul found (CONSUL_BINARY, PATH, .ci/cache/); .ci/get-consul gets one")
    with RealConsul(binary, extra=extra) as private:
        yield f"http://{private.address}"


def plain_client(url: str) -> Any:
    """python-consul2's own client."""
    import consul

    parts = urlsplit(url)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it warns of itself, twice for each client
        return consul.Consul(host=parts.hostname, port=parts.port, scheme=parts.scheme)


def side_by_side(*measures: Callable[[], Figure], rounds: int) -> list[list[Figure]]:
    """Measure all, round by round; the one that begins changes, so what else the machine does falls on all alike."""
    figures: list[list[Figure]] = [[] for _ in measures]
    for number in range(rounds):
        first = number % len(measures)
        for which in (*range(first, len(measures)), *range(first)):
            figures[which].append(measures[which]())
    return figures
