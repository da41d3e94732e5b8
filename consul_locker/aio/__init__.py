"""Locks for asyncio: the same names and meanings as in `consul_locker`, on one running event loop.

What can wait is a coroutine; what cannot wait is a plain function (`create`, `held`, `state`, `stats`, `start`, and a
lease's `valid`, `check`, `guard`).
"""

from .factory import LockerFactory
from .lease import Lease
from .locker import Locker

__all__ = ["Lease", "Locker", "LockerFactory"]
