"""Fixtures of the fault tests: those of the behaviour suite, and a proxy before the agent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from ..behaviour.conftest import consul, ear, factory, rival
from ..real_consul import RealConsul
from .proxy import Proxy

__all__ = [
    "consul",
    "ear",
    "embedded_only",
    "factory",
    "private",
    "proxy",
    "real_only",
    "rival",
    "soon",
]

#: For tests that wait for audits and renewals: seconds each, and the embedded agent has nothing of its own to show.
real_only = pytest.mark.parametrize("agent", [pytest.param("real", marks=pytest.mark.real)], indirect=True)
#: For tests in which the proxy lets nothing through that matters.
embedded_only = pytest.mark.parametrize("agent", ["embedded"], indirect=True)

#: How soon with the fixture `soon`, in seconds: later than what a test does meanwhile.
SOON = 0.25


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A doubt is looked into, and a failed destroy tried again, before a second is over: many tests wait for that."""
    monkeypatch.setattr("consul_locker.core.doubts.FIRST_PAUSE", SOON)
    monkeypatch.setattr("consul_locker.core.destroys.DESTROY_PAUSE", SOON)


@pytest.fixture(scope="module")
def private(consul_binary: str) -> Iterator[RealConsul]:
    """A real agent for the tests of a module, which do to it what would disturb others."""
    with RealConsul(consul_binary) as agent:
        yield agent


@pytest.fixture
def proxy(agent: Any) -> Iterator[Proxy]:
    """A proxy before the agent, open, that lets everything pass."""
    with Proxy(agent.address) as proxy:
        yield proxy
