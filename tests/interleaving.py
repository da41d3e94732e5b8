"""What another thread does between any two lines of this one, without luck: a tracer stops this one at a line."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from consul_locker.inside import INSIDE

from .walk.breaks import LIBRARY

__all__ = ["Meanwhile", "meanwhile"]

#: How long a thread that is stopped waits for the other one, in seconds. Only one that needs a lock of the stopped
#: thread takes so long, and goes on after that.
PATIENCE = 0.2


class Meanwhile:
    """What came of it.

    Attributes:
        reached: whether there was such a line.
    """

    def __init__(self, line: int, work: Callable[[], object], below: str) -> None:
        self._left = line
        self._work = work
        self._below = below
        self._thread: threading.Thread | None = None
        self.reached = False

    def trace(self, frame: FrameType, event: str, argument: Any) -> Any:
        """For `sys.settrace`: count the lines, and let the other thread work before the one that is meant."""
        if not frame.f_code.co_filename.startswith(self._below):
            return None
        if event == "line" and not INSIDE.stepping:  # then this thread may have the mutex, and nothing can come between
            self._left -= 1
            if self._left == -1:
                self.reached = True
                self._thread = threading.Thread(target=self._work, daemon=True)
                self._thread.start()
                self._thread.join(PATIENCE)
        return self.trace

    def end(self, limit: float) -> None:
        """Wait until the other thread has done its work."""
        if self._thread is not None:
            self._thread.join(limit)
            assert not self._thread.is_alive()


@contextmanager
def meanwhile(line: int, work: Callable[[], object], below: str = LIBRARY, limit: float = 30.0) -> Iterator[Meanwhile]:
    """Have another thread do something right before this one runs a line of the library, outside the steps of a core.

    Args:
        line: which, counted from 0 in the order in which they run; past the last nothing is done.
        work: what the other thread does.
        below: the file, or the folder, of the code that is meant.
        limit: how long to wait for the other thread at the end, in seconds.
    """
    found = Meanwhile(line, work, below)
    before = sys.gettrace()
    sys.settrace(found.trace)
    try:
        yield found
    finally:
        sys.settrace(before)  # else the coverage of this thread would end here
    found.end(limit)
