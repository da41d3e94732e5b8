"""A real Consul agent on free ports of loopback, for tests: started, stopped, killed, started again."""

from __future__ import annotations

import contextlib
import functools
import http.client
import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from types import TracebackType

__all__ = ["RealConsul", "find_binary", "free_ports", "get_binary", "ports_off", "version_of"]

_ROOT = pathlib.Path(__file__).resolve().parent.parent

#: What gets a Consul for the tests, and where it puts it.
GET_CONSUL = _ROOT / ".ci" / "get-consul"
CACHE = _ROOT / ".ci" / "cache"

#: How long getting one may take, in seconds: 30 MB and the lists of packages; 10 s are usual (measured).
GET_PATIENCE = 240.0

#: What became of getting one, for the report of the run; empty when none was to be got.
account_of_getting: list[str] = []

#: How long an agent may take to have a leader, in seconds; about 2 s are usual (measured), a busy machine needs more.
LEADER_PATIENCE = 60.0

#: How long it may take to end when asked, in seconds, before it is killed.
STOP_PATIENCE = 20.0

#: How often a leader is asked for, in seconds.
_POLL = 0.05

#: Another program may take a port between our looking for it and Consul's listening on it: choose again this often.
_ATTEMPTS = 3


def find_binary() -> str | None:
    """The path of a Consul binary: $CONSUL_BINARY, else on PATH, else below .ci/cache/; None without one."""
    given = os.environ.get("CONSUL_BINARY")
    if given:
        return given if os.access(given, os.X_OK) else None
    on_path = shutil.which("consul")
    if on_path:
        return on_path
    for found in sorted(CACHE.rglob("bin/consul")) if CACHE.is_dir() else ():
        if found.is_file() and os.access(found, os.X_OK):
            return str(found)
    return None


@functools.cache
def version_of(binary: str) -> str:
    """What a binary says that it is: ``1.8.7``, ``1.23.0-dev``."""
    answer = subprocess.run([binary, "version"], capture_output=True, text=True, timeout=30, check=True)
    found = re.search(r"\d+\.\d+\.\S+", answer.stdout)
    if found is None:
        raise RuntimeError(f"{binary} does not say which version it is: {answer.stdout!r:.200}")
    return found[0]


#: From this version on an agent opens a port for gRPC over TLS, too, which a second one on a machine could not
#: have; older ones do not know the option that turns it off (measured).
_GRPC_TLS_SINCE = (1, 14)


def ports_off(binary: str) -> list[str]:
    """The options that turn off the ports that nobody needs, in the words of this binary's version."""
    options = ["-dns-port", "-1", "-grpc-port", "-1"]
    major, minor = version_of(binary).split(".")[:2]
    if (int(major), int(minor)) >= _GRPC_TLS_SINCE:
        options += ["-grpc-tls-port", "-1"]
    return options


