"""threads/state_waits: a state is noticed even if the Locker was in it for a moment only."""

from __future__ import annotations

import threading

from consul_locker.threads.state_waits import StateWaits

from ..behaviour.tools import WAIT


class Waiting:
    """A thread that waits for a state, and is known to wait once its wish looks at the present one."""

    def __init__(self, waits: StateWaits, state: str) -> None:
        self.asked = threading.Event()
        self.found: list[bool | None] = []
        self._thread = threading.Thread(
            target=lambda: self.found.append(waits.wait(state, self.present, WAIT)), daemon=True
        )
        self._thread.start()
        assert self.asked.wait(WAIT)

    def present(self) -> str:
        self.asked.set()
        return "acquiring"

    def result(self) -> bool | None:
        self._thread.join(WAIT)
        return self.found[0]


def test_a_state_of_a_moment_is_noticed() -> None:
    waits = StateWaits()
    waiting = Waiting(waits, "ready")
    waits.reached("paused")
    waits.reached("ready")
    waits.reached("acquiring")
    assert waiting.result() is True


def test_the_present_state_needs_no_wait_and_the_time_ends() -> None:
    waits = StateWaits()
    assert waits.wait("ready", lambda: "ready", None) is True
    assert waits.wait("ready", lambda: "paused", 0.0) is None


def test_after_the_end_no_state_will_come() -> None:
    waits = StateWaits()
    waiting = Waiting(waits, "ready")
    waits.end()
    assert waiting.result() is False
    assert waits.wait("ready", lambda: "stopped", None) is False
