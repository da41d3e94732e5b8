"""Consul's address and access to it, from arguments and the environment, as Consul's own tools read them.

An error is a `ConfigurationError` that names the argument or the variable. `ClientOptions.build` in
`consul_locker.config.options` calls these functions.
"""

from __future__ import annotations

import inspect
import ipaddress
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from ..errors import ConfigurationError

__all__ = [
    "DEFAULT_HOST",
    "DEFAULT_PORT",
    "Address",
    "check_token",
    "client_certificate",
    "find_token",
    "of_enterprise",
    "plain_text",
    "read_token",
    "resolve_addresses",
    "switch",
    "token_source",
    "trusted_certificates",
]

DEFAULT_HOST = "127.0.0.1"

#: Where an agent listens by default; for an address without a scheme that names no port.
DEFAULT_PORT = 8500

#: The ports of URLs that name none, as in Consul's own tools.
URL_PORTS = {"http": 80, "https": 443}

#: What ``host`` may be.
_EXPECTED = "a host's name, an IP address or an address such as http://host:8500, or a list of these"

#: What the path of an address is made of: what a request line can carry, without a query or fragment.
_PATH = re.compile(r"(?:[!-~](?<![?#]))*")

#: The words that Go's ``strconv.ParseBool`` accepts; Consul's own tools read these variables with it.
_TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})
_FALSE = frozenset({"0", "f", "F", "false", "FALSE", "False"})

#: Stands for a token in an error.
_HIDDEN = "(hidden)"

#: What is said of a path that is no address.
_SOCKET = "the path of a socket follows unix://, as in unix:///run/consul.sock"


# ----------------------------------------------------------------------------------------------- addresses


@dataclass(frozen=True, slots=True)
class Address:
    """An address as it was written; None for each part that is missing."""

    scheme: str | None
    host: str | None
    port: int | None
    unix_path: str | None = None
    path: str = ""  #: what goes before every request's path, with its slash


def _parse_address(option: str, text: str) -> Address:
    """Read an address in any form that Consul's tools take.

    ``host``, ``host:port``, ``[::1]:8500``, ``[::1]``, ``::1``, ``:8500``, ``http://…``, ``https://…``,
    ``unix:///path``. One with ``http`` or ``https`` may have a path.
    """
    scheme, separator, rest = text.partition("://")
    if not separator:
        return _parse_host_port(option, text, None, text)
    if scheme == "unix":
        if not rest or "\0" in rest:
            raise ConfigurationError(option, text, _SOCKET)
        return Address(None, None, None, rest)
    if scheme not in URL_PORTS:
        raise ConfigurationError(option, text, "an address begins with http://, https:// or unix://, or has no scheme")
    if "@" not in rest:  # else the slash may be a password's; it is refused below
        rest, _, path = rest.partition("/")
        if not rest:
            raise ConfigurationError(option, text, f"a host's name follows {scheme}://, as in {scheme}://localhost:8500")
        found = _parse_host_port(option, rest, scheme, text)
        return replace(found, path=_path(option, path.rstrip("/"), text))
    return _parse_host_port(option, rest, scheme, text)


def _path(option: str, path: str, text: str) -> str:
    """The path of an address, which goes before ``/v1/...``."""
    if path == "v1":
        raise ConfigurationError(option, text, "the path is what stands before Consul's own /v1; leave /v1 out")
    if not _PATH.fullmatch(path) or any(segment in ("", ".", "..") for segment in path.split("/") if path):
        raise ConfigurationError(
            option, text, "after the host stands a path like /consul, percent-encoded, with no query or fragment"
        )
    return f"/{path}" if path else ""


def _parse_host_port(option: str, host_port: str, scheme: str | None, text: str) -> Address:
    """Read the host and port of an address; ``text`` is the whole address, for errors."""
    if "@" in host_port:
        _refuse_user(option)
    if host_port.startswith("/"):
        raise ConfigurationError(option, text, _SOCKET)
    if "," in host_port:
        raise ConfigurationError(option, text, 'this is one address; several are a list, as in host=["a", "b"]')
    if any(char in host_port for char in "/?#"):
        raise ConfigurationError(option, text, "an address has no query or fragment, and a path only after http(s)://")
    if host_port.startswith("["):
        host, closed, after = host_port[1:].partition("]")
        if not closed or (after and not after.startswith(":")):
            raise ConfigurationError(option, text, "an IPv6 address with a port looks like [::1]:8500")
        digits = after[1:] if after else None
        _check_ipv6(option, host, text)
    elif host_port.count(":") > 1:
        host, digits = host_port, None
        _check_ipv6(option, host, text)
    else:
        host, colon, after = host_port.partition(":")
        digits = after if colon else None
        host = _host_name(option, host, text)
    if digits is None:
        return Address(scheme, host, None)
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 5):
        raise ConfigurationError(option, text, "a port is a number from 1 to 65535")
    return Address(scheme, host, _port(option, int(digits), text))


