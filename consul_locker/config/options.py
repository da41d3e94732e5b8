"""The options of a factory and of a Locker: frozen, and checked once, when they are built.

An error is a `ConfigurationError` that names the option (or the environment variable), the value, and what is expected.
After this module no option needs another check.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from ..errors import ConfigurationError
from ..keys import check_name
from ..strategies import Strategy
from .environment import (
    DEFAULT_HOST,
    DEFAULT_PORT,
    Address,
    client_certificate,
    find_token,
    resolve_addresses,
    switch,
    token_source,
    trusted_certificates,
)
from .lockers import check_ids, check_strategy, json_mapping

__all__ = ["ClientOptions", "LockerOptions", "RetryInterval"]

#: A pause in seconds, or a callable that computes it from the number of the retry (1 for the first).
RetryInterval = float | Callable[[int], float]

#: The limit on a whole HTTP request, in seconds. An agent without a leader answers after up to 7 s (measured), and its
#: answer is useful.
DEFAULT_TIMEOUT = 10.0

#: Consul refuses more than 200 connections from one address (``http_max_conns_per_client``); a third of
#: that leaves room for other programs on the machine.
DEFAULT_MAX_CONNECTIONS = 64
#: The fewest: one for renewals, one for requests that callers carry, one for all others. With so few, no request may
#: stay open for long: watches become polls.
FEWEST_CONNECTIONS = 3
FEW_CONNECTIONS = (
    f"a whole number, at least {FEWEST_CONNECTIONS}: one connection for renewals, one for what callers carry "
    "themselves, one for all else"
)

#: The range of a session's TTL, in seconds; Consul answers 500 outside of it (measured).
MIN_TTL, MAX_TTL = 10.0, 86_400.0

#: The longest lock-delay, in seconds; Consul silently shortens a longer one to it.
MAX_LOCK_DELAY = 60.0


# ------------------------------------------------------------------------------------------- single values


def _number(option: str, value: object, low: float, high: float, expected: str) -> float:
    """``value`` as a float, when it is a number from ``low`` to ``high``."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ConfigurationError(option, value, expected)
    # nan fails every comparison; an int too large for a float is never converted
    if not low <= value <= high or value == math.inf:
        raise ConfigurationError(option, value, expected)
    return float(value)


