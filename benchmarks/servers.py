"""The servers that are measured on: a real Consul, a Redis; and what is asked of them beside the measurements."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any, NamedTuple

from tests.real_consul import RealConsul, find_binary

#: What has the agent count its requests for ever, not for the last ten seconds only.
TELEMETRY = 'telemetry { prometheus_retention_time = "24h" disable_hostname = true }'

#: How long the agent's count of requests must have stood still, in seconds, before it is taken for the whole.
QUIET = 0.2

#: How long a Redis may take to listen, in seconds; it takes some milliseconds.
LISTENS = 10.0


class Agent(NamedTuple):
    """A Consul: its address, and where it is ours its process and its version."""

    url: str
    process: int | None
    version: str | None


@contextlib.contextmanager
def agent(url: str | None, *extra: str, disk: bool = False) -> Iterator[Agent]:
    """The agent to measure on.

    Args:
        url: of one that runs; None starts a private one.
        extra: arguments for the private one.
        disk: it has its Raft log on disk, in the folder for temporary files; else all is in memory.
    """
    if url is not None:
        yield Agent(url, None, None)
        return
    binary = find_binary()
    if binary is None:
        raise SystemExit("no Consul found (CONSUL_BINARY, PATH, .ci/cache/); .ci/get-consul gets one")
    with RealConsul(binary, data_dir=disk, extra=("-hcl", TELEMETRY, *extra)) as private:
        yield Agent(f"http://{private.address}", private.pid, private.version)


@contextlib.contextmanager
def redis() -> Iterator[int | None]:
    """The port of a Redis that writes each change to disk before it answers; None where none is installed."""
    binary = shutil.which("redis-server")
    if binary is None:
        yield None
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes"]
    options += ["--appendfsync", "always"]
    with (
        tempfile.TemporaryDirectory(prefix="consul-locker-redis-") as folder,
        subprocess.Popen([binary, *options, "--dir", folder], stdout=subprocess.DEVNULL, cwd=folder) as process,
    ):
        try:
            deadline = time.monotonic() + LISTENS
            while not listens(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"{binary} did not listen on port {port} within {LISTENS:g} s, or ended")
                time.sleep(0.02)
            yield port
        finally:
            process.terminate()


def listens(port: int) -> bool:
    """Whether somebody listens there, on loopback."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


# ------------------------------------------------------------------------------------- what Consul is asked


def ask(url: str, method: str, path: str, body: str | None = None) -> bytes:
    """One request to Consul, without a client of anybody's."""
    data = None if body is None else body.encode()
    with urllib.request.urlopen(urllib.request.Request(url + path, data, method=method), timeout=60) as answer:
        found: bytes = answer.read()
        return found


def delete_below(url: str, name: str) -> None:
    """Delete the keys of Lockers of a name."""
    ask(url, "DELETE", f"/v1/kv/{name}/?recurse")


def requests_seen(url: str) -> int | None:
    """How many requests the agent has answered, by its own count; None when it keeps none."""
    try:
        text = ask(url, "GET", "/v1/agent/metrics?format=prometheus").decode()
    except urllib.error.HTTPError:
        return None
    counts = re.findall(r"^consul_http_(?!GET_v1_agent_metrics)\w+_count (\d+)", text, re.MULTILINE)
    return sum(map(int, counts)) if counts else None


def all_requests_seen(url: str) -> int | None:
    """The same, after those have been counted that were just given up: Consul notices when the key changes."""
    before = requests_seen(url)
    while before is not None:
        time.sleep(QUIET)
        seen = requests_seen(url)
        if seen == before:
            break
        before = seen
    return before


def cpu_of(process: int) -> float:
    """The processor time that a process has used, in seconds."""
    with open(f"/proc/{process}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def plain_client(url: str) -> Any:
    """python-consul2's own client."""
    import warnings

    import consul

    parts = urllib.parse.urlsplit(url)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it warns of itself, twice for each client
        return consul.Consul(host=parts.hostname, port=parts.port, scheme=parts.scheme)
