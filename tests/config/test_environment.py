"""environment: arguments before the environment before defaults, and what an address means."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest

from .tools import PEM, client, place, refused

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
    "http://",
    "https:///consul",
    "unix://",
    "http://h/v1",
    "h:8500/",
    "http://h/consul/v1/../x",
    "http://h/a//b",
    "http://h/a b",
    "http://h/consul?x=1",
    "http://h/consul#x",
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


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("https://gateway/consul", "https://gateway:443/consul"),
        ("http://[::1]:8501/a/b%20c/", "http://[::1]:8501/a/b%20c"),
        ("http://h:8500//", "http://h:8500"),
    ],
)
def test_an_address_with_a_path(text: str, address: str) -> None:
    assert client(text).address == client(env={"CONSUL_HTTP_ADDR": text}).address == address
    assert client(port=1, env={"CONSUL_HTTP_ADDR": text}).path == client(text).path


@pytest.mark.parametrize("text", BAD_ADDRESSES)
def test_an_address_that_cannot_be_meant_is_refused(text: str) -> None:
    assert repr(text)[:20] in refused("host", text)
    refused("CONSUL_HTTP_ADDR", env={"CONSUL_HTTP_ADDR": text})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("/run/consul.sock", "follows unix://"),
        ("10.0.0.1:8500,10.0.0.2:8500", "several are a list"),
        ("https:10.0.0.1:8501", "neither host:port nor an IPv6 address"),
    ],
)
def test_an_address_of_another_form_is_told_its_own(text: str, words: str) -> None:
    assert words in refused("host", text)


def test_a_password_in_an_address_is_refused_and_not_repeated() -> None:
    assert "secret" not in refused("host", "http://me:secret@h:8500")
    assert "secret" not in refused("host", "http://me:sl/secret@h:8500")


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
    assert client(env={"CONSUL_HTTP_SSL_VERIFY": text}, verify=True).verify
    assert not client(env={"CONSUL_HTTP_SSL_VERIFY": "true"}, verify=False).verify


def test_a_switch_that_is_neither_is_refused() -> None:
    refused("CONSUL_HTTP_SSL", env={"CONSUL_HTTP_SSL": "yes"})
    refused("CONSUL_HTTP_SSL_VERIFY", env={"CONSUL_HTTP_SSL_VERIFY": "no"})


# --------------------------------------------------------------------------------------- token, certificates


def test_the_token_file_beats_the_token_of_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("  from-file\n")
    env = {"CONSUL_HTTP_TOKEN_FILE": str(file), "CONSUL_HTTP_TOKEN": "plain"}
    assert client(env=env).token == "from-file"
    assert client(env=env).token_source == f"file {file}, of CONSUL_HTTP_TOKEN_FILE"
    assert client(token="mine", env=env).token == "mine"
    assert client(token="mine", env=env).token_source == "argument token"
    assert client(token="", env=env).token_source is client().token_source is None
    file.write_text("\n")
    assert client(env=env).token == "plain"
    assert client(env=env).token_source == "CONSUL_HTTP_TOKEN"
    assert client(env={"CONSUL_HTTP_TOKEN_FILE": str(file)}).token is None
    assert client(env=env).token_from == str(file)  # it may hold one later
    assert client(token="mine", env=env).token_from is None


def test_a_token_may_be_a_callable_which_is_not_called_yet() -> None:
    def token() -> str:
        raise AssertionError

    options = client(token=token, env={"CONSUL_HTTP_TOKEN": "theirs"})
    assert (options.token, options.token_from) == (None, token)
    assert "hidden" in repr(options)


def test_a_callable_that_is_async_is_refused() -> None:
    async def token(secret: str) -> str:
        return secret

    text = refused("token", token=functools.partial(token, "very-secret"))
    assert "not async" in text
    assert "very-secret" not in text


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


def test_names_in_consul_enterprise() -> None:
    env = {"CONSUL_NAMESPACE": "team", "CONSUL_PARTITION": "eu"}
    assert (client(env=env).namespace, client(env=env).partition) == ("team", "eu")
    assert (client(env=env, namespace="n").namespace, client(env=env, partition="p").partition) == ("n", "p")
    assert client().namespace is client().partition is None
    refused("CONSUL_NAMESPACE", env={"CONSUL_NAMESPACE": " "})
    refused("partition", partition=5, env=env)


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
