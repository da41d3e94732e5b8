"""A proxy before an agent that delivers a request late, twice or not at all, or loses or forges its answer.

A rule names the requests that it is for and their fate. Nothing here waits for time to pass: what was kept is
delivered when the test says so. Where the caller gets no answer its connection is closed, which leaves it as
ignorant as a timeout would (the transport never repeats a PUT that left), only sooner.
"""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

#: The end of every wait for something that has to happen, in seconds; generous, since CI machines are slow.
WAIT = 30.0


class Fate(Enum):
    """What becomes of a request."""

    #: Kept until `Rule.deliver`; the caller gets no answer.
    LATE = "late"
    #: It never reaches Consul; the caller gets no answer.
    NEVER = "never"
    #: Delivered and answered; a copy is kept until `Rule.deliver`.
    TWICE = "twice"
    #: Delivered; the caller gets no answer.
    ANSWER_LOST = "answer lost"
    #: It never reaches Consul, and the connection stays open: the caller runs into its own limit.
    SILENT = "silent"
    #: Kept until `Rule.let_go`, then delivered and answered.
    SLOW = "slow"
    #: Delivered at once, answered at `Rule.let_go`.
    ANSWER_SLOW = "answer slow"
    #: It never reaches Consul; at `Rule.let_go` the caller gets the rule's answer, as from a server that lags behind.
    FORGED = "forged"
    #: It never reaches Consul; the caller gets the rule's answer at once: `OVER_WRITE_RATE`, say.
    REFUSED = "refused"


#: The fates that end without a test's help, and their late relatives: a test of a kind of request runs with each.
FATES = (Fate.LATE, Fate.NEVER, Fate.TWICE, Fate.ANSWER_LOST)


@dataclass(frozen=True)
class Request:
    """A request on its way to Consul."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


@dataclass(frozen=True)
class Answer:
    """What Consul said."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


#: What Consul refuses before it does anything (measured; the words of the rates are of 1.16.4 and 1.23.0-dev).
OVER_READ_RATE = Answer(429, (), b"rate limit exceeded, try again later or against a different server")
OVER_WRITE_RATE = Answer(
    503, (), b"rate limit exceeded for operation that can only be performed by the leader, try again later"
)
NO_LEADER = Answer(500, (), b"No cluster leader")

Match = Callable[[Request], bool]


def to(method: str, path: str, *words: bytes, without: tuple[bytes, ...] = ()) -> Match:
    """Requests by method, the beginning of their path, words that their body has, and words that it has not."""

    def match(request: Request) -> bool:
        return (
            request.method == method
            and request.path.startswith(path)
            and all(word in request.body for word in words)
            and not any(word in request.body for word in without)
        )

    return match


ACQUIRE = to("PUT", "/v1/txn", b'"lock"')
RELEASE = to("PUT", "/v1/txn", b'"unlock"')
AUDIT = to("PUT", "/v1/txn", b'"check-index"', without=(b'"lock"', b'"unlock"'))
READ = to("PUT", "/v1/txn", b'"get"')
LIST = to("GET", "/v1/kv/")
CREATE = to("PUT", "/v1/session/create")
DESTROY = to("PUT", "/v1/session/destroy/")
RENEWAL = to("PUT", "/v1/session/renew/")


def everything(request: Request) -> bool:
    """Any request."""
    return True


def watch_for_a_change(request: Request) -> bool:
    """A blocking query on a session: it knows an index, and waits for a higher one."""
    return request.path.startswith("/v1/session/info/") and "index=" in request.path


def renewal_of(session_id: str) -> Match:
    """The renewals of one session."""
    return to("PUT", f"/v1/session/renew/{session_id}")


class Rule:
    """The fate of the next requests of a kind.

    Attributes:
        answers: what Consul answered to those that were delivered, in order.
        met: how many requests met their fate.
        passed: how many of this kind it left to later rules.
    """

    def __init__(
        self, proxy: Proxy, fate: Fate, match: Match, count: int, forged: Answer | None, of: tuple[int, int]
    ) -> None:
        self.fate = fate
        self.met = self.passed = 0
        self._of = of
        self.answers: list[Answer] = []
        self._forged = forged
        self._proxy = proxy
        self._match = match
        self._left = count
        self._kept: list[Request] = []
        self._met = threading.Semaphore(0)
        self._answered = threading.Semaphore(0)
        self._open = threading.Event()

    def takes(self, request: Request) -> bool:
        """Whether it decides over this one. For the proxy, one thread at a time."""
        if self._left == 0 or not self._match(request):
            return False
        some, all = self._of
        # Evenly spread: 6 of 10 are not six in a row.
        number = self.met + self.passed
        if (number + 1) * some // all == number * some // all:
            self.passed += 1
            return False
        self.met += 1
        self._left -= 1
        return True

    def wait(self, count: int = 1) -> None:
        """Wait until so many requests more have met their fate."""
        for _ in range(count):
            assert self._met.acquire(timeout=WAIT), "no such request came"

    def wait_answered(self, count: int = 1) -> None:
        """Wait until so many of them more were delivered, and their answers passed to who still waits for them."""
        for _ in range(count):
            assert self._answered.acquire(timeout=WAIT), "it was not answered"

    def deliver(self) -> list[Answer]:
        """Deliver what was kept, over new connections; returns what Consul answers. Again: again."""
        delivered = [self._proxy.pass_on(request) for request in self._kept]
        self.answers += delivered
        return delivered

    def let_go(self) -> None:
        """End every wait of this rule, for those to come, too."""
        self._open.set()

    def carry_out(self, request: Request, send: Callable[[Request], Answer], reply: Callable[[Answer], None]) -> bool:
        """In the proxy's thread: the request meets its fate. False: its connection is to be closed."""
        fate = self.fate
        if fate in (Fate.LATE, Fate.TWICE):
            self._kept.append(request)
        if fate is not Fate.ANSWER_SLOW:
            self._met.release()
        if fate in (Fate.SILENT, Fate.SLOW, Fate.FORGED):
            self._open.wait(WAIT)
        if fate in (Fate.LATE, Fate.NEVER, Fate.SILENT):
            return False
        if fate in (Fate.FORGED, Fate.REFUSED):
            assert self._forged is not None
            reply(self._forged)
            return True
        answer = send(request)
        self.answers.append(answer)
        if fate is Fate.ANSWER_SLOW:
            self._met.release()
            self._open.wait(WAIT)
        if fate is not Fate.ANSWER_LOST:
            reply(answer)
        self._answered.release()
        return fate is not Fate.ANSWER_LOST


