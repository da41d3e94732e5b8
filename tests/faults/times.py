"""The times that docs/safety.rst names, and what a machine may take besides."""

from __future__ import annotations

from .proxy import (
    WAIT,
)

#: The shortest that Consul takes, in seconds.
TTL = 10.0
#: Renewals and audits are due this often, in seconds.
PERIOD = TTL / 3
#: What two or three requests and a busy machine may take besides, in seconds.
SLACK = 1.5
#: For what ends in its time although requests would take `WAIT`: a process that a busy machine gave no time to (2.4 s
#: were seen) has not waited for one of them. In seconds.
STALL = WAIT / 3
#: Consul ends a session that is not renewed after twice its TTL; a paused process sleeps for longer, in seconds.
PAUSED_FOR = 2.5 * TTL
