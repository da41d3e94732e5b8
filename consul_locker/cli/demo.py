"""``consul-locker demo``: shows in a few seconds what a Locker does."""

from __future__ import annotations

import logging
import textwrap
import threading
import uuid
from typing import TYPE_CHECKING, Any

from .. import signals
from ..errors import AlreadyLocked, ConsulLockerError, ConsulUnavailable
from ..threads.factory import LockerFactory
from ..threads.locker import Locker

if TYPE_CHECKING:
    import click
    from rich.console import Console
    from rich.text import Text

    from ..embedded import Agent

__all__ = ["add"]

#: The lock of the demo. It protects nothing.
LOCK = "invoice-7"
#: Another, for the calls that wait for the agent to come back.
LATE_LOCK = "invoice-8"

#: The pause before the Locker of the demo tries again, in seconds: long enough to see it, and then twice.
PAUSE = 0.6
#: The fewest characters of words in a line, however narrow the terminal is.
NARROWEST = 20
#: How long a step of the demo may take, in seconds: enough for a slow agent; a healthy one takes milliseconds.
PATIENCE = 5.0


def add(group: click.Group) -> None:
    """Add the command to those of the command line."""
    import click
    from rich.console import Console

    @group.command()
    @click.option("--host", help="An agent of your own, as Consul's tools take it.  [default: an embedded agent]")
    @click.option("--port", type=click.IntRange(1, 65535), help="Its HTTP port.  [default: 8500]")
    def demo(host: str | None, port: int | None) -> None:
        """Show in a few seconds what a Locker does, and why.

        Without options it needs no Consul: it runs an embedded agent. On your own agent it uses keys below
        consul-locker-demo-..., and leaves none of them behind.
        """
        console = Console(highlight=False, soft_wrap=True)
        # The demo shows what happens; the log of the library would show it twice.
        logger = logging.getLogger("consul_locker")
        silent = logging.NullHandler()
        logger.addHandler(silent)
        try:
            _demo(console, host, port)
        except ConsulLockerError as error:
            raise click.ClickException(_plainly(error)) from error
        finally:
            logger.removeHandler(silent)


def _plainly(error: ConsulLockerError) -> str:
    """An error in one line."""
    text = " ".join(str(error).split())
    if isinstance(error, ConsulUnavailable):
        return f"no Consul agent answers ({text}); without --host and --port the demo brings its own"
    return text


def _demo(console: Console, host: str | None, port: int | None) -> None:
    """Run the demo on the given agent, else on an embedded one."""
    if host is None and port is None:
        from ..embedded import Agent  # with a server, which the other way does not need

        with Agent() as agent, LockerFactory.embedded(agent) as factory:
            console.print(f"An embedded agent plays Consul here, at {agent.address}.")
            _Story(console, factory, agent).tell()
        return
    with LockerFactory(host, port, timeout=PATIENCE) as factory:
        with factory.create(_name(), max_retries=0, outage_timeout=0) as probe:
            probe.holder(LOCK)  # before anything is shown: does the agent answer, and are we allowed?
        console.print(f"On your agent, at {factory._client.address}.", markup=False)
        _Story(console, factory, None).tell()


def _name() -> str:
    """A name for Lockers, new each time: two demos on one agent must not compete."""
    return f"consul-locker-demo-{uuid.uuid4().hex[:8]}"


#: What each signal means, in plain words; the names in braces are the signal's arguments.
WORDS = {
    "session_created": "Consul made a session; locks hang on it",
    "session_ended": "the session is over ({reason})",
    "state_changed": "{from_state} -> {to_state}, by the input {input}",
    "input_deferred": "{input}({id!r}) came too early: kept until {until}",
    "lock_requested": "asks Consul for {id!r}",
    "lock_acquired": "granted: {id!r}, with the fence {lease.fence}",
    "lock_denied": "denied: {error}",
    "lock_lost": "lost {id!r} ({reason}): its users must stop now",
    "released": "gave {id!r} back",
}

#: The colours of the states, those of the diagram.
STYLES = {"acquiring": "blue", "ready": "green", "paused": "yellow", "stopped": "red"}


#: What the demo's end says.
NEXT = (
    ("consul-locker demo --host 127.0.0.1 --port 8500", "the same on a Consul of your own"),
    ("python -m consul_locker.embedded --port 8500", "this agent, for programs of your own"),
    ("examples/two_lockers.py in the sources", "a short program to begin with"),
)


