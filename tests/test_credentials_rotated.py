"""Tokens and certificates that are exchanged under load, on a real Consul: no call fails, no lease ends."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
import trustme

from consul_locker.client.credentials import Credentials

from .acl_agent import AclConsul
from .behaviour.tools import WAIT, Ear, until
from .real_consul import RealConsul

#: One worker has them all, so that the agent with ACLs is started once.
pytestmark = pytest.mark.xdist_group("acl")

#: How often the credentials are exchanged.
EXCHANGES = 3
#: What each caller does after an exchange, at least.
ROUNDS = 5


class Load:
    """Callers that lock, hold and release without a pause, each with an id of its own."""

    def __init__(self, locker: Any, callers: int = 4) -> None:
        self.errors: list[Exception] = []
        self.rounds = [0] * callers
        self._locker = locker
        self._end = threading.Event()
        self._go = threading.Event()
        self._go.set()
        self._resting = threading.Semaphore(0)
        self._threads = [threading.Thread(target=self._run, args=(number,), daemon=True) for number in range(callers)]

    def _run(self, number: int) -> None:
        while not self._end.is_set():
            try:
                assert self._locker.lock(f"locked-{number}").valid
                assert self._locker.release(f"locked-{number}")
                with self._locker.hold(f"held-{number}", wait=WAIT) as lease:
                    lease.check()
                assert self._locker.info(f"held-{number}").session_id is None
            except Exception as error:
                self.errors.append(error)
            self.rounds[number] += 1
            if not self._go.is_set():
                self._resting.release()
                assert self._go.wait(WAIT)

    def goes_on(self) -> None:
        """Each caller has done some rounds more."""
        before = list(self.rounds)
        until(lambda: self.errors or all(now >= then + ROUNDS for now, then in zip(self.rounds, before, strict=True)))
        assert not self.errors

    @contextlib.contextmanager
    def at_rest(self) -> Iterator[None]:
        """No call is under way meanwhile."""
        self._go.clear()
        for _ in self._threads:
            assert self._resting.acquire(timeout=WAIT)
        yield
        self._go.set()

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._go.set()
        for thread in self._threads:
            thread.join(WAIT)


def exchanged_under_load(factory: Any, name: str, exchange: Callable[[Load], None]) -> None:
    """Exchange credentials while calls are made and a lock is kept: all goes well, and the session stays."""
    ear = Ear(name)
    locker = factory.create(name, ttl=10.0)
    kept = locker.lock("kept")
    with Load(locker) as load:
        load.goes_on()
        for _ in range(EXCHANGES):
            exchange(load)
            load.goes_on()
        renewals = locker.stats().get("renewals", 0)
        until(lambda: locker.stats().get("renewals", 0) > renewals)  # with the last ones, too
    assert not load.errors
    assert kept.valid
    assert locker.session_id == kept.session_id
    assert not ear.of("session_ended")
    assert not ear.of("lock_lost")
    ear.close()


# ------------------------------------------------------------------------------------------------------- tokens


@pytest.fixture(scope="module")
def acl_agent(consul_binary: str) -> Iterator[AclConsul]:
    with AclConsul(consul_binary) as agent:
        yield agent


class Tokens:
    """The tokens of one policy, one after another. The one before is deleted at once."""

    def __init__(self, agent: AclConsul, name: str) -> None:
        self._agent = agent
        self._policy = agent.token(name).policy_id
        self.all: list[str] = []
        self._accessor = ""
        self.publish: Callable[[str], object] = lambda secret: None

    def next(self) -> str:
        old, secret = self._accessor, str(uuid.uuid4())
        self._accessor = self._agent.make_token(self._policy, secret)
        self.all.append(secret)
        self.publish(secret)
        if old:
            self._agent.delete_token(old)
        return secret


@pytest.fixture
def refusals(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tokens that Consul did not know any more."""
    refused: list[str] = []
    real = Credentials.another

    def another(self: Credentials, token: str) -> Any:
        refused.append(token)
        return real(self, token)

    monkeypatch.setattr(Credentials, "another", another)
    return refused