def _whole(option: str, value: object, low: int, high: int, expected: str) -> int:
    """``value`` as an int, when it is a whole number from ``low`` to ``high``."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ConfigurationError(option, value, expected)
    return int(value)


def _truth(option: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise ConfigurationError(option, value, "True or False")
    return value


def _plain_text(option: str, value: object, expected: str) -> str | None:
    """``value``, when it is None, or a text that is not empty and can be shown."""
    if value is None or (isinstance(value, str) and value.strip() and value.isprintable()):
        return value
    raise ConfigurationError(option, value, expected)


# ------------------------------------------------------------------------------------------- the HTTP client


@dataclass(frozen=True, slots=True, repr=False)
class ClientOptions:
    """How to reach Consul. Made by `build`.

    Attributes:
        scheme: ``"http"`` or ``"https"``.
        host: name or address, without brackets; unused with ``unix_path``.
        port: 1 to 65535; unused with ``unix_path``.
        unix_path: the path of a unix socket, or None for TCP.
        path: what goes before the path of every request, with its slash; empty for nothing.
        token: the ACL token, or None. Never in a repr, log or error.
        token_source: where it came from, in words; None with no token.
        token_from: where to get it again: the path of its file, or a callable; None for a token that stays.
        ca: trusted certificates as PEM texts; empty for those of ``cafile``, ``capath`` or the system.
        cafile: a file of trusted certificates, or None.
        capath: a folder of trusted certificates, or None.
        cert: the file of the client's certificate, or None.
        key: the file of its key, or None when ``cert`` holds both.
        dc: the datacenter, or None for the agent's own.
        namespace: of Consul Enterprise, or None for the token's own.
        partition: of Consul Enterprise, or None for the agent's own.
        timeout: the limit on every HTTP request as a whole, in seconds.
        max_connections: how many connections may be open at once.
        verify: whether the server's certificate is checked.
        server_name: the name that it must have, or None for ``host``.
        others: more addresses of the same datacenter; all else holds for each of them.
    """

    scheme: str
    host: str
    port: int
    unix_path: str | None
    path: str
    token: str | None
    token_source: str | None
    token_from: str | Callable[[], str] | None
    ca: tuple[str, ...]
    cafile: str | None
    capath: str | None
    cert: str | None
    key: str | None
    dc: str | None
    namespace: str | None
    partition: str | None
    timeout: float
    max_connections: int
    verify: bool
    server_name: str | None
    others: tuple[Address, ...] = ()

    @classmethod
    def build(
        cls,
        host: str | Sequence[str] | None = None,
        port: int | None = None,
        secure: bool | None = None,
        ca: Iterable[str] | str | os.PathLike[str] | None = None,
        *,
        token: str | Callable[[], str] | None = None,
        cert: str | os.PathLike[str] | None = None,
        key: str | os.PathLike[str] | None = None,
        verify: bool | None = None,
        dc: str | None = None,
        namespace: str | None = None,
        partition: str | None = None,
        timeout: float | None = None,
        max_connections: int | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> ClientOptions:
        """Check the options and fill in what is None: from the environment, else by default.

        An argument always beats the environment; an address of the environment is replaced as a whole by
        ``host``. An address without a scheme that names no port means 8500; a URL without one means 80 or
        443, as it does for Consul's own tools.

        Args:
            host: name, IP address or whole address, or a sequence of these (``CONSUL_HTTP_ADDR``, with commas between
                several, else 127.0.0.1).
            port: 1 to 65535.
            secure: whether to use TLS (``CONSUL_HTTP_SSL``, else False).
            ca: the trusted certificates: PEM texts, or the path of a file with them (``CONSUL_CACERT`` and
                ``CONSUL_CAPATH``, else the system's).
            token: the ACL token (``CONSUL_HTTP_TOKEN_FILE``, ``CONSUL_HTTP_TOKEN``), or a callable without arguments
                that returns it; ``""`` for none at all.
            cert: the file of the client's certificate in PEM form (``CONSUL_CLIENT_CERT``).
            key: the file of its key (``CONSUL_CLIENT_KEY``).
            verify: whether Consul's certificate is checked (``CONSUL_HTTP_SSL_VERIFY``, else True).
            dc: the datacenter.
            namespace: the namespace of Consul Enterprise (``CONSUL_NAMESPACE``).
            partition: its admin partition (``CONSUL_PARTITION``).
            timeout: seconds for every HTTP request as a whole, above 0 (10.0).
            max_connections: at least 3 (64).
            environ: the environment.

        Raises:
            ConfigurationError: an option or a variable is not valid.
        """
        if secure is not None:
            _truth("secure", secure)
        address, *others = resolve_addresses(host, port, secure, environ)
        verify = switch(environ, "CONSUL_HTTP_SSL_VERIFY") if verify is None else _truth("verify", verify)
        texts, cafile, capath = trusted_certificates(ca, environ)
        client_cert, client_key = client_certificate(cert, key, environ)
        secret, token_from = find_token(token, environ)
        return cls(
            **_where(address),
            token=secret,
            token_source=token_source(token, secret, environ),
            token_from=token_from,
            ca=texts,
            cafile=cafile,
            capath=capath,
            cert=client_cert,
            key=client_key,
            dc=_plain_text("dc", dc, "the name of a datacenter, or None for the agent's own"),
            namespace=_of_enterprise("namespace", namespace, environ),
            partition=_of_enterprise("partition", partition, environ),
            timeout=_positive("timeout", timeout, DEFAULT_TIMEOUT),
            max_connections=DEFAULT_MAX_CONNECTIONS
            if max_connections is None
            else _whole("max_connections", max_connections, FEWEST_CONNECTIONS, 1_000_000, FEW_CONNECTIONS),
            verify=verify is not False,
            server_name=environ.get("CONSUL_TLS_SERVER_NAME") or None,
            others=tuple(others),
        )

    @property
    def each(self) -> tuple[ClientOptions, ...]:
        """The options for each address alone, in the order in which they were given."""
        first = replace(self, others=())
        return first, *(replace(first, **_where(address)) for address in self.others)

    @property
    def authority(self) -> str:
        """What the ``Host`` header says."""
        if self.unix_path is not None:
            return "localhost"
        return f"[{self.host.partition('%')[0]}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def address(self) -> str:
        """The address in words, for messages."""
        if self.unix_path is not None:
            return f"unix://{self.unix_path}"
        return f"{self.scheme}://{self.authority}{self.path}"

    @property
    def addresses(self) -> str:
        """All addresses in words."""
        return ", ".join([one.address for one in self.each])

    def __repr__(self) -> str:
        token = ", token=(hidden)" if self.token or self.token_from else ""
        return f"<ClientOptions {self.addresses}{token}, timeout={self.timeout:g}>"


def _where(address: Address) -> dict[str, Any]:
    """The fields of `ClientOptions` that an address has."""
    return {
        "scheme": address.scheme or "http",
        "host": address.host or DEFAULT_HOST,
        "port": address.port or DEFAULT_PORT,
        "unix_path": address.unix_path,
        "path": address.path,
    }


def _of_enterprise(option: str, value: object, environ: Mapping[str, str]) -> str | None:
    """The name of a namespace or partition, from the argument or its variable."""
    if value is None:
        option = f"CONSUL_{option.upper()}"
        value = environ.get(option) or None
    return _plain_text(option, value, "a name in Consul Enterprise, or None for the default one")


def _positive(option: str, value: object, default: float) -> float:
    if value is None:
        return default
    seconds = _number(option, value, 0.0, math.inf, "seconds, a number above 0")
    if seconds == 0.0:
        raise ConfigurationError(option, value, "seconds, a number above 0")
    return seconds


# ------------------------------------------------------------------------------------------------- a Locker


@dataclass(frozen=True, slots=True)
class LockerOptions:
    """How a Locker behaves. Made by `build`, which says what each option means."""

    name: str
    max_retries: int | None
    outage_timeout: float | None
    retry_interval: RetryInterval
    ttl: float | None
    lock_delay: float
    checks: tuple[str, ...] | None
    behavior: str
    node: str | None
    dc: str | None
    token_source: str | None
    strategy: Strategy | None
    value: Mapping[str, Any]
    flags: int
    delete_on_release: bool
    identify_holder: bool
    fair: bool
    default_timeout: float | None
    #: By signal; checked by `observing.observers_of`.
    observers: Mapping[str, tuple[Callable[..., Any], ...]] = field(default_factory=dict)

    @classmethod
    def build(
        cls,
        name: str,
        *,
        max_retries: int | None = None,
        outage_timeout: float | None = 20.0,
        retry_interval: RetryInterval = 30.0,
        ttl: float | None = 15.0,
        lock_delay: float = 0.0,
        checks: Iterable[str] | None = None,
        behavior: str = "release",
        node: str | None = None,
        dc: str | None = None,
        token_source: str | None = None,
        strategy: Strategy | None = None,
        value: Mapping[str, Any] | None = None,
        flags: int = 0,
        delete_on_release: bool = False,
        identify_holder: bool = True,
        fair: bool = False,
        default_timeout: float | None = None,
    ) -> LockerOptions:
        """Check the options of a Locker.

        Args:
            name: Lockers that compete must have the same; it is the first part of every key.
            max_retries: how often a failed session is tried again before giving up; None without limit.
            outage_timeout: how long a call rides over an outage of Consul, in seconds (docs/outages.rst); None for
                ever, 0: nothing is repeated, and calls without a session have no limit.
            retry_interval: the longest pause between retries in seconds, or a callable (number of the
                retry, 1 for the first) -> seconds. 0 means no pause.
            ttl: the session's time to live in seconds, 10 to 86400; None for a session without one.
            lock_delay: seconds, 0 to 60, for which Consul keeps a lock closed after its holder's session ended.
            checks: the ids of the health checks that end the session when they fail; None for none
                when there is a ttl, else Consul's own choice.
            behavior: what the session's end does to its keys, ``"release"`` or ``"delete"``.
            node: the Consul node that the session belongs to; None for the agent's own, or with a ``dc`` that is
                another one a server of that.
            dc: the datacenter, as the factory has it.
            token_source: where the token came from, as the factory has it.
            strategy: what is remembered of grants; None for nothing (`LockerFactory.create` gives the
                permanent one unless it is told otherwise).
            value: what every lock's value holds besides its own entries (pid, host, name, tenure); a mapping that JSON
                can carry, with none of these in it.
            flags: Consul's flags of a lock's key, 0 to 2**64 - 1.
            delete_on_release: whether a released lock's key is deleted.
            identify_holder: whether a denied call reads who has the lock.
            fair: whether waiters of different processes are served in the order in which they came
                (docs/fairness.rst).
            default_timeout: the limit of calls that name none, in seconds; None for no limit.

        Raises:
            ConfigurationError: an option is not valid.
        """
        if behavior not in ("release", "delete"):
            raise ConfigurationError("behavior", behavior, '"release" or "delete"')
        return cls(
            name=check_name(name),
            max_retries=None
            if max_retries is None
            else _whole("max_retries", max_retries, 0, 2**63, "a whole number, 0 or more, or None for no limit"),
            outage_timeout=None
            if outage_timeout is None
            else _number("outage_timeout", outage_timeout, 0.0, math.inf, "seconds, 0 or more, or None for no limit"),
            retry_interval=retry_interval
            if callable(retry_interval)
            else _number("retry_interval", retry_interval, 0.0, math.inf, "seconds, 0 or more, or a callable"),
            ttl=None
            if ttl is None
            else _number("ttl", ttl, MIN_TTL, MAX_TTL, "seconds, 10 to 86400 (Consul's limits), or None for no TTL"),
            lock_delay=_number("lock_delay", lock_delay, 0.0, MAX_LOCK_DELAY, "seconds, 0 to 60 (Consul's limit)"),
            checks=None if checks is None else check_ids(checks),
            behavior=behavior,
            node=_plain_text("node", node, "the name of a Consul node, or None for the agent's own"),
            dc=dc,
            token_source=token_source,
            strategy=None if strategy is None else check_strategy(strategy),
            value=MappingProxyType({} if value is None else json_mapping(value)),
            flags=_whole("flags", flags, 0, 2**64 - 1, "a whole number, 0 to 2**64 - 1"),
            delete_on_release=_truth("delete_on_release", delete_on_release),
            identify_holder=_truth("identify_holder", identify_holder),
            fair=_truth("fair", fair),
            default_timeout=None
            if default_timeout is None
            else _number("default_timeout", default_timeout, 0.0, math.inf, "seconds, 0 or more, or None for no limit"),
        )

    @property
    def session_checks(self) -> tuple[str, ...] | None:
        """The checks that the session is created with; None leaves them to Consul.

        With a TTL there are none by default: a cut-off agent's serfHealth would free the locks within
        6 s, long before the TTL.
        """
        if self.checks is None and self.ttl is not None:
            return ()
        return self.checks