def get_binary(say: Callable[[str], None] | None = None) -> None:
    """Have ``.ci/get-consul`` get one, once, where `find_binary` finds none.

    Not when CONSUL_BINARY is set: who names one means that one, ``CONSUL_BINARY=none`` means none.

    Args:
        say: is told before, since it takes a while.
    """
    if account_of_getting or "CONSUL_BINARY" in os.environ or find_binary() is not None:
        return
    account_of_getting.append("there was none; .ci/get-consul has been asked for one")
    if say is not None:
        say("no Consul found: .ci/get-consul gets one now")
    try:
        # A group of its own: what it has started ends with it.
        process = subprocess.Popen(
            ["bash", str(GET_CONSUL)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:  # no bash
        account_of_getting.append(f"it could not be started: {error}")
        return
    try:
        _, words = process.communicate(timeout=GET_PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        account_of_getting.append(f"it did not end within {GET_PATIENCE:g} s")
        return
    if process.returncode:
        account_of_getting.append(f"it got none: {(words.strip() or 'no reason given').splitlines()[-1]}")


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now; all different.

    Not of the range from which the kernel gives ports to outgoing connections (from 32,768 on Linux): one of those
    might have it before the agent does, as happened to a cluster.
    """
    found: list[int] = []
    for port in random.SystemRandom().sample(range(10_000, 32_768), 32 * count):
        with socket.socket() as one, contextlib.suppress(OSError):
            one.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == count:
            return found
    raise RuntimeError(f"no {count} ports are free between 10000 and 32767")


class RealConsul:
    """One real agent, a server on its own.

    Args:
        binary: its path, as `find_binary` gives it.
        data_dir: True: it keeps its data in a folder, and has it again after `restart`; False: ``-dev``, in memory.
        servers: with ``data_dir``: how many servers its cluster has (`tests/cluster.py`).
        extra: more arguments for ``consul agent``.
    """

    def __init__(
        self, binary: str, *, data_dir: bool = False, servers: int = 1, extra: tuple[str, ...] = ()
    ) -> None:
        self.binary = binary
        self.port = 0
        self._ports: list[int] = []
        self._extra = extra
        self._servers = servers
        self._folder = tempfile.mkdtemp(prefix="consul-locker-")
        self._keeps = data_dir
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def version(self) -> str:
        """Which Consul it is: ``1.8.7``."""
        return version_of(self.binary)

    @property
    def address(self) -> str:
        """Where its HTTP API answers: ``127.0.0.1:port``."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process is not None, "not started"
        return self._process.pid

    def start(self) -> RealConsul:
        """Start it on free ports and wait until it has a leader; returns itself."""
        for attempt in range(_ATTEMPTS):
            self._ports = free_ports(4)
            self.port = self._ports[0]
            try:
                self._run()
            except RuntimeError:
                if attempt == _ATTEMPTS - 1:
                    raise
            else:
                break
        return self

    def restart(self) -> None:
        """Start it again on the ports it had; with ``data_dir`` it knows what it knew."""
        self.stop()
        self._run()

    def _run(self) -> None:
        self._launch()
        self.wait_for_leader()

    def _launch(self) -> None:
        http_port, server, lan, wan = self._ports
        command = [self.binary, "agent", "-client", "127.0.0.1", "-bind", "127.0.0.1", "-log-level", "warn"]
        command += ["-disable-host-node-id", *ports_off(self.binary)]
        command += ["-http-port", str(http_port), "-server-port", str(server)]
        command += ["-serf-lan-port", str(lan), "-serf-wan-port", str(wan)]
        if self._keeps:
            command += ["-server", "-bootstrap-expect", str(self._servers), "-data-dir", f"{self._folder}/data"]
        else:
            command += ["-dev"]
        command += self._extra
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=self._folder
            )

    @property
    def _log(self) -> pathlib.Path:
        return pathlib.Path(self._folder) / "log"

    def wait_for_leader(self) -> None:
        """Wait until it knows a leader."""
        assert self._process is not None, "not started"
        deadline = time.monotonic() + LEADER_PATIENCE
        while not self._has_leader():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                words = self._log.read_text(errors="replace")[-2000:]
                raise RuntimeError(f"{self.binary} had no leader within {LEADER_PATIENCE:g} s, or ended:\n{words}")
            time.sleep(_POLL)

    def _has_leader(self) -> bool:
        """Whether it answers with a leader, and is a member with its health check, which sessions need."""
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
            try:
                for path in ("/v1/status/leader", "/v1/health/state/passing"):
                    connection.request("GET", path)
                    answer = connection.getresponse()
                    if answer.status != 200 or not json.loads(answer.read()):
                        return False
            finally:
                connection.close()
        except (OSError, http.client.HTTPException, ValueError):
            return False
        return True

    def stop(self) -> None:
        """Ask it to end, and wait; kill it when it does not. Harmless when it has ended."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_PATIENCE)
        except subprocess.TimeoutExpired:
            pass  # kill() makes sure
        self.kill()

    def kill(self) -> None:
        """End it at once, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Stop its process: it answers nothing, its connections stay, its timers stand still."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitpid(self.pid, os.WUNTRACED)  # one of its threads may be answering still, on another processor

    def resume(self) -> None:
        """Let a paused process go on."""
        os.kill(self.pid, signal.SIGCONT)

    def __enter__(self) -> RealConsul:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)
