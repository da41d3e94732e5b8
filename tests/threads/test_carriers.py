"""Who carries a transaction on threads: a caller whose time allows it, else the I/O thread."""

from __future__ import annotations

from typing import Any

import pytest

from consul_locker import Locker
from consul_locker.embedded import Agent

from ..behaviour.tools import Consul, Gate, until
from .tools import served_together


def test_interrupted_while_carrying(locker: Locker, gate: Gate, agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    transport = locker._factory._transport
    send = transport.send

    def interrupted(*args: Any, **options: Any) -> Any:
        send(*args, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(transport, "send", interrupted)
        locker.lock("a")
    until(lambda: (key := Consul(agent.address).key("n/a/lock")) is not None and key.session is None)
    assert locker.lock("a").valid


def test_another_caller_carries(locker: Locker, gate: Gate) -> None:
    """Callers who come while a transaction is in flight are sent together, by one of them."""
    served_together(locker, gate, 10)
    assert locker.stats()["transactions"] == 2


def test_who_has_little_time_does_not_carry(locker: Locker, gate: Gate) -> None:
    assert locker.lock("a", timeout=5).valid  # less than a request may take: the I/O thread carries
    assert locker.lock("b", timeout=100).valid
    assert locker.lock("c", timeout=100, wait=3).valid
