#!/usr/bin/env python3
"""Cron on many hosts: every host wakes up for a job, one does it.

    python examples/job_runner.py                        # with an embedded agent, no Consul needed
    python examples/job_runner.py --address 127.0.0.1:8500

Each run of a job, "report at 12:01", is a lock of its own. Whoever gets it does the run, and keeps the lock for two
minutes, so that a host whose clock is late by less than one minute finds it taken. (What must not run twice even if a
host dies meanwhile needs a mark of its own, written with the fence: docs/recipes.rst.)

Each run on each host is a machine: due, running, done, elsewhere or failed. All of them share one table and one Locker
for each host; the outcome of a lock is posted to the machine, and nobody waits.
"""

from __future__ import annotations

import argparse
import sys
import threading
from concurrent.futures import Future
from dataclasses import dataclass, field

from consul_locker import AlreadyLocked, ConsulLockerError, Lease, LockerFactory
from consul_locker.fsm import Action, Behavior, State, Table

#: Hosts compete only when their Lockers have the same name.
NAME = "job-runner-example"
HOSTS = ("host-1", "host-2", "host-3")
JOBS = ("backup", "report")
MINUTES = ("12:00", "12:01", "12:02")
#: How long a call for a lock may take, in seconds.
PATIENCE = 20.0


@dataclass(eq=False)
class Run:
    """One run of one job, as one host sees it."""

    host: Host
    job: str
    minute: str
    lease: Lease | None = None
    settled: threading.Event = field(default_factory=threading.Event)

    @property
    def lock(self) -> str:
        """The id of its lock."""
        return f"{self.job}@{self.minute}"

    def ask(self) -> None:
        """Ask for the lock; the answer comes as an input."""
        self.host.locker.submit_lock(self.lock, timeout=PATIENCE).add_done_callback(self.answered)

    def answered(self, future: Future[Lease]) -> None:
        """In the thread of the observers, which waits for nothing: so this posts."""
        error = future.exception()
        if error is None:
            RUNS.post(self, "granted", future.result())
        else:
            RUNS.post(self, "taken" if isinstance(error, AlreadyLocked) else "failed", error)

    def begin(self, lease: Lease) -> None:
        """Do the job, in a thread: a handler is no place for work."""
        self.lease = lease
        RUNS.transition(self, "running")
        threading.Thread(target=self.work, daemon=True).start()

    def work(self) -> None:
        """The job itself; what it writes carries ``lease.fence``."""
        print(f"{self.host.name}: {self.job} of {self.minute}\n", end="", flush=True)  # in one piece, beside others
        RUNS.post(self, "finished")

    def fail(self, error: ConsulLockerError) -> None:
        """No answer from Consul: the run is missed here, and another host may do it."""
        print(f"{self.host.name}: {self.job} of {self.minute} is missed: {error}", file=sys.stderr)
        RUNS.transition(self, "failed")


TABLE: Table[Run] = Table(
    {
        "due": State(
            on_enter=Run.ask,
            inputs={
                "granted": Action(Run.begin, "begin", ("running",)),
                "taken": "elsewhere",
                "failed": Action(Run.fail, "say so", ("failed",)),
            },
        ),
        "running": State(inputs={"finished": "done"}),
        "done": State(on_enter=lambda run: run.settled.set()),
        "elsewhere": State(on_enter=lambda run: run.settled.set()),
        "failed": State(on_enter=lambda run: run.settled.set()),
    },
    initial_state="due",
    namespace="run",
)
RUNS = Behavior(TABLE, mutex=True)


class Host:
    """A host of the cluster: a process of its own in production."""

    def __init__(self, name: str, factory: LockerFactory) -> None:
        self.name = name
        self.locker = factory.create(NAME, value={"runner": name}, behavior="delete")
        self.runs: list[Run] = []

    def wake_up(self, minute: str) -> None:
        """A minute begins: give back what is two minutes old, and see to the new ones."""
        for run in self.runs[: -len(JOBS)]:
            if run.lease is not None:
                self.locker.submit_release(run.lock)
        self.runs = [*self.runs[-len(JOBS) :], *(Run(self, job, minute) for job in JOBS)]
        for run in self.runs[-len(JOBS) :]:
            RUNS.of(run)  # it begins, and asks


def main(arguments: list[str] | None = None) -> int:
    """Three hosts and three minutes; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--address", help="where a Consul agent listens (default: an embedded one is started)")
    options = parser.parse_args(arguments)
    failed = False
    try:
        with LockerFactory(options.address) if options.address else LockerFactory.embedded() as factory:
            hosts = [Host(name, factory) for name in HOSTS]
            for minute in MINUTES:
                for host in hosts:
                    host.wake_up(minute)
                for host in hosts:
                    for run in host.runs:
                        run.settled.wait(2 * PATIENCE)
                        failed = failed or RUNS.state(run) not in ("done", "elsewhere")
    except ConsulLockerError as error:
        print(f"job_runner: {error}", file=sys.stderr)
        return 1
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
