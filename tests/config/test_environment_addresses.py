"""environment, options: several addresses, as a sequence or with commas in CONSUL_HTTP_ADDR."""

from __future__ import annotations

from typing import Any

import pytest

from consul_locker import LockerFactory
from consul_locker.config.options import ClientOptions
from consul_locker.errors import ConfigurationError

from .tools import PEM, client, place, refused

MIXED = ["10.0.0.1", "10.0.0.2:8501", "https://consul.example", "[::1]:8502", "::2", "unix:///run/consul.sock"]
PLACES = [
    ("http", "10.0.0.1", 8500),
    ("http", "10.0.0.2", 8501),
    ("https", "consul.example", 443),
    ("http", "::1", 8502),
    ("http", "::2", 8500),
    ("/run/consul.sock",),
]


def places(options: ClientOptions) -> list[tuple[Any, ...]]:
    return [place(one) for one in options.each]


@pytest.mark.parametrize("kind", [list, tuple])
def test_several_addresses_in_their_order(kind: Any) -> None:
    options = client(kind(MIXED), env={"CONSUL_HTTP_ADDR": "other:1"})
    assert places(options) == PLACES
    assert place(options) == PLACES[0]


@pytest.mark.parametrize("comma", [",", ", ", " ,  "])
def test_several_addresses_in_the_environment(comma: str) -> None:
    assert places(client(env={"CONSUL_HTTP_ADDR": comma.join(MIXED)})) == PLACES


def test_one_address_is_a_sequence_of_one() -> None:
    assert places(client(["h:1"])) == places(client("h:1")) == [("http", "h", 1)]
    assert places(client()) == [("http", "127.0.0.1", 8500)]


def test_an_address_given_twice_is_one() -> None:
    assert places(client(["h", "i", "http://h:8500", " h "])) == [("http", "h", 8500), ("http", "i", 8500)]


def test_port_and_secure_hold_for_each() -> None:
    assert places(client(["h", "i:2"], 2, True)) == [("https", "h", 2), ("https", "i", 2)]
    assert places(client(["h", "i:2"], env={"CONSUL_HTTP_SSL": "1"})) == [("https", "h", 8500), ("https", "i", 2)]
    env = {"CONSUL_HTTP_ADDR": "h:1,i:1", "CONSUL_HTTP_SSL": "1"}
    assert places(client(port=3, env=env)) == [("https", "h", 3), ("https", "i", 3)]


def test_all_else_holds_for_each() -> None:
    env = {"CONSUL_TLS_SERVER_NAME": "server.dc1.consul", "CONSUL_HTTP_SSL_VERIFY": "0"}
    for one in client(["https://h", "https://i"], None, None, PEM, token="t", dc="d", timeout=3, env=env).each:
        assert (one.server_name, one.verify, one.ca, one.token, one.dc, one.timeout) == (
            "server.dc1.consul", False, (PEM,), "t", "d", 3.0,
        )  # fmt: skip
        assert one.others == ()


@pytest.mark.parametrize(
    ("hosts", "named"),
    [
        ([], "[]"),
        ((), "()"),
        (["h", ""], "''"),
        (["h", None], "None"),
        (["h", 8500], "8500"),
        (["h", ["i"]], "['i']"),
        (["h", "ftp://i"], "'ftp://i'"),
        (["h", "i:0"], "'i:0'"),
        (["h", "i,j"], "'i,j'"),
        ("i,j", "'i,j'"),
        (b"h", "b'h'"),
        ({"h"}, "{'h'}"),
    ],
)
def test_a_bad_one_is_named(hosts: Any, named: str) -> None:
    assert named in refused("host", hosts)


def test_a_str_with_a_comma_is_told_that_several_are_a_list() -> None:
    assert 'host=["a", "b"]' in refused("host", "10.0.0.1,10.0.0.2")


@pytest.mark.parametrize(("written", "named"), [("h,", "'h,'"), ("h,,i", "'h,,i'"), (",", "','"), ("h,i:x", "'i:x'")])
def test_a_bad_one_in_the_environment_is_named(written: str, named: str) -> None:
    assert named in refused("CONSUL_HTTP_ADDR", env={"CONSUL_HTTP_ADDR": written})


@pytest.mark.parametrize(
    ("args", "option"),
    [
        ((["h:1", "i:2"], 1), "host"),
        ((["h", "unix:///s"], 1), "host"),
        ((["h", "http://i"], None, True), "host"),
        ((["h", "unix:///s"], None, True), "secure"),
    ],
)
def test_contradictions_are_refused(args: tuple[Any, ...], option: str) -> None:
    refused(option, *args)


@pytest.mark.parametrize("secret", ["hunter", "hun,ter", "h,hunter"])
def test_a_password_is_never_repeated(secret: str) -> None:
    for text in (
        refused("CONSUL_HTTP_ADDR", env={"CONSUL_HTTP_ADDR": f"h,http://user:{secret}@i"}),
        refused("host", ["h", f"http://user:{secret}@i"]),
    ):
        assert "hun" not in text


def test_the_factory_shows_them_all_and_no_token() -> None:
    with LockerFactory(["h", "unix:///s"], token="secret") as factory:
        assert repr(factory) == "<consul_locker.LockerFactory http://h:8500, unix:///s>"
    assert "http://h:8500, unix:///s, token=(hidden)" in repr(client(["h", "unix:///s"], token="secret"))


def test_a_bad_one_makes_no_factory() -> None:
    with pytest.raises(ConfigurationError, match="host="):
        LockerFactory(["h", "i:x"])
