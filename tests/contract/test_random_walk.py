"""A short random walk over both agents; random_walk.py is the command for a long one."""

from __future__ import annotations

import os
from typing import Any

import pytest

from consul_locker.embedded import Agent

from . import random_walk

pytestmark = pytest.mark.usefixtures("unmeasured")

#: How many calls, unless CONSUL_LOCKER_WALK says otherwise.
STEPS = int(os.environ.get("CONSUL_LOCKER_WALK", "400"))


def test_both_agents_answer_alike(real_agent: Any) -> None:
    with Agent(version=random_walk.version_like(real_agent.version)) as embedded:
        assert random_walk.walk(embedded.address, real_agent.address, seed=1, steps=STEPS) >= STEPS


def test_a_difference_is_found(real_agent: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent that forgets lock-delays does not pass for a real one."""
    from consul_locker.embedded import store

    monkeypatch.setattr(store, "MAX_LOCK_DELAY", 0.0)
    with (
        Agent(version=random_walk.version_like(real_agent.version)) as embedded,
        pytest.raises(AssertionError, match="embedded:"),
    ):
        random_walk.walk(embedded.address, real_agent.address, seed=1, steps=20_000, shrink=False)
