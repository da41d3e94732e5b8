#!/usr/bin/env python3
"""A worker, of which many run: threads do jobs, each under its lock; SIGTERM lets them end what they have begun.

    printf 'report-1\nreport-2\n' | python examples/worker.py            # with an embedded agent, no Consul needed
    printf 'report-1\nreport-2\n' | python examples/worker.py --consul   # with the agent of CONSUL_HTTP_ADDR

Each line of the input is a job. A job that another worker does at the moment is left to that one.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from consul_locker import AlreadyLocked, ConsulLockerError, Locker, LockerFactory, LockLost, SessionEnded

#: How many jobs a worker does at a time.
THREADS = 4
#: How long a step of a job takes, in seconds, and how many there are. A real job does its work there.
STEP, STEPS = 0.05, 3
#: How long a job may take to end once the worker is told to leave, in seconds: less than what a supervisor gives it.
PATIENCE = 20.0


def tell(text: str) -> None:
    """Say it at once, also into a pipe, and in one piece: the lines of several threads do not mix."""
    print(f"{text}\n", end="", flush=True)


def do(locker: Locker, job: str) -> None:
    """Do a job, in a thread of the pool, unless it is another's."""
    try:
        with locker.hold(job, timeout=60) as lease:
            tell(f"{job}: begun")
            for _ in range(STEPS):
                lease.check()  # LockLost, should it be over by now
                time.sleep(STEP)  # what a step writes, it writes with lease.fence
            tell(f"{job}: done, with fence {lease.fence}")
    except AlreadyLocked as refused:
        tell(f"{job}: left to another ({refused.reason})")
    except SessionEnded:
        tell(f"{job}: not begun, since this worker leaves")
    except LockLost as lost:
        tell(f"{job}: broken off ({lost.reason}); it has to be done again")
    except ConsulLockerError as error:  # an outage that takes too long, or a line that is no id
        tell(f"{job}: not begun: {error}")


def main() -> None:
    """Do the jobs of the input until it ends, or until SIGTERM."""
    parser = argparse.ArgumentParser(description="Do the jobs that the input names, one a line.")
    parser.add_argument("--consul", action="store_true", help="ask the agent of CONSUL_HTTP_ADDR (an embedded one)")
    consul = parser.parse_args().consul
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))  # raises SystemExit, below
    with (
        LockerFactory() if consul else LockerFactory.embedded() as factory,
        factory.create("worker") as locker,
        ThreadPoolExecutor(THREADS) as pool,  # on leaving it waits for its jobs
    ):
        try:
            for line in sys.stdin:
                pool.submit(do, locker, line.strip())
        except SystemExit:
            tell("leaving: no job is begun any more")
            if not locker.drain(PATIENCE):
                tell("leaving: not every job has ended in time")
            raise


if __name__ == "__main__":
    main()
