"""The token and the certificates of a factory, which may change while it lives. Shared by its transports.

A token that Consul no longer knows is got again, and the request sent once more if it is another one now: Consul looks
up the token before it does anything, so a request refused for it had no effect.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Union

from ..config.environment import check_token, read_token
from ..config.options import ClientOptions
from ..errors import ConfigurationError, ConsulUnavailable
from ..may_wait import THIS_THREAD
from .encode import HttpRequest, HttpResponse
from .tls import tls_context

if TYPE_CHECKING:
    import ssl

__all__ = ["TOKEN_LATE", "Credentials", "Found", "NoToken", "tokenless", "unknown_token", "with_token"]

#: How long a token file is taken as unchanged, in seconds. Looking costs a system call, which 4,000 requests a second
#: should not make each; a token that was deleted within this time is found by Consul's refusal.
LOOK_AGAIN = 1.0
#: After how long a callable is called again, in seconds. Consul's agents keep what they know of a token for as long
#: (``acl_token_ttl``, doc), so a change of rights is not seen sooner everywhere.
CALL_AGAIN = 30.0

#: Why there is no token: the callable has not returned in time.
TOKEN_LATE = "the callable given as 'token' did not return in time"

Report = Callable[[str, Union[BaseException, None]], object]


class NoToken(Exception):
    """The callable gave no token; says why. Its cause is what the callable raised, if it did.

    Attributes:
        is_wrong: whether it returned what is no token: time alone does not mend that.
    """

    def __init__(self, why: str, is_wrong: bool = False) -> None:
        self.is_wrong = is_wrong
        super().__init__(why)


#: A token (empty for none), or what will have it, or why there is none.
Found = Union[str, "Future[str | NoToken]"]


def unknown_token(response: HttpResponse) -> bool:
    """Whether Consul refused a request since it does not know the token (any more, or not yet)."""
    return response.status == 403 and b"ACL not found" in response.body


def with_token(request: HttpRequest, token: str) -> HttpRequest:
    """The request with the token in its headers; empty for none."""
    if not token:
        return request
    headers = (*request.headers, ("X-Consul-Token", token))
    return HttpRequest(  # `dataclasses.replace` takes three times as long
        request.method, request.path, request.params, headers, request.body, request.decode, request.operation
    )


def tokenless(options: ClientOptions, request: HttpRequest, found: NoToken) -> ConsulUnavailable:
    """The error for a request for which there is no token."""
    return ConsulUnavailable(
        f"{request.operation or request.method}: {found}, and without a token nothing is asked of Consul at "
        f"{options.address}",
        operation=request.operation,
        cause=found.__cause__,
        option="token" if found.is_wrong else None,
        outage=not found.is_wrong,
    )


def _log(text: str, error: BaseException | None) -> None:
    logging.getLogger("consul_locker").warning("%s", text, exc_info=error)


class Credentials:
    """The token and the certificates of a factory, as they are now. For any thread.

    Args:
        options: of the factory.
        report: told, once each time it begins, that what has changed cannot be used; never under a mutex of ours.

    Raises:
        ConfigurationError: the certificates of the options cannot be used.
    """

    def __init__(self, options: ClientOptions, report: Report = _log) -> None:
        source = options.token_from
        self._token: _FixedToken | _TokenFile | _TokenCallable
        if callable(source):
            self._token = _TokenCallable(source, report)
        elif source is not None:
            self._token = _TokenFile(source, options.token or "", report)
        else:
            self._token = _FixedToken(options.token or "")
        self._certificates = _Certificates(options, report)

    def token(self) -> Found:
        """The token for a request that is to be sent."""
        return self._token.now()

    def another(self, refused: str) -> Found:
        """The token, got again since Consul does not know ``refused``; the same when there is no other."""
        return self._token.another(refused)

    def context(self) -> ssl.SSLContext | None:
        """What TLS needs for a new connection; None for plain ones."""
        return self._certificates.context()


class _Trouble:
    """Reports that something cannot be used: once, until it can be again."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._told = False

    def begins(self, text: str, error: BaseException | None = None) -> None:
        if not self._told:
            self._told = True
            self._report(text, error)

    def ends(self) -> None:
        self._told = False


