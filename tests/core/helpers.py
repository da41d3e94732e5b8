"""A driver for LockerCore: a test gives it events and the time, and looks at the commands."""

from __future__ import annotations

from typing import Any, TypeVar

from consul_locker.config.options import LockerOptions
from consul_locker.core.doubts import Doubts
from consul_locker.core.locker import LockerCore
from consul_locker.core.messages import (
    Abandoned,
    Answered,
    Call,
    CancelRequest,
    CancelTimer,
    Command,
    Emit,
    Event,
    Forget,
    LeaseEnded,
    Log,
    SetTimer,
    Settle,
    TimerFired,
)
from consul_locker.core.requests import (
    Committed,
    CreateSession,
    DestroySession,
    Done,
    Entry,
    Failed,
    Gone,
    KeysRead,
    Outcome,
    ReadKey,
    ReadSession,
    Refusal,
    Refused,
    RenewSession,
    Request,
    RolledBack,
    SessionCreated,
    SessionRead,
    Transact,
    Verb,
    Watch,
)
from consul_locker.core.sweep import Sweep
from consul_locker.errors import ConsulUnavailable
from consul_locker.lease import BaseLease
from consul_locker.models import SessionInfo
from consul_locker.strategies import PermanentStrategy

from ..told import call_of, purpose_of

R = TypeVar("R", bound=Request)

TIMEOUT = 10.0
STRANGER = "another-session"
#: "not answered yet", which None would not tell from "answered with None".
PENDING = "(pending)"


def failure(message: str = "connection refused", *, sent: bool = True) -> Failed:
    """No usable answer."""
    return Failed(ConsulUnavailable(message, operation="test", cause=OSError(message)), sent)


def away(message: str = "connection refused", *, sent: bool = True) -> Failed:
    """No usable answer, by an outage: time alone may mend it."""
    return Failed(ConsulUnavailable(message, operation="test", cause=OSError(message), sent=sent, outage=True), sent)


def entry(key: str, session: str | None, index: int, value: bytes | None = None, flags: int = 0) -> Entry:
    return Entry(key, flags, 1, index, 1, value, session)


def session_info(id: str) -> SessionInfo:
    return SessionInfo(id, "svc", "node", 15.0, 0.0, "release", (), 1)


def held(position: int = 0) -> RolledBack:
    return RolledBack((Refused(position, Refusal.HELD, "lock is already held"),))


def not_ours(*positions: int) -> RolledBack:
    """A look: keys at these positions are not ours."""
    return RolledBack(tuple(Refused(position, Refusal.SESSION, "failed session check") for position in positions))