class _Story:
    """The demo, chapter by chapter.

    Args:
        console: shows it.
        factory: makes the Lockers.
        agent: the embedded agent, which the demo can stop and start again; None for a real one.
    """

    def __init__(self, console: Console, factory: LockerFactory, agent: Agent | None) -> None:
        self._console = console
        self._agent = agent
        self._factory = factory
        self._name = _name()
        self._who: dict[Locker, str] = {}
        self._newest = ""  # the label of the Locker that is being made: its signals may come before `create` returns
        self._states: dict[Locker, str] = {}
        self._chapters = 0
        self._failed = threading.Event()  # set when an attempt to get a session has failed
        self._observers = {name: self._observer(name) for name in signals.ALL}  # blinker holds them weakly

    def tell(self) -> None:
        """Run the whole demo."""
        for name, observer in self._observers.items():
            signals.ALL[name].connect(observer)
        try:
            self._tell()
        finally:
            for name, observer in self._observers.items():
                signals.ALL[name].disconnect(observer)
        from rich.text import Text

        self._console.print("\n[bold]That was it.[/bold] What to try next:")
        for line, meaning in NEXT:
            self._hanging(Text(f"   {line:<53}"), meaning)

    def _tell(self) -> None:
        self._chapter("A Locker begins its session at once. Calls that come before it are kept, not refused.")
        if self._agent is not None:
            with self._agent.pause():  # so that the calls come before the session
                first = self._locker("first")
                calls = [first.submit_lock(LOCK, timeout=PATIENCE) for _ in range(2)]
        else:
            first = self._locker("first")
            calls = [first.submit_lock(LOCK, timeout=PATIENCE) for _ in range(2)]
        for call in calls:
            call.result(2 * PATIENCE)  # its own timeout is shorter
        self._say(first, f"both calls have one lease; requests for locks so far: {first.stats()['requests']}")

        self._chapter("A second Locker of the same name competes. It is told who has the lock.")
        second = self._locker("second")
        try:
            second.lock(LOCK, timeout=PATIENCE)
        except AlreadyLocked as error:
            self._say(second, f"AlreadyLocked: {_holder(error)}")

        self._chapter("The lock belongs to the Locker: asked again, it answers from its cache.")
        first.lock(LOCK)
        self._say(first, f"the same lease; requests for locks so far: {first.stats()['requests']}, as before")

        self._chapter("Released, the lock is there for the other. Its fence has risen: late writes can be refused.")
        first.release(LOCK)
        second.lock(LOCK, timeout=PATIENCE)

        self._away(second)

        self._chapter("To stop a Locker destroys its session, and that frees all its locks.")
        first.stop()
        second.stop()

    def _away(self, locker: Locker) -> None:
        """The agent is stopped, or the Locker is only rebooted; a call waits until the Locker has a session again."""
        if self._agent is not None:
            self._chapter("The agent goes away. Rebooted, a Locker pauses, tries again, and keeps what is asked of it.")
            self._agent.stop_listening()
        else:
            self._chapter("Rebooted (your agent stays), a Locker pauses, tries again, and keeps what is asked of it.")
        locker.reboot()
        call = locker.submit_lock(LATE_LOCK, timeout=PATIENCE)
        if self._agent is not None:
            self._failed.wait(PATIENCE)
            self._chapter("The agent comes back. The next try succeeds, and the call is replayed.")
            self._agent.listen_again()
        call.result(2 * PATIENCE)

    # -------------------------------------------------------------------------------------- line by line

    def _locker(self, who: str) -> Locker:
        self._newest = who
        return self._factory.create(
            self._name,
            value={"who": who},
            max_retries=5,
            retry_interval=lambda retry: PAUSE,
            behavior="delete",  # nothing is left behind, even if the demo is interrupted
            delete_on_release=True,
        )

    def _chapter(self, title: str) -> None:
        from rich.text import Text

        self._chapters += 1
        self._console.print()
        self._hanging(Text(f"{self._chapters}. ", "bold"), title)
        if self._chapters == 1:
            self._console.print(f"   {'locker':<8}{'state':<11}{'signal':<17}what happens", style="dim")

    def _say(self, locker: Locker, words: str, signal: str = "-") -> None:
        """One line: which Locker, its state, the signal ("-": none), and what happens."""
        from rich.text import Text

        state = self._states.get(locker, "acquiring")
        line = Text(f"   {self._who.setdefault(locker, self._newest):<8}")
        line.append(f"{state:<11}", STYLES[state])
        line.append(f"{signal:<17}", "dim")
        self._hanging(line, words)

    def _hanging(self, line: Text, words: str) -> None:
        """Print a line; on a terminal words that do not fit go on below the first of them, and none is broken."""
        if self._console.is_terminal:
            indent = " " * len(line)
            width = max(self._console.width - len(line), NARROWEST)
            words = f"\n{indent}".join(textwrap.wrap(words, width, break_long_words=False, break_on_hyphens=False))
        self._console.print(line.append(words))

    def _observer(self, name: str) -> Any:
        def observe(locker: Locker, **facts: Any) -> None:
            if name == "state_changed":  # the state at the signal; `locker.state` may have changed since
                self._states[locker] = facts["to_state"]
            if isinstance(facts.get("error"), AlreadyLocked):
                facts["error"] = _holder(facts["error"])
            self._say(locker, WORDS[name].format(**facts), name.replace("_", "-"))
            if facts.get("input") in ("session_failed", "session_refused"):
                self._failed.set()

        return observe


def _holder(error: AlreadyLocked) -> str:
    """Which holder has the lock: from the value that it wrote into the key."""
    if error.holder is None or error.holder.value is None:
        return f"{error.id!r} is held by another holder"
    process = error.holder.described().partition(" (")[0]  # without the session: it would fill the line
    return f"{error.id!r} is held by the {error.holder.value['who']} locker, {process}"
