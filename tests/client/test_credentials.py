"""client/credentials: a token that changes, in its file or as a callable gives it."""

from __future__ import annotations

import logging
import re
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from consul_locker.client import credentials
from consul_locker.client.credentials import CALL_AGAIN, LOOK_AGAIN
from consul_locker.config.options import ClientOptions
from consul_locker.errors import ConfigurationError, LockTimeout
from consul_locker.may_wait import THIS_THREAD

from .drivers import Make, failure
from .servers import OK, PUT, SOON, Server, read_request

UNKNOWN = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 13\r\n\r\nACL not found"
DENIED = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 17\r\n\r\nPermission denied"


class Acl:
    """A server that knows some tokens, and notes which one came with each request."""

    def __init__(self, *known: str) -> None:
        self.known = set(known)
        self.came: list[str | None] = []
        self.before_refusal: Callable[[], object] = lambda: None
        self.server = Server(self._script)

    def _script(self, sock: socket.socket) -> None:
        while request := read_request(sock):
            found = re.search(rb"X-Consul-Token: (\S+)\r\n", request)
            token = found and found[1].decode()
            self.came.append(token)
            if token not in self.known:
                self.before_refusal()
            sock.sendall(OK if token in self.known else DENIED if token == "weak" else UNKNOWN)

    def options(self, token: Any = None, file: Path | None = None) -> ClientOptions:
        environ = {} if file is None else {"CONSUL_HTTP_TOKEN_FILE": str(file)}
        return ClientOptions.build("127.0.0.1", self.server.port, token=token, environ=environ)


