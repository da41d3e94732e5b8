"""What happened in a run, and when: for a picture of it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.picture import plotted, save
from consul_locker import signals

__all__ = ["Timeline", "draw"]

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


def draw(events: list[dict[str, Any]], path: Path) -> None:
    """Draw a recorded outage as SVG: how long each call took, and what the new Locker was doing.

    Args:
        events: what `Timeline.write` wrote.
        path: of the drawing.

    Raises:
        ImportError: matplotlib is not installed.
    """
    plt = plotted()
    consul = {event["what"]: event["at"] for event in events if event["who"] == "consul"}
    begin, end = consul["killed"], max(event["at"] for event in events if event["what"] == "served")
    calls = {event["who"]: event["at"] for event in events if event["what"] == "called"}
    served = {event["who"]: (event["at"], event["error"]) for event in events if event["what"] == "served"}
    figure, axes = plt.subplots(figsize=(8, 0.28 * len(calls) + 1.2))
    axes.axvspan(0, consul["started"] - begin, color="#f3d6d0", label="no Consul: connections are refused")
    axes.axvspan(consul["started"] - begin, consul["leader"] - begin, color="#faeec8", label="Consul has no leader yet")
    for place, (name, called) in enumerate(calls.items()):
        at, error = served[name]
        axes.barh(place, at - called, left=called - begin, height=0.55, color="#a83244" if error else "#1f4e8c")
    asked = [
        event["at"] - begin for event in events
        if event["what"] == "state_changed" and event["to_state"] == "acquiring" and event["at"] >= begin
    ]  # fmt: skip
    place = len(calls) - 1  # of the new Locker
    axes.plot(asked, [place] * len(asked), "|", color="#f0a030", markersize=11, label="a new Locker asks for a session")
    axes.set_yticks(range(len(calls)), list(calls))
    axes.invert_yaxis()
    axes.set_xlim(0, end - begin + 0.3)
    axes.set_xlabel("seconds since Consul was killed")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=3, frameon=False)
    save(figure, path)
    plt.close(figure)
