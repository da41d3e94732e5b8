"""What happened in a run, and when: for a picture of it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from consul_locker import signals

__all__ = ["Timeline"]

#: Those that tell what a Locker meets.
NAMES = ("session_created", "session_ended", "lock_acquired", "lock_denied", "lock_lost", "released", "state_changed")


class Timeline:
    """The events of one run, each with its time in seconds from the beginning."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self.events: list[dict[str, Any]] = []

    def note(self, who: str, what: str, **facts: Any) -> None:
        """Something happens now."""
        self.events.append({"at": round(time.monotonic() - self._began, 4), "who": who, "what": what, **facts})

    @contextmanager
    def hearing(self) -> Iterator[None]:
        """Note the signals of all Lockers."""

        def heard(signal: str) -> Callable[..., None]:
            def hear(sender: Any, **facts: Any) -> None:
                plain = {name: value for name, value in facts.items() if isinstance(value, (str, int, type(None)))}
                self.note(sender.name, signal, **plain)

            return hear

        with ExitStack() as stack:
            for name in NAMES:
                stack.enter_context(getattr(signals, name).connected_to(heard(name)))
            yield

    def write(self, path: Path) -> None:
        """Write the events to a file, as JSON, in the order in which they happened."""
        path.write_text(json.dumps(sorted(self.events, key=lambda event: event["at"]), indent=1) + "\n")
