"""Fixtures of the fault tests: those of the behaviour suite, and a proxy before the agent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from ..behaviour.conftest import consul, ear, face, name
from .proxy import Proxy

__all__ = ["consul", "ear", "face", "name", "proxy", "real_only"]

#: For tests that wait for audits and renewals: seconds each, and the embedded agent has nothing of its own to show.
real_only = pytest.mark.parametrize("agent", [pytest.param("real", marks=pytest.mark.real)], indirect=True)


@pytest.fixture
def proxy(agent: Any) -> Iterator[Proxy]:
    """A proxy before the agent, open, that lets everything pass."""
    with Proxy(agent.address) as proxy:
        yield proxy
