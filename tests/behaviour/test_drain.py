"""`drain`: no new locks, wait for what is held, then stop."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from consul_locker import ConfigurationError, LockLost, SessionEnded

from .tools import WAIT, Consul, until


def test_it_waits_for_what_is_held(locker: Any, consul: Consul, name: str) -> None:
    shared = locker.lock("shared")
    with ThreadPoolExecutor(1) as pool:
        with locker.hold("held") as held:
            drained = pool.submit(locker.drain, WAIT)
            until(lambda: isinstance(locker.submit_lock("shared").exception(WAIT), SessionEnded))
            for refused in (lambda: locker.lock("new"), lambda: locker.lock_many(["a"]), lambda: locker.lock("shared")):
                with pytest.raises(SessionEnded, match="is being drained"):
                    refused()
            with pytest.raises(SessionEnded), locker.hold("new"):
                pass
            assert held.valid
            assert shared.valid
            assert locker.release("shared")
            assert not drained.done()
        assert drained.result(WAIT) is True
    assert (locker.state, held.reason) == ("stopped", "released")
    assert not consul.sessions(name)
    locker.start()
    assert locker.lock("again", timeout=WAIT).valid


def test_when_the_time_is_over_it_stops_all_the_same(locker: Any, consul: Consul, name: str) -> None:
    with pytest.raises(LockLost) as lost, locker.hold("held"):
        assert locker.drain(timeout=0) is False
        assert locker.state == "stopped"
    assert lost.value.reason == "stopped"
    assert not consul.sessions(name)


def test_with_nothing_held_it_stops_at_once(locker: Any) -> None:
    assert locker.drain() is True
    assert locker.drain(1) is True
    assert locker.state == "stopped"
    with pytest.raises(ConfigurationError, match="timeout"):
        locker.drain(-1)
