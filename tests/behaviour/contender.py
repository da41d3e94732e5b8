"""A process that competes: run with the agent's address, the Locker's name, a face, and how many attempts.

For each grant it writes into a register in Consul's KV, in the lock's name: "enter" and its fence, then
"leave". The register refuses a fence that does not rise, as whatever a lock protects should.
"""

from __future__ import annotations

import json
import random
import sys

from consul_locker import AlreadyLocked, LockerFactory


def main(address: str, name: str, attempts: int, seed: int) -> None:
    """Compete, and print what became of it as JSON."""
    choose = random.Random(seed)
    granted, denied = [], 0
    with LockerFactory(address) as factory:
        locker = factory.create(name, identify_holder=False)
        futures = []
        for number in range(attempts):
            id = str(choose.randrange(16))
            futures.append((id, locker.submit_lock(id), locker.submit_release(id)))
            if number % 20 == 19:
                for id, lock, _ in futures:
                    error = lock.exception(60)
                    if error is None:
                        granted.append((id, lock.result().fence))
                    elif isinstance(error, AlreadyLocked):
                        denied += 1
                    else:
                        raise error
                for _, _, release in futures:
                    release.result(60)
                futures.clear()
    print(json.dumps({"granted": granted, "denied": denied}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
