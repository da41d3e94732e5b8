"""`hold`: exclusive among the callers of one Locker, too."""

from __future__ import annotations

from typing import Any

import pytest

from consul_locker import AlreadyLocked, LockLost

from .tools import WAIT, Consul, Ear, until


def test_a_hold(locker: Any, rival: Any, consul: Consul, name: str) -> None:
    with locker.hold("a") as lease:
        assert lease.valid
        assert consul.key(f"{name}/a/lock").session == locker.session_id
        assert "a" in locker.held
        with pytest.raises(AlreadyLocked) as denied:
            rival.lock("a")
        assert denied.value.reason == "held"
    assert not lease.valid
    assert lease.reason == "released"
    assert not locker.held
    assert rival.lock("a").fence > lease.fence


def test_a_hold_is_a_tenure_of_its_own(locker: Any) -> None:
    with locker.hold("a") as first:
        pass
    with locker.hold("a") as second:
        pass
    assert second.fence > first.fence


def test_shared_and_exclusive_are_two_sides(locker: Any) -> None:
    locker.lock("shared")
    with pytest.raises(AlreadyLocked) as denied, locker.hold("shared"):
        pass
    assert denied.value.reason == "local"
    with locker.hold("a") as lease:
        assert locker.release("a") is False
        assert locker.release_all() == 1  # "shared"
        assert lease.valid
        refused = locker.submit_lock("a").exception(WAIT)
        assert isinstance(refused, AlreadyLocked)
        assert refused.reason == "local"
        waiting = locker.submit_lock("a", wait=WAIT)
    assert waiting.result(WAIT).valid


def test_the_body_s_error_goes_through(locker: Any, consul: Consul, name: str) -> None:
    with pytest.raises(KeyError, match="mine"), locker.hold("a"):
        raise KeyError("mine")
    assert not locker.held
    assert consul.key(f"{name}/a/lock").session is None


def test_lost_while_held(locker: Any, consul: Consul) -> None:
    with pytest.raises(LockLost) as lost, locker.hold("a") as lease:
        consul.destroy(lease.session_id)
        assert lease.wait_lost(WAIT) == "session destroyed"
    assert (lost.value.id, lost.value.reason, lost.value.fence) == ("a", "session destroyed", lease.fence)


def test_lost_while_held_does_not_hide_the_body_s_error(locker: Any, consul: Consul) -> None:
    with pytest.raises(KeyError) as raised, locker.hold("a") as lease:
        consul.destroy(lease.session_id)
        lease.wait_lost(WAIT)
        raise KeyError("mine")
    assert any("is lost" in note for note in raised.value.__notes__)


def test_many(locker: Any, rival: Any) -> None:
    rival.lock("taken")
    with pytest.raises(AlreadyLocked), locker.hold_many(["a", "taken"]):
        pass
    with locker.hold_many(["a", "b", "a"]) as leases:
        assert sorted(lease.id for lease in leases) == ["a", "b"]
        assert set(locker.held) == {"a", "b"}
    assert not locker.held
    with locker.hold_many([]) as leases:
        assert leases == []


def test_a_hold_waits_for_another_locker(locker: Any, rival: Any, ear: Ear) -> None:
    lease = locker.lock("a")
    until(lambda: rival.state == "ready")
    freed = rival.submit_lock("other")
    freed.result(WAIT)
    release = locker.submit_release("a")
    with rival.hold("a", wait=WAIT) as held:
        assert held.fence > lease.fence
    assert release.result(WAIT) is True


def test_leaving_after_a_stop(locker: Any) -> None:
    with pytest.raises(LockLost) as lost, locker.hold("a"):
        locker.stop()
    assert lost.value.reason == "stopped"
