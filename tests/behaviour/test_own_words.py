"""What is told to a caller who is in its own way: ``hold`` after ``lock``, and ``lock`` inside a hold."""

from __future__ import annotations

from typing import Any

import pytest

from consul_locker import AlreadyLocked


@pytest.mark.parametrize("wait", [0.0, 0.05])
def test_hold_after_lock(locker: Any, wait: float) -> None:
    locker.lock("a")
    words = "this Locker has 'a' by lock; release it first"
    with pytest.raises(AlreadyLocked, match=words) as denied, locker.hold("a", wait=wait):
        pass
    assert (denied.value.reason, denied.value.shared) == ("local", True)
    assert locker.release("a")
    with locker.hold("a") as lease:
        assert lease.valid


@pytest.mark.parametrize("wait", [0.0, 0.05])
def test_lock_inside_a_hold(locker: Any, wait: float) -> None:
    with locker.hold("a") as lease:
        with pytest.raises(AlreadyLocked, match=r"by this one's own hold.*use the lease that it gave") as denied:
            locker.lock("a", wait=wait)
        assert (denied.value.reason, denied.value.shared) == ("local", False)
        assert lease.valid
