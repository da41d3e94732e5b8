"""Distributed locks on HashiCorp Consul: one session, many locks, an explicit state machine.

See `LockerFactory` for where to begin, `consul_locker.signals` for what observers hear.
"""

from __future__ import annotations

from .embedding import embed
from .errors import (
    AccessDenied,
    AlreadyLocked,
    ConfigurationError,
    ConsulLockerError,
    ConsulUnavailable,
    InvalidLockId,
    LockLost,
    LockTimeout,
    SessionEnded,
    SessionUnavailable,
)
from .models import Health, LockInfo, SessionInfo
from .strategies import PermanentStrategy
from .threads.factory import LockerFactory
from .threads.lease import Lease
from .threads.locker import Locker

#: The flags of the keys of Go's ``api.Lock``, "LockFlagValue" there (source). It refuses a key with other flags. A
#: Locker with ``flags=GO_LOCK_FLAG`` and a Go lock on the key ``<name>/<id>/lock`` exclude each other (measured).
GO_LOCK_FLAG = 0x2DDCCBC058A50C18

__all__ = [
    "GO_LOCK_FLAG",
    "AccessDenied",
    "AlreadyLocked",
    "ConfigurationError",
    "ConsulLockerError",
    "ConsulUnavailable",
    "Health",
    "InvalidLockId",
    "Lease",
    "LockInfo",
    "LockLost",
    "LockTimeout",
    "Locker",
    "LockerFactory",
    "PermanentStrategy",
    "SessionEnded",
    "SessionInfo",
    "SessionUnavailable",
    "embed",
]


def __getattr__(name: str) -> str:
    """``__version__``, read from the installed distribution when somebody asks: an import need not pay for it."""
    if name == "__version__":
        from importlib.metadata import version

        return version("consul_locker")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