def _state(path: str) -> tuple[int, ...] | None:
    """What differs once a file, or the list of a folder's files, was changed or replaced; None where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


# ---------------------------------------------------------------------------------------------------- the token


class _FixedToken:
    """A token that stays."""

    def __init__(self, token: str) -> None:
        self._token = token

    def now(self) -> str:
        return self._token

    def another(self, refused: str) -> str:
        return self._token


class _TokenFile:
    """The token in a file. Without a mutex: of two threads that read it, the older result is replaced at the next look.

    Args:
        path: of the file.
        token: what is used until the file holds one.
    """

    def __init__(self, path: str, token: str, report: Report) -> None:
        self._path = path
        self._token = token
        self._state: tuple[int, ...] | None = None
        self._look_at = float("-inf")
        self._trouble = _Trouble(report)

    def now(self) -> str:
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + LOOK_AGAIN
            if _state(self._path) != self._state or self._state is None:
                return self._read()
        return self._token

    def another(self, refused: str) -> str:
        return self._read()

    def _read(self) -> str:
        state = _state(self._path)  # before it is read: what is written meanwhile differs from it
        try:
            token, why = read_token(self._path), "it is empty"
        except ConfigurationError as error:
            token, why = "", str(error)
        if not token:
            self._trouble.begins(f"the token file {self._path} cannot be used; the last token is kept: {why}")
            return self._token
        self._trouble.ends()
        self._token, self._state = token, state
        return token


class _TokenCallable:
    """The token that a callable returns. It has a thread of its own for each call, so that it may wait.

    There is never more than one such thread, which all requests share; no mutex is held meanwhile. It is a daemon, as
    the thread that looks up a name is. Requests wait for it only while there is no token, or after Consul's refusal.
    """

    def __init__(self, function: Callable[[], str], report: Report) -> None:
        self._function = function
        self._guard = threading.RLock()  # a signal handler may come in between
        self._token: str | None = None  # None: it was not called yet
        self._call_at = float("-inf")
        self._running: Future[str | NoToken] | None = None
        self._refused: str | None = None  # the token that Consul refused while a call was under way
        self._trouble = _Trouble(report)

    def now(self) -> Found:
        token = self._token
        if token is not None and time.monotonic() < self._call_at:
            return token
        with self._guard:
            if self._token is None:
                return self._call()
            if time.monotonic() >= self._call_at:  # else another thread has just begun a call
                self._call()
            return self._token

    def another(self, refused: str) -> Found:
        with self._guard:
            token = self._token
            if token is not None and token != refused:
                return token
            if self._running is not None:
                self._refused = refused
            return self._call()

    def _call(self) -> Future[str | NoToken]:
        """Begin a call, or join the one that is under way."""
        with self._guard:
            if self._running is not None:
                return self._running
            call: Future[str | NoToken] = Future()
            call.set_running_or_notify_cancel()  # all requests share it
            self._call_at = time.monotonic() + CALL_AGAIN
            thread = threading.Thread(target=self._run, args=(call,), name="consul_locker-token", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # there are too many; or, on Python 3.12, the interpreter is going down
                call.set_result(self._kept(NoToken(f"the callable given as 'token' cannot be called: {error}")))
            else:
                self._running = call
            return call

    def _run(self, call: Future[str | NoToken]) -> None:
        THIS_THREAD.is_internal = True  # a Locker's call that waits here would wait for this very thread
        outcome = self._outcome()
        while not self._ended(outcome):
            outcome = self._outcome()
        if isinstance(outcome, str):
            self._trouble.ends()
            call.set_result(outcome)
        else:
            self._trouble.begins(str(outcome), outcome.__cause__)
            call.set_result(self._kept(outcome))

    def _ended(self, outcome: str | NoToken) -> bool:
        """Note what was returned. False: Consul has refused this token meanwhile, and there may be another by now."""
        with self._guard:
            refused, self._refused = self._refused, None
            if outcome == refused:
                return False
            self._running = None  # before it is told: a request that comes now begins a new call
            if isinstance(outcome, str):
                self._token = outcome
            return True

    def _outcome(self) -> str | NoToken:
        try:
            token = self._function()
        except BaseException as error:  # whatever it is: those that wait must be told, or they wait for ever
            failed = NoToken(f"the callable given as 'token' raised {type(error).__name__}: {error}")
            failed.__cause__ = error
            return failed
        try:
            return check_token("token", token)
        except ConfigurationError as error:
            return NoToken(f"the callable given as 'token' returned no token ({type(token).__name__}): {error}", True)

    def _kept(self, failed: NoToken) -> str | NoToken:
        """What comes of a call that gave no token: the last one, where there is one."""
        return failed if self._token is None else self._token


# ----------------------------------------------------------------------------------------------- certificates


class _Certificates:
    """What TLS needs, made again for a new connection once one of its files has changed.

    As long as the files cannot be used (half-written, or a key that is not its certificate's), the last ones are kept.
    """

    def __init__(self, options: ClientOptions, report: Report) -> None:
        self._options = options
        secure = any(one.scheme == "https" for one in options.each)
        files = (options.cafile, options.capath, options.cert, options.key) if secure else ()
        self._files = [path for path in files if path is not None]
        state = self._states()  # before they are read: what is written meanwhile differs from it
        self._current = state, tls_context(options)  # replaced as one: threads read it without a mutex
        self._trouble = _Trouble(report)

    def context(self) -> ssl.SSLContext | None:
        known, context = self._current
        state = self._states()
        if state == known:
            return context
        try:
            self._current = state, tls_context(self._options)
        except (ConfigurationError, OSError) as error:
            self._trouble.begins(f"the certificates have changed and cannot be used; the last ones are kept: {error}")
        else:
            self._trouble.ends()
        return self._current[1]

    def _states(self) -> list[tuple[int, ...] | None]:
        return [_state(path) for path in self._files]
