"""HTTP/1.1 on one connection, without I/O: bytes in, bytes out. Parsed by h11; shared by both transports."""

from __future__ import annotations

import ssl

import h11

from ..config.options import ClientOptions
from ..errors import ConfigurationError, ConsulUnavailable
from .requests import HttpRequest, HttpResponse

__all__ = ["MAX_ANSWER", "READ_SIZE", "Wire", "WireError", "repeatable", "server_name", "tls_context", "unavailable"]

#: The largest answer that is read, in bytes. Consul's are small; the largest wanted is all keys below a
#: Locker's name, and what is larger than this is not meant for us.
MAX_ANSWER = 16 * 1024 * 1024

#: How much is read at once, in bytes: the answer to a full transaction of usual values in one go.
READ_SIZE = 64 * 1024


class WireError(Exception):
    """The peer does not keep to HTTP, or closed in the middle of an answer. Nothing more can be read."""


class Wire:
    """One connection's side of HTTP, through any number of requests, one after another.

    Args:
        authority: what the Host header says.
    """

    __slots__ = ("_body", "_h11", "_head", "_host", "_size", "reusable", "started")

    def __init__(self, authority: str) -> None:
        self._h11 = h11.Connection(h11.CLIENT)
        self._host = authority
        self.started = False  #: whether a byte of the answer to the present request came
        self.reusable = True  #: whether another request may follow

    def request(self, request: HttpRequest) -> bytes:
        """The bytes to send; after that, `feed` takes the answer.

        Raises:
            ConfigurationError: the request cannot be written as HTTP.
        """
        self.started = False
        self.reusable = False
        self._head: h11.Response | None = None
        self._body: list[bytes] = []
        self._size = 0
        headers = [("Host", self._host), *request.headers]
        if request.body or request.method != "GET":
            headers.append(("Content-Length", str(len(request.body))))
        send = self._h11.send
        try:
            parts = [
                send(h11.Request(method=request.method, target=request.target, headers=headers)),
                send(h11.Data(request.body)) if request.body else None,
                send(h11.EndOfMessage()),
            ]
        except (h11.LocalProtocolError, UnicodeError):
            # "from None": h11 repeats the faulty header, which may be the token
            raise ConfigurationError("request", request.operation, "this cannot be written as HTTP") from None
        return b"".join(part for part in parts if part)

    def feed(self, data: bytes) -> HttpResponse | None:
        """Take what came; ``b""`` says that the peer closed.

        Returns:
            The answer once it is whole, else None.

        Raises:
            WireError: it cannot become an answer any more.
        """
        if data:
            self.started = True
        try:
            self._h11.receive_data(data)
            while True:
                event = self._h11.next_event()
                if type(event) is h11.Data:
                    self._take(event.data)
                elif type(event) is h11.Response:
                    self._head = event
                elif type(event) is h11.EndOfMessage:
                    return self._finish()
                elif type(event) is not h11.InformationalResponse:
                    return None  # NEED_DATA: nothing else comes before the end of an answer
        except h11.RemoteProtocolError as error:
            reason = (
                f"the answer is no HTTP: {error}" if data else "the connection was closed before an answer was whole"
            )
            raise WireError(reason) from error

    def _take(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > MAX_ANSWER:
            raise WireError(f"the answer is larger than {MAX_ANSWER} bytes")
        self._body.append(bytes(data))

    def _finish(self) -> HttpResponse:
        head = self._head
        assert head is not None  # h11 gives no end without a beginning
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers}
        answer = HttpResponse(head.status_code, headers, b"".join(self._body))
        # what follows an answer that nobody asked for would be taken for the answer to the next request
        if self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE and not self._h11.trailing_data[0]:
            self._h11.start_next_cycle()
            self.reusable = True
        return answer


def tls_context(options: ClientOptions) -> ssl.SSLContext | None:
    """What TLS needs, or None for plain connections. Reads the certificates' files.

    Raises:
        ConfigurationError: a certificate or key cannot be used.
    """
    if options.scheme != "https":
        return None
    try:
        context = ssl.create_default_context(
            cafile=options.cafile, capath=options.capath, cadata="\n".join(options.ca) or None
        )
    except (ssl.SSLError, ValueError) as error:
        source, value = ("ca", "(PEM)") if options.ca else ("CONSUL_CACERT", options.cafile)
        raise ConfigurationError(source, value, f"these certificates cannot be used: {error}") from error
    if options.cert is not None:
        try:
            context.load_cert_chain(options.cert, options.key)
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                "cert", options.cert, f"this certificate and its key cannot be used: {error}"
            ) from error
    if not options.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])  # else a server may choose HTTP/2
    return context


def server_name(options: ClientOptions) -> str:
    """The name that the server's certificate must have."""
    return options.server_name or options.host.partition("%")[0]


def unavailable(
    options: ClientOptions, request: HttpRequest, what: str, *, sent: bool, cause: BaseException | None = None
) -> ConsulUnavailable:
    """The error for a request that got no answer.

    Args:
        what: what happened, in words.
        sent: whether the request may have taken effect all the same.
        cause: the error below, or None.
    """
    reason = "" if cause is None else f": {cause}" if str(cause) else f": {type(cause).__name__}"
    return ConsulUnavailable(
        f"{request.operation or request.method}: {what} at {options.address}{reason}",
        operation=request.operation,
        cause=cause,
        sent=sent,
    )


def repeatable(request: HttpRequest, error: Exception, *, used: bool, sent: bool, wire: Wire) -> bool:
    """Whether a request that failed may go again, over a new connection.

    A server may close an idle connection at the very moment at which it is used again. That is no reason
    to fail when nothing of the request left, or when sending it twice does no harm.

    Args:
        request: the request.
        error: how it failed.
        used: whether its connection served another one before.
        sent: whether a byte of it was handed to the network.
        wire: its connection's.
    """
    if isinstance(error, TimeoutError) or not used or wire.started:
        return False
    return request.method == "GET" or not sent
