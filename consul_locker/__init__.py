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
from .models import LockInfo, SessionInfo
from .strategies import PermanentStrategy
from .threads.factory import LockerFactory
from .threads.lease import Lease
from .threads.locker import Locker

__all__ = [
    "AccessDenied",
    "AlreadyLocked",
    "ConfigurationError",
    "ConsulLockerError",
    "ConsulUnavailable",
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
