#!/usr/bin/env python3
"""Two Lockers of one name compete for a lock; every line says who, in which state, and the signal behind it.

    python examples/two_lockers.py                            # with an embedded agent, no Consul needed
    python examples/two_lockers.py --host 127.0.0.1 --port 8500

On a real agent it uses the keys below ``two-lockers/`` and leaves none of them behind.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

from consul_locker import AlreadyLocked, ConsulLockerError, Locker, LockerFactory, signals

#: Lockers compete only when they have the same name.
NAME = "two-lockers"
#: What is locked. Any id will do: a row's number, a file's name.
ROW = "row-7"
#: How long an agent may take to give a session, in seconds; a live one takes milliseconds.
PATIENCE = 10.0


class Teller:
    """Tells each signal of the Lockers that it makes, in a line."""

    def __init__(self) -> None:
        self._states: dict[str, str] = {}

    def create(self, factory: LockerFactory, nickname: str) -> Locker:
        """Make a Locker, which is heard from its first signal on."""

        def observer(name: str) -> Callable[..., None]:
            def observe(locker: Locker, **facts: Any) -> None:
                if name == "state_changed":  # the state of the line is the one at the signal, which may be over by now
                    self._states[nickname] = facts["to_state"]
                self.tell(nickname, name.replace("_", "-"), WORDS[name].format(**facts))

            return observe

        return factory.create(
            NAME,
            value={"who": nickname},
            delete_on_release=True,
            default_timeout=PATIENCE,
            max_retries=0,  # a program of a moment: without an agent it ends at once
            observers={name: observer(name) for name in signals.ALL},
        )

    def tell(self, nickname: str, signal: str, words: str) -> None:
        """Print one line."""
        print(f"{nickname:<5}  {self._states.get(nickname, 'acquiring'):<9}  {signal:<15}  {words}", flush=True)


WORDS = {
    "session_created": "Consul made the session {session_id}",
    "session_ended": "the session is over: {reason}",
    "state_changed": "{from_state} -> {to_state}, by the input {input}",
    "input_deferred": "the call {input}({id!r}) came too early; it is kept until {until}",
    "lock_requested": "asks Consul for {key}",
    "lock_acquired": "has {key}, with the fence {lease.fence}",
    "lock_denied": "{error}",
    "lock_lost": "lost {key}: {reason}",
    "released": "gave {key} back",
}


def main(arguments: list[str] | None = None) -> int:
    """Tell the story; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--host", help="where a Consul agent listens (default: an embedded one is started)")
    parser.add_argument("--port", type=int, help="its HTTP port (8500)")
    options = parser.parse_args(arguments)
    real = options.host is not None or options.port is not None
    try:
        with LockerFactory(options.host, options.port) if real else LockerFactory.embedded() as factory:
            compete(factory)
    except ConsulLockerError as error:
        print(f"two_lockers: {error}", file=sys.stderr)
        return 1
    return 0


def compete(factory: LockerFactory) -> None:
    """Let two Lockers compete for one lock."""
    teller = Teller()
    alice = teller.create(factory, "alice")
    alice.lock(ROW)  # waits for the session, then asks Consul
    alice.lock(ROW)
    teller.tell("alice", "(none)", f"asked again: answered from the cache, {alice.stats()['requests']} request so far")

    bob = teller.create(factory, "bob")
    try:
        bob.lock(ROW)
    except AlreadyLocked as error:
        if error.holder is not None and error.holder.value is not None:
            teller.tell("bob", "(none)", f"so it is {error.holder.value['who']} who has it")

    alice.release(ROW)
    lease = bob.lock(ROW)
    teller.tell("bob", "(none)", f"the fence has risen to {lease.fence}: what alice still writes late can be refused")
    bob.release(ROW)
    alice.stop()
    bob.stop()


if __name__ == "__main__":
    sys.exit(main())