class Driver:
    """One LockerCore, everything it commanded so far, and its timers.

    Args:
        begin: take the first step at once.
        random: what chance always says.
        max_in_flight: of the batch.
        options: of the Locker.
    """

    def __init__(
        self, *, begin: bool = True, random: float = 0.5, max_ops: int = 64, max_in_flight: int = 1, **options: Any
    ) -> None:
        options.setdefault("strategy", PermanentStrategy())
        options.setdefault("identify_holder", False)
        self.now = 1000.0
        self.random = random
        self._options = options
        self._max_ops = max_ops
        self._max_in_flight = max_in_flight
        self.core = self.make_core()
        self.commands: list[Command] = []
        self.open: list[Request] = []  # requests that were not answered
        self.timers: dict[tuple[Any, ...], float] = {}
        self.results: dict[Call, Any] = {}
        self._index = 100
        if begin:
            self.core.begin(self.now)
            self._take()

    def make_core(self) -> LockerCore:
        """A core that has not begun."""
        return LockerCore(
            LockerOptions.build("svc", **self._options),
            identity={"pid": 1},
            timeout=TIMEOUT,
            clock=lambda: self.now,
            random=lambda: self.random,
            lease_type=BaseLease,
            max_ops=self._max_ops,
            max_in_flight=self._max_in_flight,
        )

    # ------------------------------------------------------------------------------------- events

    def _take(self) -> list[Command]:
        commands = list(self.core.commands)
        self.core.commands.clear()
        for command in commands:
            if isinstance(command, Request):
                self.open.append(command)
            elif isinstance(command, CancelRequest):
                self.open.remove(command.request)
            elif isinstance(command, SetTimer):
                self.timers[command.name] = command.at
            elif isinstance(command, CancelTimer):
                self.timers.pop(command.name, None)
            elif isinstance(command, Forget):
                self.timers.clear()
                self.open = [request for request in self.open if not isinstance(request, Watch)]
            elif isinstance(command, Settle):
                assert command.call not in self.results, "settled twice"
                self.results[command.call] = command.error if command.error is not None else command.value
            else:
                assert isinstance(command, (Emit, Log, LeaseEnded))
        self.commands.extend(commands)
        return commands

    def step(self, event: Event, now: float | None = None) -> list[Command]:
        """Give the core an event, at a later time where one is given; returns what it commands."""
        if now is not None:
            assert now >= self.now
            self.now = now
        self.core.step(event, self.now)
        return self._take()

    def call(self, verb: str, *ids: Any, **more: Any) -> Call:
        call = call_of(verb, ids, **more)
        self.step(call)
        return call

    def abandon(self, call: Call) -> None:
        self.step(Abandoned(call))

    def answer(self, request: Request, outcome: Outcome, now: float | None = None) -> list[Command]:
        if request in self.open:
            self.open.remove(request)
        return self.step(Answered(request, outcome), now)

    def fire(self, *name: Any) -> list[Command]:
        """A timer that is set is due: it becomes that late, and fires. ``"call"``: the time of a call is over."""
        at = name[1].deadline if name[0] == "call" else self.timers[name]
        name = ("calls",) if name[0] == "call" else name
        del self.timers[name]
        return self.step(TimerFired(name), max(at, self.now))

    # ------------------------------------------------------------------------------------ requests

    def all(self, kind: type[R]) -> list[R]:
        """The requests of a kind that were not answered, oldest first."""
        return [request for request in self.open if isinstance(request, kind)]

    def one(self, kind: type[R]) -> R:
        """The only request of a kind that was not answered."""
        (request,) = self.all(kind)
        return request

    def sent(self, kind: type[R]) -> list[R]:
        """All requests of a kind so far, answered or not."""
        return [command for command in self.commands if isinstance(command, kind)]

    def commit(self) -> Transact:
        """The only transaction of the batch that was not answered."""
        (request,) = (each for each in self.all(Transact) if self.purpose(each) == "commit")
        return request

    def look(self) -> Transact:
        """The look that is due at keys that we do not have, and may have all the same."""
        self.fire("look")
        (request,) = (each for each in self.all(Transact) if self.purpose(each) == "look")
        assert request.consistent
        return request

    def purpose(self, request: Transact | ReadKey) -> str:
        """What a request is for: what its operations say, or who takes its answer."""
        taker: Any = self.core._out._lasting.get(request) or self.core._out._asked.get(request)
        if isinstance(request, ReadKey):
            found = {"_judge": "verdict", "_key_read": "info"}.get(taker.func.__name__)
            return found or ("doubt" if isinstance(taker.func.__self__, Doubts) else "release")
        purpose = purpose_of(request)
        return "sweep" if purpose == "look" and taker and isinstance(taker.func.__self__, Sweep) else purpose

    # ----------------------------------------------------------------------------------- in a word

    def ready(self, session_id: str = "S1") -> Driver:
        """Consul creates the session."""
        self.answer(self.one(CreateSession), SessionCreated(session_id))
        assert self.core.state == "ready"
        return self

    def no_session(self, message: str = "connection refused") -> None:
        """Consul does not create it."""
        self.answer(self.one(CreateSession), failure(message))

    def committed(self, request: Transact) -> Committed:
        """The answer to a transaction that was done."""
        self._index += 1
        return Committed(
            tuple(
                entry(op.key, op.session if op.verb is Verb.LOCK else None, self._index, op.value)
                for op in request.operations
            )
        )

    def grant(self, request: Transact | None = None) -> None:
        """Consul does the transaction: the one in flight, unless another is named."""
        request = request if request is not None else self.commit()
        self.answer(request, self.committed(request))

    def locked(self, id: str) -> Any:
        """A lock that is held: its lease."""
        call = self.call("lock", id)
        self.grant()
        return self.results[call]

    def found(self, request: ReadKey, session: str | None, index: int = 500) -> None:
        """A key is read; with no session it is not there."""
        entries = () if session is None else (entry(request.key, session, index),)
        self.answer(request, KeysRead(entries, index))

    def destroyed(self) -> None:
        """Consul destroys the session, and no longer finds it."""
        self.answer(self.one(DestroySession), Done())
        (confirming,) = (read for read in self.all(ReadSession) if read.confirms)
        self.answer(confirming, SessionRead(None, 1))

    def gone(self) -> None:
        """A renewal was answered 404, and a read does not find the session either."""
        self.answer(self.one(RenewSession), Gone())
        (read,) = (read for read in self.all(ReadSession) if not read.confirms and not read.question)
        self.answer(read, SessionRead(None, 1))

    def result(self, call: Call) -> Any:
        """What a call was answered with (a value, or an error), or `PENDING`."""
        return self.results.get(call, PENDING)

    # -------------------------------------------------------------------------------------- signals

    def emitted(self, *signals: str) -> list[tuple[Any, ...]]:
        """The signals so far, of those names if any are given: (name, what tells them apart).

        The first of all, that the machine has begun, is left out.
        """
        telling = {
            "state_changed": "to_state",
            "session_created": "session_id",
            "session_ended": "reason",
            "lock_lost": "reason",
        }
        return [
            (command.signal, command.facts[telling.get(command.signal, "id")])
            for command in self.commands
            if isinstance(command, Emit)
            and (not signals or command.signal in signals)
            and command.facts.get("from_state", "") is not None
        ]

    def states(self) -> list[str]:
        """The states that it went to, one after another."""
        return [state for _, state in self.emitted("state_changed")]

    def logged(self) -> str:
        return "\n".join(command.text for command in self.commands if isinstance(command, Log))