def _refuse_user(option: str) -> NoReturn:
    # the value may hold a password, so the error does not repeat it
    raise ConfigurationError(option, _HIDDEN, "an address has no user or password; use token for access")


def _port(option: str, number: object, value: object) -> int:
    if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= 65_535:
        raise ConfigurationError(option, value, "a port is a number from 1 to 65535")
    return int(number)


def _check_ipv6(option: str, host: str, text: str) -> None:
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        raise ConfigurationError(
            option, text, "this is neither host:port nor an IPv6 address such as ::1 or [::1]:8500"
        ) from None


def _host_name(option: str, host: str, text: str) -> str:
    """A host's name in the form for DNS and an HTTP header."""
    if not host:
        return DEFAULT_HOST  # ":8500" is this machine, as in Consul's tools
    try:
        name = host.encode("idna").decode("ascii")
    except UnicodeError:
        name = ""
    if not name or any(not char.isprintable() or char in " ,\\[]%\"'<>" for char in name):
        raise ConfigurationError(option, text, "this is not a host's name")
    return name


def resolve_addresses(
    host: object, port: object, secure: bool | None, environ: Mapping[str, str]
) -> tuple[Address, ...]:
    """Where to connect, and whether with TLS, from the arguments and the environment: at least one address.

    ``port`` and ``secure`` hold for each. They are all different.
    """
    if port is not None:
        port = _port("port", port, port)
    if host is None:
        found = [_of_environment(each, port, secure, environ) for each in _written(environ)]
    elif isinstance(host, Sequence) and not isinstance(host, (str, bytes)):
        if not host:
            raise ConfigurationError("host", host, _EXPECTED)
        found = [_of_argument(each, port, secure, environ) for each in host]
    else:
        found = [_of_argument(host, port, secure, environ)]
    return tuple(dict.fromkeys(found))


def _written(environ: Mapping[str, str]) -> list[str]:
    """The addresses in CONSUL_HTTP_ADDR; one that is empty when it is not set."""
    written = environ.get("CONSUL_HTTP_ADDR", "").strip()
    if "," in written and "@" in written:  # the comma may be in the middle of a password: no piece may be repeated
        _refuse_user("CONSUL_HTTP_ADDR")
    addresses = [each.strip() for each in written.split(",")]
    if len(addresses) > 1 and not all(addresses):
        raise ConfigurationError("CONSUL_HTTP_ADDR", written, "addresses with a comma between each two of them")
    return addresses


def _of_environment(written: str, port: int | None, secure: bool | None, environ: Mapping[str, str]) -> Address:
    found = _parse_address("CONSUL_HTTP_ADDR", written) if written else Address(None, None, None)
    if port is not None:  # the argument beats what the variable says, a socket's path included
        found = Address(found.scheme, found.host, port, path=found.path)
    # Consul's tools never go back to http when CONSUL_HTTP_SSL asks for TLS
    scheme = "https" if found.scheme == "https" or switch(environ, "CONSUL_HTTP_SSL") else "http"
    if secure is not None:
        scheme = "https" if secure else "http"
    return _whole_address(found, scheme, None, secure)


def _of_argument(host: object, port: int | None, secure: bool | None, environ: Mapping[str, str]) -> Address:
    if not isinstance(host, str) or not host.strip():
        raise ConfigurationError("host", host, _EXPECTED)
    found = _parse_address("host", host.strip())
    if port is not None and (found.unix_path is not None or found.port not in (None, port)):
        raise ConfigurationError("host", host, f"this contradicts port={port}; give one of them")
    if secure is not None and found.scheme not in (None, "https" if secure else "http"):
        raise ConfigurationError("host", host, f"this contradicts secure={secure}; give one of them")
    tls = switch(environ, "CONSUL_HTTP_SSL") if secure is None else secure
    return _whole_address(found, found.scheme or ("https" if tls else "http"), port, secure)


def _whole_address(found: Address, scheme: str, port: int | None, secure: bool | None) -> Address:
    """An address with nothing missing."""
    if found.unix_path is not None:
        if secure:
            raise ConfigurationError("secure", secure, f"there is no TLS over the unix socket {found.unix_path}")
        return Address("http", None, None, found.unix_path)
    default_port = DEFAULT_PORT if found.scheme is None else URL_PORTS[scheme]
    return Address(scheme, found.host or DEFAULT_HOST, port or found.port or default_port, path=found.path)


# -------------------------------------------------------------------------------------------------- access


def find_token(token: object, environ: Mapping[str, str]) -> tuple[str | None, str | Callable[[], str] | None]:
    """The ACL token, and where to get it again: the path of its file, or a callable; None for a token that stays.

    A token file beats CONSUL_HTTP_TOKEN unless it is empty, as in Consul's tools. A callable is not called here.
    """
    if callable(token):
        if inspect.iscoroutinefunction(token):
            raise ConfigurationError("token", _HIDDEN, "a callable that gives the token is a plain function, not async")
        return None, token
    if token is not None:
        return check_token("token", token) or None, None
    path = environ.get("CONSUL_HTTP_TOKEN_FILE") or None
    found = "" if path is None else read_token(path)
    if not found:
        found = check_token("CONSUL_HTTP_TOKEN", environ.get("CONSUL_HTTP_TOKEN", ""))
    return found or None, path


