"""config and environment: each option checked once; arguments before the environment before defaults."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path
from typing import Any

import pytest

from consul_locker.config.options import ClientOptions, LockerOptions
from consul_locker.errors import ConfigurationError
from consul_locker.strategies import PermanentStrategy

PEM = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"


def client(*args: Any, env: dict[str, str] | None = None, **options: Any) -> ClientOptions:
    return ClientOptions.build(*args, environ=env or {}, **options)


def place(options: ClientOptions) -> tuple[Any, ...]:
    if options.unix_path is not None:
        return (options.unix_path,)
    return options.scheme, options.host, options.port


def refused(option: str, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        client(*args, **kwargs)
    assert caught.value.option == option
    assert option in str(caught.value)
    return str(caught.value)


# ---------------------------------------------------------------------------------------------- addresses

ADDRESSES = [
    ("consul.example", ("http", "consul.example", 8500)),
    ("consul.example:8501", ("http", "consul.example", 8501)),
    ("[::1]:8501", ("http", "::1", 8501)),
    ("[::1]", ("http", "::1", 8500)),
    ("::1", ("http", "::1", 8500)),
    ("fe80::1%eth0", ("http", "fe80::1%eth0", 8500)),
    (":8501", ("http", "127.0.0.1", 8501)),
    ("http://h:8501", ("http", "h", 8501)),
    ("http://h:8501/", ("http", "h", 8501)),
    ("https://h:8501", ("https", "h", 8501)),
    ("https://[::1]:8501", ("https", "::1", 8501)),
    ("http://h", ("http", "h", 80)),
    ("https://h", ("https", "h", 443)),
    ("unix:///run/consul.sock", ("/run/consul.sock",)),
    ("bücher.example", ("http", "xn--bcher-kva.example", 8500)),
]


@pytest.mark.parametrize(("text", "expected"), ADDRESSES)
def test_an_address_means_the_same_as_argument_and_in_the_environment(text: str, expected: tuple[Any, ...]) -> None:
    assert place(client(text)) == expected
    assert place(client(env={"CONSUL_HTTP_ADDR": f" {text} "})) == expected
    assert place(client(text, env={"CONSUL_HTTP_ADDR": "https://other:1"})) == expected


BAD_ADDRESSES = [
    "ftp://h",
    "unix://",
    "http://h/v1",
    "h:8500/",
    "http://h?x=1",
    "http://h#x",
    "[::1",
    "[::1]8500",
    "[::x]:1",
    "::x",
    "h:",
    "h:0",
    "h:65536",
    "h:٣",
    "h:123456",
    "h h",
    "h\x00",
    "a..b",
    "x" * 70,
]


@pytest.mark.parametrize("text", BAD_ADDRESSES)
def test_an_address_that_cannot_be_meant_is_refused(text: str) -> None:
    assert repr(text)[:20] in refused("host", text)
    refused("CONSUL_HTTP_ADDR", env={"CONSUL_HTTP_ADDR": text})


def test_a_password_in_an_address_is_refused_and_not_repeated() -> None:
    assert "secret" not in refused("host", "http://me:secret@h:8500")


@pytest.mark.parametrize("host", ["", "  ", 5, b"h"])
def test_a_host_is_a_text(host: Any) -> None:
    refused("host", host)


@pytest.mark.parametrize("port", [0, -1, 65_536, "8500", True, 8500.0])
def test_a_port_is_a_number(port: Any) -> None:
    refused("port", "h", port)


def test_arguments_beat_the_environment() -> None:
    env = {"CONSUL_HTTP_ADDR": "https://other:1234", "CONSUL_HTTP_SSL": "1", "CONSUL_HTTP_TOKEN": "theirs"}
    assert place(client(env=env)) == ("https", "other", 1234)
    assert place(client(port=8501, env=env)) == ("https", "other", 8501)
    assert place(client(secure=False, env=env)) == ("http", "other", 1234)
    assert place(client("h", env=env)) == ("https", "h", 8500)
    assert place(client("h", secure=False, env=env)) == ("http", "h", 8500)
    assert place(client("http://h", 8500, env=env)) == ("http", "h", 8500)
    assert place(client("h:8501", 8501, True)) == ("https", "h", 8501)
    assert place(client("https://h", secure=True)) == ("https", "h", 443)
    assert client(token="mine", env=env).token == "mine"
    assert client(token="", env=env).token is None
    assert client(env=env).token == "theirs"
    # a port given as an argument leaves nothing of a socket's path in the environment
    assert place(client(port=8501, env={"CONSUL_HTTP_ADDR": "unix:///s"})) == ("http", "127.0.0.1", 8501)


@pytest.mark.parametrize(
    ("args", "option"),
    [
        (("h:8501", 8500), "host"),
        (("unix:///s", 8500), "host"),
        (("http://h", None, True), "host"),
        (("https://h", None, False), "host"),
        (("unix:///s", None, True), "secure"),
        (("h", None, 1), "secure"),
    ],
)
def test_contradictions_are_refused(args: tuple[Any, ...], option: str) -> None:
    refused(option, *args)


@pytest.mark.parametrize("text", ["1", "t", "T", "true", "TRUE", "True"])
def test_a_switch_is_on(text: str) -> None:
    assert client(env={"CONSUL_HTTP_SSL": text}).scheme == "https"
    assert client("h", env={"CONSUL_HTTP_SSL": text}).scheme == "https"
    # Consul's tools never go back to http when TLS was asked for
    assert client(env={"CONSUL_HTTP_SSL": text, "CONSUL_HTTP_ADDR": "http://h"}).scheme == "https"
    assert client(env={"CONSUL_HTTP_SSL_VERIFY": text}).verify


@pytest.mark.parametrize("text", ["0", "f", "F", "false", "FALSE", "False"])
def test_a_switch_is_off(text: str) -> None:
    assert client(env={"CONSUL_HTTP_SSL": text}).scheme == "http"
    assert not client(env={"CONSUL_HTTP_SSL_VERIFY": text}).verify


def test_a_switch_that_is_neither_is_refused() -> None:
    refused("CONSUL_HTTP_SSL", env={"CONSUL_HTTP_SSL": "yes"})
    refused("CONSUL_HTTP_SSL_VERIFY", env={"CONSUL_HTTP_SSL_VERIFY": "no"})


# --------------------------------------------------------------------------------------- token, certificates


def test_the_token_file_beats_the_token_of_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("  from-file\n")
    env = {"CONSUL_HTTP_TOKEN_FILE": str(file), "CONSUL_HTTP_TOKEN": "plain"}
    assert client(env=env).token == "from-file"
    assert client(token="mine", env=env).token == "mine"
    file.write_text("\n")
    assert client(env=env).token == "plain"
    assert client(env={"CONSUL_HTTP_TOKEN_FILE": str(file)}).token is None


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    gone = str(tmp_path / "gone")
    for variable in ("CONSUL_HTTP_TOKEN_FILE", "CONSUL_CACERT", "CONSUL_CAPATH", "CONSUL_CLIENT_CERT"):
        text = refused(variable, env={variable: gone})
        assert gone in text
        assert "No such file" in text
    refused("cert", cert=gone)
    refused("cert", cert="\0")
    refused("cert", cert=5)


@pytest.mark.parametrize("token", ["a b", "a\r\nX: y", "é", 5, b"x", "secret\x7f"])
def test_a_token_that_no_header_can_carry_is_refused_and_not_repeated(token: Any) -> None:
    text = refused("token", token=token)
    assert "secret" not in text
    if isinstance(token, str):
        refused("CONSUL_HTTP_TOKEN", env={"CONSUL_HTTP_TOKEN": token})


def test_a_token_is_in_no_repr() -> None:
    options = client(token="very-secret")
    assert "very-secret" not in repr(options) + str(options)
    assert "hidden" in repr(options)
    assert "hidden" not in repr(client())


def test_trusted_certificates(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text(PEM)
    env = {"CONSUL_CACERT": str(file), "CONSUL_CAPATH": str(tmp_path), "CONSUL_TLS_SERVER_NAME": "server.dc1.consul"}
    options = client(env=env)
    assert (options.ca, options.cafile, options.capath) == ((), str(file), str(tmp_path))
    assert options.server_name == "server.dc1.consul"
    options = client(ca=[PEM, PEM], env=env)
    assert (options.ca, options.cafile, options.capath) == ((PEM, PEM), None, None)
    assert client(ca=PEM).ca == (PEM,)


@pytest.mark.parametrize("ca", [[], "", "/etc/ca.pem", [PEM, 5], 5, ["x"]])
def test_ca_is_a_list_of_pem_texts(ca: Any) -> None:
    refused("ca", ca=ca)


def test_the_client_certificate_is_a_pair_from_one_source(tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert.write_text(PEM)
    key.write_text(PEM)
    env = {"CONSUL_CLIENT_CERT": str(key), "CONSUL_CLIENT_KEY": str(cert)}
    options = client(cert=cert, key=str(key), env=env)
    assert (options.cert, options.key) == (str(cert), str(key))
    options = client(env=env)
    assert (options.cert, options.key) == (str(key), str(cert))
    assert client(cert=cert, env=env).key is None
    refused("key", key=key, env=env)
    refused("CONSUL_CLIENT_KEY", env={"CONSUL_CLIENT_KEY": str(key)})


# --------------------------------------------------------------------------------------------------- others


def test_the_defaults() -> None:
    options = client()
    assert place(options) == ("http", "127.0.0.1", 8500)
    assert (options.timeout, options.max_connections, options.verify) == (10.0, 64, True)
    assert (options.token, options.dc, options.ca, options.server_name) == (None, None, (), None)
    assert client(timeout=3, max_connections=3, dc="dc1") == dataclasses.replace(
        options, timeout=3.0, max_connections=3, dc="dc1"
    )
    assert pickle.loads(pickle.dumps(options)) == options
    with pytest.raises(dataclasses.FrozenInstanceError):
        options.port = 1


@pytest.mark.parametrize("timeout", [0, 0.0, -1, True, "3", float("nan"), float("inf")])
def test_a_timeout_is_above_zero(timeout: Any) -> None:
    refused("timeout", timeout=timeout)


@pytest.mark.parametrize("count", [0, 1, 2, -1, True, 1.5, "8"])
def test_max_connections_is_at_least_three(count: Any) -> None:
    """One for renewals, one for callers, one for all else: fewer would let one of them hold up the others."""
    assert "at least 3" in str(refused("max_connections", max_connections=count))


@pytest.mark.parametrize("dc", ["", " ", 5, "a\nb"])
def test_a_dc_is_a_name(dc: Any) -> None:
    refused("dc", dc=dc)


def test_what_the_host_header_and_messages_say() -> None:
    assert client("h:1").authority == "h:1"
    assert client("fe80::1%eth0").authority == "[fe80::1]:8500"
    assert client("unix:///s").authority == "localhost"
    assert client("unix:///s").address == "unix:///s"
    assert client("https://h").address == "https://h:443"


# ----------------------------------------------------------------------------------------------- LockerOptions


def test_the_defaults_of_a_locker() -> None:
    options = LockerOptions.build("writer")
    assert dataclasses.asdict(dataclasses.replace(options, value={})) == {
        "name": "writer",
        "max_retries": 10,
        "retry_interval": 30.0,
        "ttl": 15.0,
        "lock_delay": 0.0,
        "checks": None,
        "behavior": "release",
        "node": None,
        "dc": None,
        "strategy": None,
        "value": {},
        "flags": 0,
        "delete_on_release": False,
        "identify_holder": True,
        "fair": False,
        "default_timeout": None,
        "observers": {},
    }


def pause(retry: int) -> float:
    return 0.0


def test_what_a_locker_can_be_given() -> None:
    strategy = PermanentStrategy()
    options = LockerOptions.build(
        "a/b",
        max_retries=0,
        retry_interval=0,
        ttl=10,
        lock_delay=60,
        checks=["serfHealth"],
        behavior="delete",
        node="node 1",
        strategy=strategy,
        flags=2**64 - 1,
        delete_on_release=True,
        identify_holder=False,
        fair=False,
        default_timeout=0,
    )
    assert options.max_retries == 0
    assert options.retry_interval == 0.0
    assert options.strategy is strategy
    assert options.checks == ("serfHealth",)
    assert options.session_checks == ("serfHealth",)
    assert options.node == "node 1"
    assert options.default_timeout == 0.0
    options = LockerOptions.build("a", max_retries=None, retry_interval=pause, ttl=None)
    assert options.max_retries is None
    assert options.retry_interval is pause


def test_the_checks_of_the_session() -> None:
    assert LockerOptions.build("a").session_checks == ()
    assert LockerOptions.build("a", ttl=None).session_checks is None
    assert LockerOptions.build("a", ttl=None, checks=[]).session_checks == ()


def test_a_value_is_copied() -> None:
    value: dict[str, Any] = {"role": ["writer"], "é": None}
    options = LockerOptions.build("a", value=value)
    value["role"].append("reader")
    assert options.value == {"role": ["writer"], "é": None}
    with pytest.raises(TypeError):
        options.value["x"] = 1


NAN, INFINITE = float("nan"), float("inf")
ENDLESS: dict[str, Any] = {}
ENDLESS["self"] = ENDLESS


@pytest.mark.parametrize(
    ("option", "value"),
    [("name", value) for value in ("", "..", "a//b", "/a", "a\n", 5, "x" * 513)]
    + [("max_retries", value) for value in (-1, 1.0, True, "1", NAN)]
    + [("retry_interval", value) for value in (-1, True, "1", None, NAN, INFINITE)]
    + [("ttl", value) for value in (0, 9.99, 86_401, True, "15s", NAN, INFINITE, 10**400)]
    + [("lock_delay", value) for value in (-0.1, 60.1, True, "1", None, NAN)]
    + [("node", value) for value in ("", " ", "a\n", b"x", 5)]
    + [("checks", value) for value in ("serfHealth", b"x", {"a": 1}, 5, [""], [5], [None])]
    + [("behavior", value) for value in ("", "Release", None, True)]
    + [("strategy", value) for value in (PermanentStrategy, "permanent", 5)]
    + [("value", value) for value in ([], "x", {5: 1}, {"a": object()}, {"a": NAN}, ENDLESS, {"a": "x" * 300_000})]
    + [("value", {entry: 1}) for entry in ("pid", "host", "name", "tenure")]
    + [("flags", value) for value in (-1, 2**64, True, 1.0, None)]
    + [(option, value) for option in ("delete_on_release", "identify_holder", "fair") for value in (None, 1, "no")]
    + [("default_timeout", value) for value in (-1, True, "1", NAN, INFINITE)],
)
def test_what_a_locker_cannot_be_given(option: str, value: Any) -> None:
    options: dict[str, Any] = {"name": "a", option: value}
    with pytest.raises(ConfigurationError) as caught:
        LockerOptions.build(**options)
    assert caught.value.option == option
    assert len(str(caught.value)) < 1_000


def test_a_strategy_of_ones_own() -> None:
    class Own:
        shares_in_flight = False

        def keeps(self, lease: Any) -> bool:
            return False

        def serves(self, lease: Any, now: float) -> bool:
            return False

    own = Own()
    assert LockerOptions.build("a", strategy=own).strategy is own