@pytest.mark.parametrize("source", ["file", "callable"])
def test_tokens(
    face: Any,
    acl_agent: AclConsul,
    name: str,
    source: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    refusals: list[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    tokens, file = Tokens(acl_agent, name), tmp_path / "token"

    def replace(secret: str) -> None:
        new = tmp_path / "new"
        new.write_text(f"{secret}\n")
        os.replace(new, file)

    options: dict[str, Any] = {}
    if source == "file":
        tokens.publish = replace
        monkeypatch.setenv("CONSUL_HTTP_TOKEN_FILE", str(file))
    else:
        options["token"] = lambda: tokens.all[-1]
    tokens.next()
    with face.factory(acl_agent.address, **options) as factory:
        exchanged_under_load(factory, name, lambda load: tokens.next())
    assert set(refusals) <= set(tokens.all[:-1])
    assert refusals or source == "file"  # a callable is not called again so soon
    assert not [secret for secret in tokens.all if secret in caplog.text]


def test_a_token_that_is_there_late(face: Any, acl_agent: AclConsul, name: str, tmp_path: Path) -> None:
    """Deleted before the next is there: calls fail meanwhile, and the lease is renewed in time with the next."""
    tokens, file = Tokens(acl_agent, name), tmp_path / "token"
    file.write_text(tokens.next())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONSUL_HTTP_TOKEN_FILE", str(file))
        factory = face.factory(acl_agent.address)
    with factory:
        locker = factory.create(name, ttl=10.0)
        kept = locker.lock("kept")
        secret = tokens.next()
        with pytest.raises(Exception, match="ACL not found"):
            locker.lock("other")
        file.write_text(secret)
        assert locker.lock("other").valid
        renewals = locker.stats().get("renewals", 0)
        until(lambda: locker.stats().get("renewals", 0) > renewals)
        assert kept.valid


# ------------------------------------------------------------------------------------------------- certificates


class Party:
    """The files of one side: whom it trusts, its certificate, its key."""

    def __init__(self, folder: Path, *names: str) -> None:
        folder.mkdir()
        self.ca, self.cert, self.key = (folder / part for part in ("ca.pem", "cert.pem", "key.pem"))
        self._names = names

    def trust(self, *authorities: trustme.CA) -> None:
        self._replace(self.ca, b"".join(one.cert_pem.bytes() for one in authorities))

    def issued_by(self, authority: trustme.CA) -> None:
        issued = authority.issue_cert(*self._names)
        self._replace(self.cert, b"".join(pem.bytes() for pem in issued.cert_chain_pems))
        self._replace(self.key, issued.private_key_pem.bytes())

    @staticmethod
    def _replace(file: Path, content: bytes) -> None:
        new = file.with_suffix(".new")
        new.write_bytes(content)
        os.replace(new, file)


class TlsConsul(RealConsul):
    """A real agent that talks TLS as well, and wants a certificate there."""

    def __init__(self, binary: str, files: Party) -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            self.https_port: int = unused.getsockname()[1]
        configuration = (
            f'verify_incoming_https = true ca_file = "{files.ca}" cert_file = "{files.cert}" key_file = "{files.key}"'
        )
        super().__init__(binary, extra=("-https-port", str(self.https_port), "-hcl", configuration))

    def reload(self) -> None:
        """Have it read its files again; it takes a while."""
        os.kill(self.pid, signal.SIGHUP)

    def accepts(self, files: Party) -> bool:
        """Whether someone with these files and it take one another's certificates."""
        context = ssl.create_default_context(cafile=str(files.ca))
        context.load_cert_chain(files.cert, files.key)
        try:
            with context.wrap_socket(
                socket.create_connection(("127.0.0.1", self.https_port), WAIT), server_hostname="127.0.0.1"
            ) as sock:
                sock.sendall(b"GET /v1/status/leader HTTP/1.0\r\n\r\n")
                return bool(sock.recv(1))  # with TLS 1.3 a refusal comes after the handshake
        except OSError:
            return False


class Pipe:
    """Stands before a port; its connections can be cut."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._sockets: list[socket.socket] = []
        self.accepted = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near = self._listener.accept()[0]
                self.accepted += 1
                far = socket.create_connection(("127.0.0.1", self._target))
                self._sockets += near, far
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=(one, other), daemon=True).start()

    @staticmethod
    def _carry(one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65_536):
                other.sendall(data)
        for each in (one, other):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Pipe:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for each in self._sockets:
            each.close()


def test_certificates(face: Any, consul_binary: str, name: str, tmp_path: Path) -> None:
    """Of both sides, and of the authority that both trust; connections that are new meanwhile use the new ones."""
    authorities = [trustme.CA()]
    server, client = Party(tmp_path / "server", "127.0.0.1"), Party(tmp_path / "client", "client.example")
    for side in (server, client):
        side.trust(*authorities)
        side.issued_by(*authorities)

    def exchange(load: Load) -> None:
        old, new = authorities[-1], trustme.CA()
        authorities.append(new)
        before = Party(tmp_path / f"before-{len(authorities)}", "client.example")
        before.trust(old)
        before.issued_by(old)
        stranger = Party(tmp_path / f"new-{len(authorities)}", "client.example")
        stranger.trust(old)
        stranger.issued_by(new)
        server.trust(old, new)
        agent.reload()
        until(lambda: agent.accepts(stranger))
        client.trust(old, new)
        client.issued_by(new)
        load.goes_on()
        anew(load)
        server.trust(new)
        server.issued_by(new)
        agent.reload()
        stranger.trust(new)
        until(lambda: agent.accepts(stranger))
        client.trust(new)
        load.goes_on()
        anew(load)
        assert not agent.accepts(before)

    def anew(load: Load) -> None:
        with load.at_rest():
            count = pipe.accepted
            pipe.cut()
        load.goes_on()
        assert pipe.accepted > count

    with TlsConsul(consul_binary, server) as agent, Pipe(agent.https_port) as pipe:
        files = {"ca": str(client.ca), "cert": str(client.cert), "key": str(client.key)}
        with face.factory(f"https://{pipe.address}", **files) as factory:
            exchanged_under_load(factory, name, exchange)