def read_token(path: str) -> str:
    """What the file that CONSUL_HTTP_TOKEN_FILE names holds; empty when it holds nothing."""
    content = _content("CONSUL_HTTP_TOKEN_FILE", path).decode("utf-8", "replace").strip()
    return check_token("CONSUL_HTTP_TOKEN_FILE", content)


def check_token(source: str, token: object) -> str:
    """The token, when a header can carry it. An error names its source, but not the token."""
    if not isinstance(token, str) or not all("!" <= char <= "~" for char in token):
        raise ConfigurationError(source, _HIDDEN, "a token is a str of printable ASCII characters without spaces")
    return token


def token_source(token: object, found: str | None, environ: Mapping[str, str]) -> str | None:
    """Where the token came from, in words; None for none. ``found`` is what `find_token` has found."""
    if token is not None:
        return "argument token" if token else None
    path, variable = environ.get("CONSUL_HTTP_TOKEN_FILE"), environ.get("CONSUL_HTTP_TOKEN")
    if path and (found or "") != variable:
        return f"file {path}, of CONSUL_HTTP_TOKEN_FILE"
    return "CONSUL_HTTP_TOKEN" if found else None


def trusted_certificates(
    ca: object, environ: Mapping[str, str]
) -> tuple[tuple[str, ...], str | None, str | None]:
    """The certificates as PEM texts, or the file and the folder they are in, which are read again when they change."""
    if ca is None:
        return ((), *_trusted_of_environment(environ))
    if isinstance(ca, os.PathLike) or (isinstance(ca, str) and ca and "-----BEGIN " not in ca):
        path = os.fspath(ca)
        if not isinstance(path, str) or "\0" in path or not os.path.isfile(path):
            raise ConfigurationError(
                "ca", ca,
                "there is no such file (a folder is for CONSUL_CAPATH), and a PEM text has -----BEGIN CERTIFICATE-----",
            )  # fmt: skip
        return (), path, None
    texts = (ca,) if isinstance(ca, str) else tuple(ca) if isinstance(ca, Iterable) else ()
    if not texts or not all(isinstance(text, str) and "-----BEGIN " in text for text in texts):
        raise ConfigurationError(
            "ca", ca, "a list of certificates as PEM texts (-----BEGIN CERTIFICATE-----), or the path of a file of them"
        )
    return texts, None, None


def _trusted_of_environment(environ: Mapping[str, str]) -> tuple[str | None, str | None]:
    cafile = environ.get("CONSUL_CACERT") or None
    capath = environ.get("CONSUL_CAPATH") or None
    if cafile is not None:
        _content("CONSUL_CACERT", cafile)
    if capath is not None:
        try:
            os.listdir(capath)
        except OSError as error:
            raise ConfigurationError("CONSUL_CAPATH", capath, f"this folder cannot be read: {error.strerror}") from None
    return cafile, capath


def client_certificate(cert: object, key: object, environ: Mapping[str, str]) -> tuple[str | None, str | None]:
    """The files of the client's certificate and key; a pair is never mixed from arguments and environment."""
    names = ("cert", "key")
    if cert is None and key is None:
        names = ("CONSUL_CLIENT_CERT", "CONSUL_CLIENT_KEY")
        cert, key = (environ.get(name) or None for name in names)
    if cert is None:
        if key is not None:
            raise ConfigurationError(names[1], key, f"a key needs its certificate; give {names[0]} as well")
        return None, None
    return _readable(names[0], cert), None if key is None else _readable(names[1], key)


# ------------------------------------------------------------------------------------- variables and files


def switch(environ: Mapping[str, str], variable: str) -> bool | None:
    """A variable that is on or off, or None where it is not set."""
    text = environ.get(variable, "")
    if not text:
        return None
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ConfigurationError(variable, text, "true or false (or 1, 0, t, f)")


def plain_text(option: str, value: object, expected: str) -> str | None:
    """``value``, when it is None, or a text that is not empty and can be shown."""
    if value is None or (isinstance(value, str) and value.strip() and value.isprintable()):
        return value
    raise ConfigurationError(option, value, expected)


def of_enterprise(option: str, value: object, environ: Mapping[str, str]) -> str | None:
    """The name of a namespace or partition, from the argument or its variable."""
    if value is None:
        option = f"CONSUL_{option.upper()}"
        value = environ.get(option) or None
    return plain_text(option, value, "a name in Consul Enterprise, or None for the default one")


def _readable(option: str, value: object) -> str:
    """The path of a file that can be read."""
    if not isinstance(value, (str, os.PathLike)):
        raise ConfigurationError(option, value, "the path of a file in PEM form")
    path = os.fspath(value)
    _content(option, path)
    return str(path)


def _content(option: str, path: Any) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or error
        raise ConfigurationError(option, path, f"this file cannot be read: {reason}") from None
