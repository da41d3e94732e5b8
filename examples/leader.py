#!/usr/bin/env python3
"""One of several leads: standby, leading, draining, with a Locker below the state "leading".

    python examples/leader.py                        # on threads, with an embedded agent, no Consul needed
    python examples/leader.py --asyncio
    python examples/leader.py --address 127.0.0.1:8500

One table serves threads and asyncio. A leader that resigns ends its work first and gives the lock back then. One that
loses the lock drains: its work ends at the next step, and what that still writes has an old fence.
"""

from __future__ import annotations

import argparse
import asyncio
import queue
import sys
import threading
from collections.abc import Callable
from typing import Any

from consul_locker import ConsulLockerError, LockerFactory, aio, embed
from consul_locker.fsm import Action, Defer, Fsm, State, Table

#: Members compete only when their Lockers have the same name.
NAME = "leader-example"
#: How long a member waits before it stands again, in seconds; in production some seconds.
PAUSE = 0.2
#: How long one step of the work takes, in seconds.
STEP = 0.02
#: How long anything in this program may take, in seconds: an agent that is there takes far less.
PATIENCE = 20.0


class Member:
    """One of those who would lead. What waits is done by `begin_work` and `later`, which threads and asyncio differ in.

    Args:
        name: who it is.
        create: makes a Locker.
        begin_work: begins ``work(member, lease)`` elsewhere.
        later: calls a function after seconds, unless the object that it returns is told to ``cancel()``.
        news: is told each thing that happens.
    """

    def __init__(
        self,
        name: str,
        create: Callable[[], Any],
        begin_work: Callable[[Member, Any], object],
        later: Callable[[float, Callable[[], None]], Any],
        news: Callable[[tuple[str, str]], None],
    ) -> None:
        self.name = name
        self.create = create
        self.finish = threading.Event()
        self._begin_work = begin_work
        self._later = later
        self._news = news
        self._timer: Any = None
        self.fsm = Fsm(TABLE, self, mutex=True, begin=False)
        self.fsm.on("transition", lambda data: self.tell(data["to_state"]) if data["namespace"] == "member" else None)

    def tell(self, what: str) -> None:
        """Print a line; the first word is for whoever waits for it."""
        print(f"{self.name}: {what}", flush=True)
        self._news((self.name, what.split()[0]))

    def pause(self) -> None:
        """Stand again after a while."""
        self._timer = self._later(PAUSE, lambda: self.fsm.post("stand"))

    def end_pause(self) -> None:
        """Not any more."""
        self._timer.cancel()

    def lead(self, facts: dict[str, Any]) -> None:
        """Begin the work. A handler never waits: the end of the work is an input."""
        self.finish.clear()
        self.tell("leads")
        self._begin_work(self, facts["lease"])

    def resign(self) -> None:
        """End the work after its present step."""
        self.finish.set()

    def goes_on(self, lease: Any) -> bool:
        """Whether there is another step of the work."""
        return lease.valid and not self.finish.is_set()


TABLE: Table[Member] = Table(
    {
        "standby": State(
            on_enter=Member.pause,
            on_exit=Member.end_pause,
            inputs={"stand": "leading", "leave": "gone", "resign": None},
        ),
        "leading": State(
            child=lambda member: embed(member.create()),  # leaving the state begins its stop, which frees the lock
            on_enter=lambda member: member.fsm.handle("lock", "leader"),
            inputs={
                "lock_acquired": Action(Member.lead, "begin the work"),
                "lock_denied": "standby",
                "lock_lost": "draining",
                "resign": Action(Member.resign, "end the work"),
                "finished": "standby",
                "leave": Defer("standby"),
                "stand": None,
            },
        ),
        "draining": State(inputs={"finished": "standby", "leave": Defer("standby"), "resign": None, "stand": None}),
        "gone": State(),
    },
    initial_state="standby",
    namespace="member",
)


def lose_the_session(member: Member) -> None:
    """Lose the lock, as by an outage that outlives the session."""
    member.fsm.child.locker.reboot()


def work(member: Member, lease: Any) -> None:
    """The work of a leader, in a thread. Each write carries ``lease.fence``, so that a late one can be refused."""
    while member.goes_on(lease):
        member.finish.wait(STEP)
    member.fsm.post("finished")


def on_threads(address: str | None) -> None:
    """Tell the story with threads."""
    news: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()

    def until(name: str, what: str) -> None:
        while news.get(timeout=PATIENCE) != (name, what):
            pass

    def later(seconds: float, call: Callable[[], None]) -> threading.Timer:
        timer = threading.Timer(seconds, call)
        timer.daemon = True
        timer.start()
        return timer

    def begin_work(member: Member, lease: Any) -> None:
        threading.Thread(target=work, args=(member, lease), daemon=True).start()

    with LockerFactory(address) if address else LockerFactory.embedded() as factory:

        def create() -> Any:
            return factory.create(NAME, behavior="delete")

        anna, bert = (Member(name, create, begin_work, later, news.put) for name in ("anna", "bert"))
        anna.fsm.begin()
        until("anna", "leads")
        bert.fsm.begin()
        until("bert", "leading")  # it stands, and is refused
        until("bert", "standby")
        anna.fsm.handle("resign")
        anna.fsm.handle("leave")  # waits for the end of the work
        until("bert", "leads")
        lose_the_session(bert)
        until("bert", "standby")
        until("bert", "leads")  # once more
        bert.fsm.handle("resign")
        bert.fsm.handle("leave")
        until("bert", "gone")


async def on_asyncio(address: str | None) -> None:
    """Tell the same story on an event loop."""
    loop = asyncio.get_running_loop()
    news: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
    tasks: set[asyncio.Task[None]] = set()

    async def until(name: str, what: str) -> None:
        while await asyncio.wait_for(news.get(), PATIENCE) != (name, what):
            pass

    async def steps(member: Member, lease: Any) -> None:
        while member.goes_on(lease):
            await asyncio.sleep(STEP)
        member.fsm.post("finished")

    def begin_work(member: Member, lease: Any) -> None:
        tasks.add(loop.create_task(steps(member, lease)))

    async with aio.LockerFactory(address) if address else aio.LockerFactory.embedded() as factory:

        def create() -> Any:
            return factory.create(NAME, behavior="delete")

        anna, bert = (Member(name, create, begin_work, loop.call_later, news.put_nowait) for name in ("anna", "bert"))
        anna.fsm.begin()
        await until("anna", "leads")
        bert.fsm.begin()
        await until("bert", "leading")
        await until("bert", "standby")
        anna.fsm.handle("resign")
        anna.fsm.handle("leave")
        await until("bert", "leads")
        lose_the_session(bert)
        await until("bert", "standby")
        await until("bert", "leads")
        bert.fsm.handle("resign")
        bert.fsm.handle("leave")
        await until("bert", "gone")


def main(arguments: list[str] | None = None) -> int:
    """Tell the story; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--address", help="where a Consul agent listens (default: an embedded one is started)")
    parser.add_argument("--asyncio", action="store_true", help="on an event loop, without threads")
    options = parser.parse_args(arguments)
    try:
        if options.asyncio:
            asyncio.run(on_asyncio(options.address))
        else:
            on_threads(options.address)
    except ConsulLockerError as error:
        print(f"leader: {error}", file=sys.stderr)
        return 1
    except (queue.Empty, asyncio.TimeoutError):
        print(f"leader: nobody leads after {PATIENCE:g} s; does Consul answer?", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
