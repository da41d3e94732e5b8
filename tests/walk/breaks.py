"""Steps that are broken off: exceptions out of nowhere, as those of signal handlers are."""

from __future__ import annotations

import linecache
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import consul_locker

__all__ = ["BrokenOff", "breaking_off"]

#: The library's own code. Signal handlers run between any two lines of it; of other code too, which is nothing new.
LIBRARY = str(Path(consul_locker.__file__).parent)


#: Python sees to it that no signal handler runs between the end of a ``with`` and what ends it, the release of a lock
#: say; but to a tracer that is one more line. All lines of ``with`` are left out, at their beginnings too.
_SAFE = re.compile(r" +with .*:$")


class BrokenOff(KeyboardInterrupt):
    """What a signal handler raises."""


@contextmanager
def breaking_off(line: int, below: str = LIBRARY) -> Iterator[None]:
    """Raise `BrokenOff` in this thread, before a line of the library.

    Args:
        line: which, counted from 0 in the order in which they run; past the last nothing is raised.
        below: the folder of the code that is meant.
    """
    left = line

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal left
        # What a finalizer raises Python itself takes away, so nothing is broken off there.
        if not frame.f_code.co_filename.startswith(below) or frame.f_code.co_name == "__del__":
            return None
        if event == "line" and not _SAFE.match(linecache.getline(frame.f_code.co_filename, frame.f_lineno)):
            left -= 1
            if left == -1:
                raise BrokenOff(f"{frame.f_code.co_filename}:{frame.f_lineno}")
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)  # else the coverage of this thread would end here