@pytest.fixture
def acl() -> Iterator[Acl]:
    acl = Acl("one", "two")
    with acl.server:
        yield acl


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The clock that says when to look again."""
    time = SimpleNamespace(now=100.0)
    monkeypatch.setattr(credentials, "time", SimpleNamespace(monotonic=lambda: time.now))
    return time


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.write_text("one\n")
    return file


def test_a_token_that_stays(make: Make, acl: Acl) -> None:
    driver = make(acl.options("one"))
    assert driver.send(PUT).status == 200
    acl.known.clear()
    assert driver.send(PUT).status == 403
    assert acl.came == ["one", "one"]


def test_no_token(make: Make, acl: Acl) -> None:
    assert make(acl.options("")).send(PUT).status == 403
    assert acl.came == [None]


# ------------------------------------------------------------------------------------------------------ a file


def test_a_file_that_has_changed_is_read_again_after_a_while(
    make: Make, acl: Acl, file: Path, time: SimpleNamespace
) -> None:
    driver = make(acl.options(file=file))
    driver.send(PUT)
    file.write_text("two")
    driver.send(PUT)  # nobody has looked yet
    time.now += LOOK_AGAIN
    driver.send(PUT)
    assert acl.came == ["one", "one", "two"]


def test_a_file_that_has_not_changed_is_not_read_again(
    acl: Acl, file: Path, time: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[str] = []
    real = credentials.read_token
    monkeypatch.setattr(credentials, "read_token", lambda path: reads.append(path) or real(path))
    found = credentials.Credentials(acl.options(file=file))
    for _ in range(3):
        assert found.token() == "one"
        time.now += LOOK_AGAIN
    assert reads == [str(file)]


def test_a_token_that_is_refused_is_read_again_at_once_and_the_request_goes_once_more(
    make: Make, acl: Acl, file: Path, time: SimpleNamespace
) -> None:
    driver = make(acl.options(file=file))
    driver.send(PUT)
    file.write_text("two")
    acl.known.remove("one")
    assert driver.send(PUT).status == 200
    assert acl.came == ["one", "one", "two"]


def test_it_goes_once_more_at_most_and_not_with_the_same_token(
    make: Make, acl: Acl, file: Path, time: SimpleNamespace
) -> None:
    driver = make(acl.options(file=file))
    acl.known.clear()
    assert driver.send(PUT).body == b"ACL not found"
    acl.before_refusal = lambda: file.write_text("one" if len(acl.came) % 2 else "two")
    assert driver.send(PUT).body == b"ACL not found"
    assert acl.came == ["one", "one", "two"]


def test_another_refusal_is_about_no_other_token(make: Make, acl: Acl, file: Path, time: SimpleNamespace) -> None:
    file.write_text("weak")
    driver = make(acl.options(file=file))
    acl.before_refusal = lambda: file.write_text("two")
    assert driver.send(PUT).body == b"Permission denied"
    assert acl.came == ["weak"]


@pytest.mark.parametrize("content", ["", "tw o-secret", None])
def test_a_file_that_holds_no_token_changes_nothing_and_is_told_once(
    make: Make, acl: Acl, file: Path, time: SimpleNamespace, caplog: pytest.LogCaptureFixture, content: str | None
) -> None:
    driver = make(acl.options(file=file))
    for round in (1, 2):
        for _ in range(3):
            if content is None:
                file.unlink(missing_ok=True)
            else:
                file.write_text(content)
            time.now += LOOK_AGAIN
            assert driver.send(PUT).status == 200
        assert caplog.text.count(f"{file} cannot be used; the last token is kept") == round
        file.write_text("two")
        time.now += LOOK_AGAIN
        driver.send(PUT)
        assert acl.came.pop() == "two"
    assert "secret" not in caplog.text
    assert len(caplog.records) == 2
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


def test_a_file_that_is_empty_at_first(make: Make, acl: Acl, file: Path, time: SimpleNamespace) -> None:
    file.write_text("")
    driver = make(acl.options(file=file))
    assert driver.send(PUT).status == 403
    file.write_text("two")
    assert driver.send(PUT).status == 200
    assert acl.came == [None, None, "two"]


# -------------------------------------------------------------------------------------------------- a callable


class Vault:
    """A callable that gives tokens; it may be kept from that."""

    def __init__(self, *tokens: Any) -> None:
        self.tokens = list(tokens)
        self.calls = 0
        self.called = threading.Semaphore(0)
        self.open = threading.Event()
        self.open.set()
        self.threads: list[str] = []

    def __call__(self) -> Any:
        self.calls += 1
        self.threads.append(threading.current_thread().name)
        self.must_not_wait = THIS_THREAD.must_not_wait
        self.called.release()
        assert self.open.wait(SOON)
        token = self.tokens[0] if len(self.tokens) == 1 else self.tokens.pop(0)
        if isinstance(token, BaseException):
            raise token
        return token


def test_a_callable_is_called_at_the_first_request_and_what_it_gives_is_kept(make: Make, acl: Acl) -> None:
    vault = Vault("one", "two")
    driver = make(acl.options(vault))
    assert vault.calls == 0
    for _ in range(3):
        driver.send(PUT)
    assert acl.came == ["one"] * 3
    assert vault.threads == ["consul_locker-token"]
    assert vault.must_not_wait


def test_it_is_called_again_after_a_while_and_nobody_waits_for_that(
    make: Make, acl: Acl, time: SimpleNamespace
) -> None:
    vault = Vault("one", "two")
    driver = make(acl.options(vault))
    driver.send(PUT)
    assert vault.called.acquire(timeout=SOON)
    time.now += CALL_AGAIN
    vault.open.clear()
    driver.send(PUT)
    assert vault.called.acquire(timeout=SOON)
    driver.send(PUT)
    assert acl.came == ["one"] * 3
    thread = next(each for each in threading.enumerate() if each.name == "consul_locker-token")
    vault.open.set()
    thread.join(SOON)
    driver.send(PUT)
    assert acl.came[3:] == ["two"]
    assert vault.calls == 2


def test_two_threads_that_find_it_old_make_one_call(
    acl: Acl, time: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = Vault("one", "two")
    found = credentials.Credentials(acl.options(vault))
    found.token().result(SOON)
    times = [time.now + CALL_AGAIN, time.now]  # before it has the mutex, and after: another was there meanwhile
    monkeypatch.setattr(credentials, "time", SimpleNamespace(monotonic=lambda: times.pop(0)))
    assert found.token() == "one"
    assert (times, vault.calls) == ([], 1)


def test_it_is_called_again_when_its_token_is_refused(make: Make, acl: Acl) -> None:
    vault = Vault("one", "two")
    driver = make(acl.options(vault))
    driver.send(PUT)
    acl.known.remove("one")
    assert driver.send(PUT).status == 200
    assert acl.came == ["one", "one", "two"]
    acl.known.clear()
    assert driver.send(PUT).body == b"ACL not found"
    assert vault.calls == 3


def test_requests_that_are_refused_together_make_one_call(make: Make, acl: Acl) -> None:
    vault = Vault("gone", "one")
    driver = make(acl.options(vault))
    both = threading.Barrier(2, timeout=SOON)
    acl.before_refusal = both.wait  # ask the same of both
    sent = [driver.start(PUT) for _ in range(2)]
    assert [each.result(SOON).status for each in sent] == [200, 200]
    assert vault.calls == 2


def test_a_call_that_began_before_the_refusal_counts_only_if_it_gives_another(
    acl: Acl, time: SimpleNamespace
) -> None:
    vault = Vault("one", "one", "two")
    found = credentials.Credentials(acl.options(vault))
    assert found.token().result(SOON) == "one"
    time.now += CALL_AGAIN
    vault.open.clear()
    assert found.token() == "one"
    another = found.another("one")  # the call under way may have asked before the token was exchanged
    vault.open.set()
    assert another.result(SOON) == "two"
    assert (found.token(), found.another("one"), vault.calls) == ("two", "two", 3)


def test_what_it_raises_is_told_and_the_next_request_asks_again(
    make: Make, acl: Acl, caplog: pytest.LogCaptureFixture
) -> None:
    boom = LockTimeout(None, 1, "ready")  # also a TimeoutError, which is no limit of ours
    driver = make(acl.options(Vault(boom, boom, "one")))
    for _ in range(2):
        error = failure(driver, PUT)
        assert "the callable given as 'token' raised LockTimeout" in str(error)
        assert f"127.0.0.1:{acl.server.port}" in str(error)
        assert (error.cause, error.sent, error.option, error.outage) == (boom, False, None, True)
    assert driver.send(PUT).status == 200
    assert acl.came == ["one"]
    assert len(caplog.records) == 1
    assert caplog.records[0].exc_info


@pytest.mark.parametrize("wrong", [None, b"secret", "secret\n", 5])
def test_what_is_no_token_is_told_and_not_repeated(
    make: Make, acl: Acl, wrong: Any, caplog: pytest.LogCaptureFixture
) -> None:
    error = failure(make(acl.options(Vault(wrong))), PUT)
    assert f"returned no token ({type(wrong).__name__})" in str(error)
    assert (error.cause, error.sent, error.option, error.outage) == (None, False, "token", False)
    assert "secret" not in str(error) + repr(error) + caplog.text
    assert len(caplog.records) == 1
    assert acl.came == []


def test_an_empty_text_is_no_token_at_all(make: Make, acl: Acl) -> None:
    acl.known.add(None)  # type: ignore[arg-type]
    assert make(acl.options(Vault(""))).send(PUT).status == 200


@pytest.mark.parametrize("boom", [OSError("sealed"), SystemExit()])
def test_the_last_token_is_kept_when_it_raises_later(
    make: Make, acl: Acl, boom: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    driver = make(acl.options(Vault("one", boom)))
    driver.send(PUT)
    acl.known.remove("one")
    for _ in range(2):
        assert driver.send(PUT).body == b"ACL not found"
    assert len(caplog.records) == 1


def test_one_that_takes_too_long(make: Make, acl: Acl) -> None:
    vault = Vault("one")
    vault.open.clear()
    error = failure(make(acl.options(vault)), PUT, 0.05)
    assert "did not return in time" in str(error)
    assert not error.sent
    vault.open.set()


def test_where_no_thread_can_be_started(acl: Acl, time: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    found = credentials.Credentials(acl.options(Vault("one")))
    with monkeypatch.context() as few:
        few.setattr(threading.Thread, "start", _no_thread)
        assert "cannot be called: can't start new thread" in str(found.token().result(0))
    assert found.token().result(SOON) == "one"
    monkeypatch.setattr(threading.Thread, "start", _no_thread)
    assert found.another("one").result(0) == "one"


def _no_thread(thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_a_factory_refuses_a_coroutine_function(acl: Acl) -> None:
    async def token() -> str:
        return "one"

    with pytest.raises(ConfigurationError, match="not async"):
        acl.options(token)
