"""Holds on threads; tests/behaviour/test_holds.py has what both faces do."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from consul_locker import Locker, signals

from ..behaviour.tools import WAIT, until
from .tools import in_thread


@pytest.mark.parametrize("many", [False, True])
def test_a_hold_interrupted_after_its_grant(locker: Locker, many: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    heard = threading.Event()

    def observe(sender: Any, **facts: Any) -> None:
        heard.wait(WAIT)

    def interrupted(timeout: Any = None) -> bool:
        raise KeyboardInterrupt

    with signals.lock_acquired.connected_to(observe, sender=locker), monkeypatch.context() as patched:
        patched.setattr(locker._factory._delivery, "flush", interrupted)
        with pytest.raises(KeyboardInterrupt), locker.hold_many(["a", "b"]) if many else locker.hold("a"):
            raise AssertionError("its body is not run")
    heard.set()
    until(lambda: not locker.held)
    assert locker.submit_lock("a", wait=WAIT).result(WAIT).valid


def test_a_hold_within_a_hold(locker: Locker) -> None:
    with locker.hold("a"):
        with pytest.raises(RuntimeError, match="hold within a hold"), locker.hold("a"):
            pass
        with pytest.raises(RuntimeError, match="hold within a hold"), locker.hold_many(["b", "a"]):
            pass
        other = locker.hold("a", wait=WAIT)
        waiting = in_thread(other.__enter__)
        with locker.hold("b"):
            pass
    assert waiting.result(WAIT).valid
    other.__exit__(None, None, None)
