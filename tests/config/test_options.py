"""options: each option checked once."""

from __future__ import annotations

import dataclasses
import pickle
from typing import Any

import pytest

from consul_locker.config.options import LockerOptions
from consul_locker.errors import ConfigurationError
from consul_locker.strategies import PermanentStrategy

from .tools import client, place, refused

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
        "max_retries": None,
        "outage_timeout": 20.0,
        "retry_interval": 30.0,
        "ttl": 15.0,
        "lock_delay": 0.0,
        "checks": None,
        "behavior": "release",
        "node": None,
        "dc": None,
        "token_source": None,
        "strategy": None,
        "value": {},
        "flags": 0,
        "delete_on_release": False,
        "identify_holder": True,
        "fair": False,
        "default_timeout": None,
        "observers": {},
    }


@pytest.mark.parametrize("timeout", [-1, True, "20", float("nan"), float("inf")])
def test_an_outage_timeout_is_seconds_or_none(timeout: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"outage_timeout=.*seconds, 0 or more, or None for no limit"):
        LockerOptions.build("writer", outage_timeout=timeout)
    assert LockerOptions.build("writer", outage_timeout=None).outage_timeout is None
    assert LockerOptions.build("writer", outage_timeout=0).outage_timeout == 0.0


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


NAN, INFINITE = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("option", "value"),
    [("name", value) for value in ("", "..", "a//b", "/a", "a\n", 5, "x" * 513)]
    + [("max_retries", value) for value in (-1, 1.0, True, "1", NAN)]
    + [("retry_interval", value) for value in (-1, True, "1", None, NAN, INFINITE)]
    + [("ttl", value) for value in (0, 9.99, 86_401, True, "15s", NAN, INFINITE, 10**400)]
    + [("lock_delay", value) for value in (-0.1, 60.1, True, "1", None, NAN)]
    + [("node", value) for value in ("", " ", "a\n", b"x", 5)]
    + [("behavior", value) for value in ("", "Release", None, True)]
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
