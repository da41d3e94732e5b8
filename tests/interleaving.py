"""What another thread does between any two lines of this one, without luck: a tracer stops this one at a line."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeVar

from consul_locker.may_wait import THIS_THREAD

from .walk.breaks import LIBRARY

__all__ = ["Meanwhile"]

T = TypeVar("T")

#: How long a thread that is stopped waits for the other one, in seconds. Only one that needs a lock of the stopped
#: thread takes so long, and goes on after that.
PATIENCE = 0.2


class Meanwhile:
    """Another thread that does something right before the thread that `trace` is set for runs a line of the library.

    Lines within a step of a core are not counted.

    Args:
        line: which, counted from 0 in the order in which they run; past the last nothing is done.
        work: what the other thread does.
        below: the files, or the folders, of the code that is meant.
        since: whether lines are counted yet.

    Attributes:
        reached: whether there was such a line.
        done: whether the other thread has done its work.
    """

    def __init__(
        self,
        line: int,
        work: Callable[[], object],
        below: str | tuple[str, ...] = LIBRARY,
        since: Callable[[], bool] = lambda: True,
    ) -> None:
        self._left = line
        self._work = work
        self._below = below
        self._since = since
        self.reached = False
        self.done = threading.Event()

    def _meet(self) -> None:
        try:
            self._work()
        finally:
            self.done.set()

    def trace(self, frame: FrameType, event: str, argument: Any) -> Any:
        """For `sys.settrace`: count the lines, and let the other thread work before the one that is meant."""
        if not frame.f_code.co_filename.startswith(self._below):
            return None
        # In the middle of a step this thread may have the mutex, so nothing can come in between.
        if event == "line" and not THIS_THREAD.in_step and self._since():
            self._left -= 1
            if self._left == -1:
                self.reached = True
                threading.Thread(target=self._meet, daemon=True).start()
                self.done.wait(PATIENCE)
        return self.trace

    def run(self, call: Callable[[], T]) -> T:
        """Do something in this thread; the other one comes in between."""
        before = sys.gettrace()
        sys.settrace(self.trace)
        try:
            return call()
        finally:
            sys.settrace(before)  # else the coverage of this thread would end here
