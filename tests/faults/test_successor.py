"""The next session of a Locker is not refused by the one before, and a stop says what is true of it."""

from __future__ import annotations

from typing import Any

import pytest

from ..behaviour.tools import WAIT, Consul, Ear, until
from .proxy import DESTROY, Answer, Fate, Proxy

YES = Answer(200, (), b"true")


def test_a_former_session_is_waited_for(
    face: Any, proxy: Proxy, name: str, ear: Ear, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("consul_locker.core.denials.PREDECESSOR_WAIT", WAIT)  # what is waited for comes at `let_go`
    with face.factory(proxy.address) as factory:
        locker = factory.create(name)
        first = locker.lock("a")
        hindered = proxy.arrange(Fate.SLOW, DESTROY, 2)
        locker.reboot()
        hindered.wait(2)  # at once, and again when the next session is created
        assert locker.wait_for_state("ready", WAIT)
        future = locker.submit_lock("a")  # its wait is 0
        assert ear.wait("lock_denied")["id"] == "a"
        hindered.let_go()
        lease = future.result(WAIT)
        assert lease.fence > first.fence and lease.valid


def test_a_destroy_that_was_tried_in_vain_is_tried_again_with_the_next_session(
    face: Any, proxy: Proxy, name: str, consul: Consul, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("consul_locker.core.destroys.DESTROY_PAUSE", 2 * WAIT)  # the test is over before
    with face.factory(proxy.address) as factory:
        locker = factory.create(name)
        first = locker.lock("a")
        failing = proxy.arrange(Fate.NEVER, DESTROY, 1)
        locker.reboot()
        failing.wait()
        assert locker.wait_for_state("ready", WAIT)
        until(lambda: {session["ID"] for session in consul.sessions(name)} == {locker.session_id})
        assert locker.lock("a").fence > first.fence


def test_a_stop_does_not_believe_a_destroy_that_was_not_done(
    face: Any, proxy: Proxy, name: str, ear: Ear, consul: Consul
) -> None:
    """A server that has just started says yes to it and lacks the session."""
    with face.factory(proxy.address) as factory:
        locker = factory.create(name)
        locker.lock("a")
        lying = proxy.arrange(Fate.FORGED, DESTROY, 2, YES)
        lying.let_go()
        locker.stop()
        assert not consul.sessions(name)
        lying.wait(2)
        assert ear.wait("released")["id"] == "a"
        assert "lock_lost" not in ear.names()
