"""What the core is told and what it says are shown in words."""

from __future__ import annotations

from .helpers import Driver


def test_messages_say_what_they_are() -> None:
    driver = Driver()
    call = driver.call("lock", "a")
    assert repr(call) == "<Call lock a>"
    driver.call("stop")
    assert repr(call) == "<Call lock a settled>"
