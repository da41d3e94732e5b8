"""The signals of a Locker: hooks for observers, on blinker.

The sender is always the Locker. Subscribe with ``signals.lock_lost.connect(observer, sender=locker)``, or
without ``sender`` for all Lockers of the process; blinker holds observers weakly, so keep a reference, or say
``weak=False`` (a lambda is gone at once without it).

==================  =================================================================================
signal              keyword arguments
==================  =================================================================================
session_created     ``session_id``
session_ended       ``session_id``, ``reason``
lock_requested      ``id``, ``key``; one for each operation, not for each call that shares it
lock_acquired       ``id``, ``key``, ``lease``
lock_denied         ``id``, ``key``, ``error``; any refusal or failure of a request
lock_lost           ``id``, ``key``, ``lease``, ``reason``
released            ``id``, ``key``, ``lease``
state_changed       ``from_state`` (None at the beginning), ``to_state``, ``input``
input_deferred      ``input``, ``id``, ``until``
==================  =================================================================================

`consul_locker.threads.observers` describes how they are delivered.
"""

from __future__ import annotations

from blinker import NamedSignal, Namespace

__all__ = [
    "ALL",
    "input_deferred",
    "lock_acquired",
    "lock_denied",
    "lock_lost",
    "lock_requested",
    "released",
    "session_created",
    "session_ended",
    "state_changed",
]

_namespace = Namespace()

session_created = _namespace.signal("session-created", doc="A session exists; the Locker is about to be ready.")
session_ended = _namespace.signal("session-ended", doc="The session is over; sent after the ends of all its leases.")
lock_requested = _namespace.signal("lock-requested", doc="Consul is asked for a lock.")
lock_acquired = _namespace.signal("lock-acquired", doc="Consul granted a lock.")
lock_denied = _namespace.signal("lock-denied", doc="A request for a lock was refused, or failed.")
lock_lost = _namespace.signal("lock-lost", doc="A lease ended otherwise than by its release.")
released = _namespace.signal("released", doc="A lock was given back.")
state_changed = _namespace.signal("state-changed", doc="The Locker's machine went from one state to another.")
input_deferred = _namespace.signal("input-deferred", doc="A call came too early and is kept for later.")

#: The signals by their names in the core's commands.
ALL: dict[str, NamedSignal] = {name.replace("-", "_"): signal for name, signal in _namespace.items()}