class Proxy:
    """Stands before an agent on a port of its own. A context manager: open inside.

    Args:
        target: the agent's address, ``host:port``.
    """

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = host, int(port)
        self._port = 0
        self._server: _Server | None = None
        self._guard = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._rules: list[Rule] = []

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self._port}"

    def arrange(
        self,
        fate: Fate,
        match: Match,
        count: int = 1_000_000,
        forged: Answer | None = None,
        of: tuple[int, int] = (1, 1),
    ) -> Rule:
        """Requests of this kind meet this fate, unless an earlier rule takes them: rules in a row are a script.

        Args:
            fate: which.
            match: the kind.
            count: so many, the next ones.
            forged: the answer to those that are forged or refused.
            of: only so many of so many, evenly spread: ``(9, 10)``.
        """
        rule = Rule(self, fate, match, count, forged, of)
        with self._guard:
            self._rules.append(rule)
        return rule

    def clear(self) -> None:
        """Let everything pass from now on; what waits goes on."""
        with self._guard:
            rules, self._rules = self._rules, []
        for rule in rules:
            rule.let_go()

    def open(self) -> None:
        """Listen; after `shut` on the same port again."""
        self._server = _Server(self, self._port)
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def shut(self) -> None:
        """Refuse connections, and break those that are there: the agent is gone."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()
        with self._guard:
            for one in self._sockets:
                try:
                    one.shutdown(socket.SHUT_RDWR)
                except OSError:  # the other side was faster
                    pass

    def __enter__(self) -> Proxy:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()
        self.shut()

    # ---------------------------------------------------------------------------- for its own threads

    def rule_for(self, request: Request) -> Rule | None:
        """The rule that decides over a request, if there is one."""
        with self._guard:
            return next((rule for rule in self._rules if rule.takes(request)), None)

    def know(self, one: socket.socket) -> None:
        """A connection is there, to be broken by `shut`."""
        with self._guard:
            self._sockets.add(one)

    def forget(self, one: socket.socket) -> None:
        """A connection has ended."""
        with self._guard:
            self._sockets.discard(one)

    def pass_on(self, request: Request) -> Answer:
        """Deliver a request over a connection of its own; a blocking query takes as long as it takes."""
        connection = http.client.HTTPConnection(*self._target)
        connection.connect()
        self.know(connection.sock)
        held = connection.sock
        try:
            connection.putrequest(request.method, request.path, skip_host=True, skip_accept_encoding=True)
            for key, value in request.headers:
                connection.putheader(key, value)
            connection.endheaders(request.body)
            answer = connection.getresponse()
            body = answer.read()
        finally:
            self.forget(held)
            connection.close()
        own = ("transfer-encoding", "content-length", "connection", "date")
        kept = tuple((key, value) for key, value in answer.getheaders() if key.lower() not in own)
        return Answer(answer.status, kept, body)


class _Server(ThreadingHTTPServer):
    """One thread for each connection. They may outlive the server: a blocking query ends when it ends."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, proxy: Proxy, port: int) -> None:
        self.proxy = proxy
        super().__init__(("127.0.0.1", port), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection was broken, from whichever side; that is what this is for."""


class _Handler(BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.server.proxy.know(self.connection)

    def finish(self) -> None:
        self.server.proxy.forget(self.connection)
        super().finish()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is logged."""

    def _serve(self) -> None:
        proxy = self.server.proxy
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        request = Request(self.command, self.path, tuple(self.headers.items()), body)
        rule = proxy.rule_for(request)
        if rule is None:
            self._reply(proxy.pass_on(request))
        elif not rule.carry_out(request, proxy.pass_on, self._reply):
            self.close_connection = True

    do_GET = do_PUT = do_DELETE = _serve

    def _reply(self, answer: Answer) -> None:
        self.send_response(answer.status)
        for key, value in (*answer.headers, ("Content-Length", str(len(answer.body)))):
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(answer.body)
