"""What the core asks, as HTTP requests to Consul. Pure; their answers are read by `consul_locker.client.decode`.

The endpoint classes of python-consul2 (or py-consul, which installs the same package ``consul``) say what
each request looks like. They sit on an agent object of ours whose ``http`` hands the request back instead
of sending it; their own ``Consul.__init__`` is never run, because it lets the environment win over arguments
and misreads legal addresses. Their decoders are not used: what they let through, and raise, is too much.
Transactions are written here, straight from the core's operations.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from msgspec import Struct
from msgspec.json import Encoder as JsonEncoder

from ..config.options import ClientOptions
from ..core.requests import (
    CreateSession,
    DestroySession,
    Done,
    FindNode,
    Operation,
    Outcome,
    PollKey,
    RawTransact,
    ReadKey,
    ReadPrefix,
    ReadSession,
    RenewSession,
    Request,
    Transact,
    Verb,
    WatchKey,
    WatchNames,
    WatchNode,
    WatchSession,
)
from ..errors import ConfigurationError
from .decode import (
    SESSION_ID,
    HttpResponse,
    decode,
    decode_key,
    decode_transaction,
    done,
    gone,
    key_watched,
    keys_missing,
    keys_read,
    names_missing,
    names_read,
    nodes_found,
    renewed,
    session_created,
    session_read,
    sessions_read,
)
from .distributions import consul_base
from .failures import Access

__all__ = ["Encoder", "HttpRequest", "HttpResponse"]


#: Every body that we send is JSON. Consul takes it under any name (measured), an intermediary may not.
JSON_BODY = ("Content-Type", "application/json")


def _undecoded(response: HttpResponse) -> Outcome:
    """For a request made by hand, whose sender reads the answer itself."""
    return Done()


@dataclass(eq=False, slots=True)  # frozen it would take five times as long to make; nothing changes one
class HttpRequest:
    """A request, ready to be sent.

    Attributes:
        method: ``GET`` or ``PUT``.
        path: percent-encoded.
        params: the query, not yet encoded.
        headers: besides Host and Content-Length; may hold the token, when it is sent, so never in a repr.
        body: empty for none.
        decode: makes the core's outcome of the answer; raises nothing.
        operation: what this is, in words for messages.
    """

    method: str
    path: str
    params: tuple[tuple[str, str], ...] = ()
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    body: bytes = field(default=b"", repr=False)
    decode: Callable[[HttpResponse], Outcome] = field(default=_undecoded, repr=False)
    operation: str = ""

    def consistent(self) -> HttpRequest:
        """The same read, for which the leader confirms that it still is the leader."""
        return replace(self, params=(*self.params, ("consistent", "1")))

    @property
    def target(self) -> str:
        """Path and query, as the request line has them."""
        return f"{self.path}?{urlencode(self.params)}" if self.params else self.path


# ------------------------------------------------------------------------------- under python-consul2's classes


class _Recorded(NamedTuple):
    """What an endpoint wanted to send."""

    method: str
    path: str
    params: tuple[tuple[str, str], ...]
    headers: tuple[tuple[str, str], ...]
    body: bytes


def _recorded(
    method: str,
    callback: object,
    path: str,
    params: Iterable[tuple[str, Any]] | None = None,
    data: str | bytes = "",
    headers: dict[str, str] | None = None,
) -> _Recorded:
    """The form of ``consul.base.HTTPClient``'s methods; ``callback`` would read the answer.

    A parameter given twice (renew does that to dc) goes once.
    """
    once = dict.fromkeys((name, str(value)) for name, value in params or ())
    body = data.encode() if isinstance(data, str) else data
    said = (*(headers or {}).items(), *((JSON_BODY,) if body else ()))
    # byte for byte: everything but unreserved characters and the slash is encoded, a % and a ? included
    return _Recorded(method, quote(path, safe="/"), tuple(once), said, body)


class _Http:
    """Stands where the endpoints expect a ``consul.base.HTTPClient``."""

    get = staticmethod(partial(_recorded, "GET"))
    put = staticmethod(partial(_recorded, "PUT"))


class _Agent:
    """Stands where the endpoints expect a ``consul.base.Consul``."""

    def __init__(self, options: ClientOptions) -> None:
        self.http = _Http()
        self.token = None  # the transports add it (`credentials`): it may change
        self.dc = options.dc
        self.consistency = "default"
        base = consul_base()
        home = base.Consul if hasattr(base.Consul, "Session") else base  # py-consul has them in the module
        self.session = home.Session(self)
        self.kv = home.KV(self)
        self.catalog = home.Catalog(self)

    def prepare_headers(self, token: str | None = None) -> dict[str, str]:
        """For py-consul, whose endpoints have the token put into the headers here."""
        return {}

    def __repr__(self) -> str:
        return "<_Agent>"


# ---------------------------------------------------------------------------------------------------- encoding


class Encoder:
    """Makes HTTP requests of the core's. One for each factory; imports python-consul2 (or py-consul).

    Args:
        options: of the factory; its dc goes into every request. The token is added by the transports.
    """

    def __init__(self, options: ClientOptions) -> None:
        self._agent = _Agent(options)
        self._access = Access(options.token_source)
        # Of Consul Enterprise; python-consul2 does not know them.
        enterprise = (("ns", options.namespace), ("partition", options.partition))
        self._enterprise = tuple([(name, value) for name, value in enterprise if value is not None])
        self._params = (*((("dc", options.dc),) if options.dc else ()), *self._enterprise)
        self._consistent = (*self._params, ("consistent", "1"))
        self._encoders: dict[type[Request], Callable[[Any], HttpRequest]] = {
            CreateSession: self._create_session,
            FindNode: self._find_node,
            DestroySession: self._destroy_session,
            RenewSession: self._renew_session,
            ReadSession: self._read_session,
            ReadKey: self._read_key,
            ReadPrefix: self._read_prefix,
            WatchSession: self._watch_session,
            WatchKey: self._watch_key,
            PollKey: self._poll_key,
            WatchNode: self._watch_node,
            WatchNames: self._watch_names,
            Transact: self._transact,
            RawTransact: self._raw_transact,
        }

    def encode(self, request: Request) -> HttpRequest:
        """The HTTP request for one of the core's.

        Raises:
            ConfigurationError: it holds what cannot be sent: an id that is no session's, or operations
                of a user's that JSON cannot carry. Nothing was sent.
        """
        return self._encoders[type(request)](request)

    def _create_session(self, request: CreateSession) -> HttpRequest:
        recorded = self._agent.session.create(
            name=request.name,
            node=request.node,
            # as text, because only "%s" is made of it; always sent, since Consul's own default is 15 s
            lock_delay=_delay_text(request.lock_delay),
            behavior=request.behavior,
            ttl=None if request.ttl is None else _short(request.ttl),
            checks=None if request.checks is None else list(request.checks),
        )
        return self._finish("session create", recorded, session_created, on=request.node)

    def _find_node(self, request: FindNode) -> HttpRequest:
        # Consul registers its servers as a service of its own, named "consul" (measured)
        recorded = self._agent.catalog.service("consul", dc=request.dc)
        # In Enterprise that service is in the default namespace and partition.
        look_up = self._finish("look-up of a datacenter's servers", recorded, nodes_found)
        return replace(look_up, params=recorded.params)

    def _destroy_session(self, request: DestroySession) -> HttpRequest:
        recorded = self._agent.session.destroy(_session_id(request.session_id))
        return self._finish("session destroy", recorded, done)

    def _renew_session(self, request: RenewSession) -> HttpRequest:
        session_id = _session_id(request.session_id)
        recorded = self._agent.session.renew(session_id)
        return self._finish("session renew", recorded, partial(renewed, session_id), missing=partial(gone, session_id))

    def _read_session(self, request: ReadSession) -> HttpRequest:
        recorded = self._agent.session.info(_session_id(request.session_id), consistency="consistent")
        return self._finish("session info", recorded, session_read)

    def _read_key(self, request: ReadKey) -> HttpRequest:
        return self._get(request.key, consistent=True)

    def _get(self, key: str, consistent: bool) -> HttpRequest:
        """A key by transaction: some Consuls take keys there that they refuse in /v1/kv (docs/consul_versions.rst)."""
        body = _encode([_Operation(Operation(Verb.GET, key))])
        return self._transaction(body, partial(decode_key, key), consistent, "kv get")

    def _read_prefix(self, request: ReadPrefix) -> HttpRequest:
        recorded = self._agent.kv.get(request.prefix, keys=True, consistency="consistent")
        return self._finish("kv names with prefix", recorded, names_read, names_missing, request.prefix)

    # Without an index Consul answers a watch at once, and the endpoints leave out an index of 0.

    def _watch_session(self, request: WatchSession) -> HttpRequest:
        session_id, wait = _session_id(request.name), _wait_text(request.wait)
        recorded = self._agent.session.info(session_id, index=request.index, wait=wait)
        return self._finish("session watch", recorded, session_read)

    def _watch_node(self, request: WatchNode) -> HttpRequest:
        recorded = self._agent.session.node(request.name, index=request.index, wait=_wait_text(request.wait))
        return self._finish("session watch on a node", recorded, sessions_read)

    def _watch_key(self, request: WatchKey) -> HttpRequest:
        recorded = self._agent.kv.get(request.name, index=request.index, wait=_wait_text(request.wait))
        watch = self._finish("kv watch", recorded, keys_read, keys_missing, request.name)
        return replace(watch, decode=partial(key_watched, watch.decode))

    def _watch_names(self, request: WatchNames) -> HttpRequest:
        wait = _wait_text(request.wait)
        recorded = self._agent.kv.get(request.name, keys=True, index=request.index, wait=wait)
        return self._finish("kv watch on names", recorded, names_read, names_missing, request.name)

    def _poll_key(self, request: PollKey) -> HttpRequest:
        return self._get(request.name, consistent=False)

    def _transact(self, request: Transact) -> HttpRequest:
        operations = request.operations
        body = _encode([_Operation(each) for each in operations])
        sessions = tuple([operation.session for operation in operations])
        return self._transaction(body, partial(decode_transaction, sessions), request.consistent)

    def _raw_transact(self, request: RawTransact) -> HttpRequest:
        try:
            body = json.dumps(request.operations, allow_nan=False).encode("ascii")  # msgspec makes null of a NaN
        except (TypeError, ValueError, RecursionError) as error:
            raise ConfigurationError(
                "operations", request.operations, f"operations in the form of Consul's JSON: {error}"
            ) from None
        sessions = []
        for operation in request.operations:
            inner = operation.get("KV") if isinstance(operation, dict) else None
            sessions.append(inner.get("Session") if isinstance(inner, dict) else None)
        return self._transaction(body, partial(decode_transaction, tuple(sessions)))

    def _transaction(
        self,
        body: bytes,
        read: Callable[..., Outcome],
        consistent: bool = False,
        operation: str = "transaction",
    ) -> HttpRequest:
        params = self._consistent if consistent else self._params
        return HttpRequest("PUT", "/v1/txn", params, (JSON_BODY,), body, partial(read, access=self._access), operation)

    def _finish(
        self,
        operation: str,
        recorded: _Recorded,
        read: Callable[[HttpResponse], Outcome],
        missing: Callable[[HttpResponse], Outcome | None] | None = None,
        on: str | None = None,
    ) -> HttpRequest:
        """The request with its decoder. ``missing`` reads a 404, where that is an answer; None: it is not."""
        access = self._access if on is None else self._access._replace(on=on)
        found = partial(decode, operation, read, missing, access=access)
        params = (*recorded.params, *self._enterprise)
        return HttpRequest(*recorded._replace(params=params), decode=found, operation=operation)


def _wait_text(wait: float) -> str:
    return f"{max(1, math.ceil(wait * 1000))}ms"


def _session_id(session_id: object) -> str:
    if not isinstance(session_id, str) or SESSION_ID.fullmatch(session_id) is None:
        raise ConfigurationError("session_id", session_id, "the id of a session is made of letters, digits and dashes")
    return session_id


def _short(seconds: float) -> float:
    """Seconds without a needless ``.0`` and with no more than milliseconds."""
    return int(seconds) if seconds == int(seconds) else round(seconds, 3)


def _delay_text(seconds: float) -> str:
    # Rounded up to whole milliseconds: Consul takes a lock-delay below 1,000 ns for one in seconds (source).
    return str(_short(math.ceil(round(seconds * 1000, 6)) / 1000))


class _Operation(Struct, gc=False):
    """An operation as Consul wants it; msgspec writes the value in base64, and of the verb its text."""

    KV: Operation


_encode = JsonEncoder().encode
