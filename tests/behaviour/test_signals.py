"""Signals: which, with what, in which order; and what observers can do to a Locker: nothing."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest

from consul_locker import AlreadyLocked, signals

from .faces import bare
from .tools import WAIT, Ear, Gate

FACTS = {
    "session_created": {"session_id"},
    "session_ended": {"session_id", "reason"},
    "lock_requested": {"id", "key"},
    "lock_acquired": {"id", "key", "lease"},
    "lock_denied": {"id", "key", "error"},
    "lock_lost": {"id", "key", "lease", "reason"},
    "released": {"id", "key", "lease"},
    "state_changed": {"from_state", "to_state", "input"},
    "input_deferred": {"input", "id", "until"},
}


def test_a_life_in_signals(face: Any, gate: Gate, name: str, ear: Ear, rival: Any) -> None:
    """In order; each call's own signals are there when it returns."""
    assert rival.wait_for_state("ready", WAIT)
    held = gate.hold("PUT /v1/session/create")
    with face.factory(gate.address) as factory:
        locker = factory.create(name)
        ear.wait("state_changed", 3)  # the two of the rival's, and this one's beginning
        assert ear.heard[-1][1] == {"from_state": None, "to_state": "acquiring", "input": None}
        ear.heard.clear()
        early = locker.submit_lock("early")
        ear.wait("input_deferred")
        held.let_go()
        first = early.result(WAIT)
        session = locker.session_id
        assert ear.names() == ["input_deferred", "session_created", "state_changed", "lock_requested", "lock_acquired"]
        assert ear.heard[0][1] == {"input": "lock", "id": "early", "until": "ready"}
        assert ear.heard[1][1] == {"session_id": session}
        assert ear.heard[2][1] == {"from_state": "acquiring", "to_state": "ready", "input": "session_created"}
        ear.heard.clear()

        lease = locker.lock("a")
        key = f"{name}/a/lock"
        assert ear.heard == [
            ("lock_requested", {"id": "a", "key": key}),
            ("lock_acquired", {"id": "a", "key": key, "lease": bare(lease)}),
        ]
        ear.heard.clear()
        locker.lock("a")
        assert ear.names() == []  # from the cache

        with pytest.raises(AlreadyLocked) as denied:
            rival.lock("a")
        assert ear.names() == ["lock_requested", "lock_denied"]
        assert ear.of("lock_denied") == [{"id": "a", "key": key, "error": denied.value}]
        ear.heard.clear()

        locker.release("a")
        assert ear.heard == [("released", {"id": "a", "key": key, "lease": bare(lease)})]
        ear.heard.clear()

        second, third = locker.lock("b"), locker.lock("c")
        ear.heard.clear()
        locker.reboot()
        ear.wait("state_changed")
        assert ear.names()[:5] == ["lock_lost"] * 3 + ["session_ended", "state_changed"]
        assert [facts["lease"] for facts in ear.of("lock_lost")] == [bare(lease) for lease in (first, second, third)]
        assert {facts["reason"] for facts in ear.of("lock_lost")} == {"rebooted"}
        assert ear.of("state_changed")[0] == {"from_state": "ready", "to_state": "paused", "input": "reboot"}

        last = locker.lock("d")
        ear.heard.clear()
        locker.stop()
        assert ear.heard == [
            ("released", {"id": "d", "key": f"{name}/d/lock", "lease": bare(last)}),
            ("session_ended", {"session_id": last.session_id, "reason": "stopped"}),
            ("state_changed", {"from_state": "ready", "to_state": "stopped", "input": "session_destroyed"}),
        ]


def test_keyword_arguments(locker: Any, rival: Any, ear: Ear) -> None:
    locker.lock("a")
    rival.submit_lock("a").exception(WAIT)
    locker.reboot()
    locker.lock("a")
    locker.stop()
    assert {signal: set(facts) for signal, facts in ear.heard} == {
        signal: FACTS[signal] for signal in set(ear.names())
    }


def test_one_request_for_all_who_share_it(gated: Any, gate: Gate, ear: Ear) -> None:
    held = gate.hold("PUT /v1/txn")
    futures = [gated.submit_lock("a") for _ in range(5)]
    held.wait()
    held.let_go()
    for future in futures:
        future.result(WAIT)
    assert ear.names().count("lock_requested") == 1
    assert ear.names().count("lock_acquired") == 1


def test_an_observer_that_raises_is_logged_and_harmless(
    locker: Any, ear: Ear, caplog: pytest.LogCaptureFixture
) -> None:
    def bad(sender: Any, **facts: Any) -> None:
        raise RuntimeError("the observer is bad")

    with caplog.at_level(logging.ERROR, "consul_locker"), signals.lock_acquired.connected_to(bad, sender=bare(locker)):
        assert locker.lock("a").valid
        assert locker.lock("b").valid
    assert ear.names().count("lock_acquired") == 2
    logged = [record for record in caplog.records if record.name == "consul_locker"]
    assert len(logged) == 2
    assert "lock-acquired" in logged[0].getMessage()
    assert logged[0].exc_info is not None


def test_a_sender_hears_only_itself(locker: Any, rival: Any) -> None:
    heard: list[Any] = []

    def observe(sender: Any, **facts: Any) -> None:
        heard.append(sender)

    with signals.lock_acquired.connected_to(observe, sender=bare(locker)):
        rival.lock("a")
        locker.lock("b")
    assert heard == [bare(locker)]


def test_futures_are_done_after_their_signals(gated: Any, ear: Ear) -> None:
    seen: list[list[str]] = []
    done = threading.Event()

    def look(future: Any) -> None:
        seen.append(ear.names())
        done.set()

    gated.submit_lock("a").add_done_callback(look)
    assert done.wait(WAIT)
    assert "lock_acquired" in seen[0]
