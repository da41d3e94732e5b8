"""Replay a trace of the Locker through `LockerCore` (the format, and what is compared: README.md).

The core is made as the original is: a session without a TTL, one operation in a transaction, any number of
transactions in flight, and a retry interval that is always the trace's. The script's answers go in as Consul's;
what the port reads on its own is answered here, or left unanswered, and no part of the comparison.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from locker_records import (  # beside this file; replay.py sees to the path
    Json,
    Record,
    _compare_final,
    _constructed_alike,
    _expected,
    _first_difference,
    _Step,
    _text,
)

from consul_locker.config.options import LockerOptions
from consul_locker.core.calls import Info, ReadSessionInfo
from consul_locker.core.key import KeyState
from consul_locker.core.locker import LockerCore
from consul_locker.core.messages import Answered, Call, CancelTimer, Emit, SetTimer, Settle, TimerFired
from consul_locker.core.requests import (
    Committed,
    CreateSession,
    DestroySession,
    Done,
    Entry,
    Failed,
    KeysRead,
    Operation,
    Outcome,
    ReadKey,
    ReadSession,
    Refusal,
    Refused,
    Request,
    RolledBack,
    SessionCreated,
    SessionRead,
    Transact,
    Verb,
)
from consul_locker.errors import AlreadyLocked, ConsulUnavailable, SessionEnded
from consul_locker.lease import BaseLease
from consul_locker.models import LockInfo, SessionInfo
from consul_locker.strategies import PermanentStrategy
from tests.told import call_of, purpose_of

#: The limit on one request, in seconds. No time passes but for the pauses between retries, so it is never reached.
TIMEOUT = 10.0
#: A session that is not ours, for locks that Consul declines.
STRANGER = "another-session"
#: The original's defaults.
MAX_RETRIES, RETRY_INTERVAL = 10, 30
#: The inputs' names in the port.
VERBS = {"sessionInfo": "session_info"}
#: Fields of Consul's answers to reads, as the port shows them.
KEY_FIELDS: dict[str, Callable[[Any], Json]] = {
    "Key": lambda info: info.key,
    "Session": lambda info: info.session_id,
    "Flags": lambda info: info.flags,
    "LockIndex": lambda info: info.lock_index,
    "ModifyIndex": lambda info: info.fence,
}
SESSION_FIELDS: dict[str, Callable[[Any], Json]] = {
    "ID": lambda info: info.id,
    "Name": lambda info: info.name,
    "Node": lambda info: info.node,
    "Behavior": lambda info: info.behavior,
    "CreateIndex": lambda info: info.create_index,
}


class _Scripted(Exception):
    """The cause of an error that the script tells of."""


@dataclass
class _Pending:
    """A call to Consul that the script may answer: what it is, and the request that waits for it."""

    name: str
    nth: int
    request: Request
    args: list[Json]
    call: Call | None  # the user's that came last: a read of his belongs to it
    answered: bool = False


def _failed(message: str) -> Failed:
    return Failed(ConsulUnavailable(f"Consul failed: {message}", operation="script", cause=_Scripted(message)))


def _message(error: BaseException | None) -> str:
    """The original's message for an error of the library."""
    if isinstance(error, AlreadyLocked):
        return "Already locked"
    if isinstance(error, SessionEnded):
        return "Locking session has ended"
    cause = error
    while (below := getattr(cause, "cause", None)) is not None:
        cause = below
    return str(cause)


def _shown(info: Any, answer: Json, fields: dict[str, Callable[[Any], Json]]) -> Json:
    """What the port makes of an answer, in the fields of that answer; those it does not show stay as they are."""
    if info is None:
        return None
    return {name: fields[name](info) if name in fields else value for name, value in answer.items()}


class Replayer:
    """One run of a trace: the script played, what is seen noted in ``steps``, the first of them the construction."""

    def __init__(self, trace: Record) -> None:
        self.trace = trace
        options = trace["options"]
        interval = float(options.get("retryInterval", RETRY_INTERVAL))
        self._now = 0.0
        self.core = LockerCore(
            LockerOptions.build(
                options.get("name", "undefined"),
                max_retries=options.get("maxRetries", MAX_RETRIES),
                outage_timeout=0,  # the original tries nothing again
                retry_interval=lambda retry: interval,
                ttl=None,
                strategy=PermanentStrategy() if trace["strategy"] == "permanent" else None,
            ),
            identity={"pid": 0},
            timeout=TIMEOUT,
            clock=lambda: self._now,
            random=lambda: 0.5,
            lease_type=BaseLease,
            max_ops=1,
            max_in_flight=None,
        )
        self.steps: list[_Step] = [_Step(-1)]
        self.settled: Counter[str] = Counter()
        self._state: str | None = None  # as the signals tell it
        self._labels: dict[Call, str] = {}
        self._calls: list[_Pending] = []
        self._read_first: dict[Any, _Pending] = {}  # by the work: releases that look for their tenure
        self._asking: Call | None = None  # the user's call that came last
        self._answers: dict[Call | None, Json] = {}  # the script's answers to users' reads
        self._asked: set[str] = set()  # keys and ids that went to Consul in a release
        self._timer: float | None = None
        self._index = 100
        self._refusal: str | None = None  # what the answer under way says against a lock

    # ------------------------------------------------------------------------------------------ the script

    def run(self, steps: int | None = None) -> None:
        """Construct, and play so many steps of the script (None: all)."""
        self.core.begin(self._now)
        self._carry_out()
        self._end_step()
        for number, step in enumerate(self.trace["script"][:steps]):
            self.steps.append(_Step(number))
            self._play(step)
            self._end_step()

    def _end_step(self) -> None:
        core = self.core
        self.steps[-1].after = {
            "after": self.steps[-1].number,
            "state": core.state,
            "reboots": core.attempts.retries,
            "queued": len(core.fsm.input_queue),
        }

    def _play(self, step: Record) -> None:
        if "call" in step:
            self._call(step)
        elif "settle" in step:
            for pending in self._calls:
                if (pending.name, pending.nth) == (step["settle"], step["nth"]) and not pending.answered:
                    self._answer(pending, step)
        elif "tick" in step:
            if self._timer is not None:
                self._now, self._timer = self._timer, None
                self._give(TimerFired(("retry",)))
        else:
            raise ValueError(f"an unknown step: {step!r}")

    def _call(self, step: Record) -> None:
        verb = str(step["call"])
        verb = VERBS.get(verb, verb)
        if verb == "session_info":
            # The original asks Consul for the session `undefined`; what the port takes for it is up to a face.
            call: Call = ReadSessionInfo(step.get("id") or "")
        elif verb in ("lock", "release", "info"):
            call = call_of(verb, (_text(step["id"]) if "id" in step else "undefined",))
        else:
            call = call_of(verb)
        if "as" in step:
            self._labels[call] = step["as"]
        self._asking = call
        self._give(call)

    def _give(self, event: Any) -> None:
        self.core.step(event, self._now)
        self._carry_out()

    # ------------------------------------------------------------------------------------- Consul's answers

    def _answer(self, pending: _Pending, step: Record) -> None:
        pending.answered = True
        request, refused = pending.request, step.get("ok") is False
        if "fail" in step:
            self._refusal = step["fail"]
            outcome: Outcome = _failed(step["fail"])
            if step["fail"] == "invalid session" and isinstance(request, Transact):
                outcome = RolledBack((Refused(0, Refusal.INVALID_SESSION, 'invalid session ""'),))
        elif isinstance(request, CreateSession):
            body = step["ok"]
            fine = isinstance(body, dict) and "ID" in body
            outcome = SessionCreated(body["ID"]) if fine else _failed("an answer of the wrong form")
        elif isinstance(request, DestroySession):
            outcome = Done()
        elif isinstance(request, (ReadKey, ReadSession)) and request.question:
            self._answers[pending.call] = step["ok"]
            outcome = self._read(request, step["ok"])
        elif not isinstance(step["ok"], bool):
            outcome = _failed("an answer of the wrong form")
        elif isinstance(request, ReadKey):  # a release that looks for its tenure
            outcome = KeysRead((self._entry(request.key, STRANGER if refused else self._session()),), self._index)
        else:
            assert isinstance(request, Transact)
            self._refusal = "Already locked" if refused else None
            outcome = self._declined(request) if refused else self._committed(request)
        self._give(Answered(request, outcome))
        self._refusal = None

    def _read(self, request: ReadKey | ReadSession, answer: Json) -> Outcome:
        """A user's read; fields that the script leaves out are filled in."""
        if isinstance(request, ReadKey):
            if answer is None:
                return KeysRead((), self._index)
            return KeysRead((self._entry(answer.get("Key", request.key), answer.get("Session"), answer),), self._index)
        if answer is None:
            return SessionRead(None, self._index)
        info = SessionInfo(
            id=answer.get("ID", request.session_id),
            name=answer.get("Name", ""),
            node=answer.get("Node", "node"),
            ttl=None,
            lock_delay=0.0,
            behavior=answer.get("Behavior", "release"),
            checks=(),
            create_index=answer.get("CreateIndex", self._index),
        )
        return SessionRead(info, self._index)

    def _entry(self, key: str, session: str | None, answer: Record | None = None, value: bytes | None = None) -> Entry:
        given = answer or {}
        self._index += 1
        return Entry(
            key=key,
            value=value,
            flags=given.get("Flags", 0),
            session=session,
            create_index=1,
            modify_index=given.get("ModifyIndex", self._index),
            lock_index=given.get("LockIndex", 1),
        )

    def _session(self) -> str | None:
        life = self.core.session.life
        return None if life is None else life.session_id

    def _committed(self, request: Transact) -> Committed:
        return Committed(
            tuple(
                self._entry(op.key, op.session if op.verb is Verb.LOCK else None, value=op.value)
                for op in request.operations
            )
        )

    @staticmethod
    def _declined(request: Transact) -> RolledBack:
        """The 409 of a held lock, or of a release of what another session holds."""
        if request.operations[0].verb is Verb.LOCK:
            what = f'failed to lock key "{request.operations[0].key}", lock is already held'
            return RolledBack((Refused(0, Refusal.HELD, what),))
        return RolledBack((Refused(0, Refusal.INDEX, "failed index check"),))

    # --------------------------------------------------------------------------------- the core's commands

    def _note(self, record: Record) -> None:
        self.steps[-1].records.append(record)

    def _carry_out(self) -> None:
        commands = list(self.core.commands)
        self.core.commands.clear()
        ended = any(isinstance(each, Emit) and each.signal == "session_ended" for each in commands)
        for command in commands:
            if isinstance(command, Request):
                self._send(command)
            elif isinstance(command, Emit):
                self._heard(command, ended)
            elif isinstance(command, Settle):
                self._settle(command)
            elif isinstance(command, SetTimer) and command.name == ("retry",):
                self._timer = command.at
                self._note({"timer": round((command.at - self._now) * 1000)})
            elif isinstance(command, CancelTimer) and command.name == ("retry",):
                self._timer = None

    def _send(self, request: Request) -> None:
        if isinstance(request, CreateSession):
            args: Record = {"name": request.name, "lockdelay": f"{request.lock_delay:g}s"}
            more = {"ttl": request.ttl, "checks": request.checks}
            args.update({name: value for name, value in more.items() if value is not None})
            if request.behavior != "release":  # Consul's default
                args["behavior"] = request.behavior
            self._asks("session.create", request, args)
        elif isinstance(request, DestroySession):
            self._asks("session.destroy", request, request.session_id)
        elif isinstance(request, ReadSession) and request.confirms:
            self._give(Answered(request, SessionRead(None, self._index)))  # the script said that it was destroyed
        elif isinstance(request, ReadSession) and request.question:
            self._asks("session.info", request, request.session_id or None)
        elif isinstance(request, ReadKey) and request.question:
            self._asks("kv.get", request, request.key)
        elif isinstance(request, ReadKey):
            self._find_tenure(request)
        elif isinstance(request, Transact) and purpose_of(request) == "commit":
            self._commit(request)
        elif isinstance(request, Transact) and purpose_of(request) == "holder":
            entries = tuple(self._entry(op.key, STRANGER) for op in request.operations)
            self._give(Answered(request, Committed(entries)))

    def _asks(self, name: str, request: Request, arg: Json) -> _Pending:
        nth = sum(1 for each in self._calls if each.name == name)
        pending = _Pending(name, nth, request, [arg], self._asking)
        self._calls.append(pending)
        self._note({"call": name, "nth": nth, "args": pending.args})
        return pending

    def _find_tenure(self, request: ReadKey) -> None:
        """A release reads its key: at first, then it is wanted now, or after a refusal, which says whose the key is."""
        if self._refusal is not None:
            self._give(Answered(request, KeysRead((self._entry(request.key, STRANGER),), self._index)))
            return
        args = {"key": request.key, "value": "", "release": self._session()}
        self._read_first[request.key] = self._asks("kv.set", request, args)
        (slot,) = (slot for slot in self.core.ledger.slots.values() if slot.key == request.key)
        self._releases(request.key, list(slot.works[0].answers))

    def _releases(self, key: str, calls: list[Call]) -> None:
        """The original tells twice of a release that it sends."""
        self._asked.update(self._labels[call] for call in calls if call in self._labels)
        for _ in range(2):
            self._note({"event": "lock.release", "key": key})

    def _commit(self, request: Transact) -> None:
        operation = request.operations[-1]
        args = _args(operation)
        pending = self._read_first.pop(operation.key, None)
        if pending is not None and pending.answered and pending.args == [args]:
            self._give(Answered(request, self._committed(request)))  # counted when it was wanted
            return
        self._asks("kv.set", request, args)
        if operation.verb is Verb.UNLOCK:
            self._releases(operation.key, list(request.calls))

    def _heard(self, emit: Emit, session_ended: bool) -> None:
        facts = emit.facts
        if emit.signal == "session_created":
            self._note({"event": "session.start", "session": facts["session_id"]})
        elif emit.signal == "session_ended":
            self._note({"event": "session.end", "session": facts["session_id"]})
        elif emit.signal == "lock_requested":
            self._note({"event": "lock.request", "key": facts["key"]})
        elif emit.signal == "lock_acquired":
            self._note({"event": "lock.response", "key": facts["key"], "value": True, "error": None})
        elif emit.signal == "lock_denied":
            error = _message(facts["error"])
            self._note({"event": "lock.response", "key": facts["key"], "value": False, "error": error})
        elif emit.signal == "released" and not session_ended:
            self._note({"event": "released", "key": facts["key"]})
        elif emit.signal == "state_changed":
            self._state = facts["to_state"]
            self._note({"event": "transition", "from": facts["from_state"], "to": facts["to_state"]})
        elif emit.signal == "input_deferred":
            record = {"state": self._state, "until": facts["until"], "input": facts["input"], "args": [facts["id"]]}
            self._note({"event": "deferred", **record})

    def _settle(self, command: Settle) -> None:
        call = command.call
        label = self._labels.get(call)
        if label is None:
            return  # a start or reboot, whose answer the original does not give
        self.settled[label] += 1
        if command.error is not None:
            self._note({"settled": label, "fail": _message(command.error)})
            return
        value = command.value
        if isinstance(value, BaseLease):
            value = value.live
        elif isinstance(value, (LockInfo, SessionInfo)) or isinstance(call, (Info, ReadSessionInfo)):
            fields = KEY_FIELDS if isinstance(call, Info) else SESSION_FIELDS
            value = _shown(value, self._answers.get(call), fields)
        elif label in self._asked:
            value = [value]  # the original hands on the list that its client resolves with
        self._note({"settled": label, "ok": value})

    # ------------------------------------------------------------------------------------------- at the end

    def final(self) -> Record:
        """The final state, as far as it is compared."""
        core = self.core
        life = core.session.life
        cache = {KeyState.HELD: True, KeyState.ACQUIRING: "pending"}
        return {
            "state": core.state,
            "prior_state": core.fsm.prior_state,
            "reboots": core.attempts.retries,
            "queue": [
                {"until": queued.until, "input": queued.input, "args": [queued.args[0].id]}
                for queued in core.fsm.input_queue
            ],
            "session": None if life is None else life.session_id,
            "cache": {lease.key: True for lease in (*core.ledger.held(), *core.ledger.parting.values())}
            | {slot.key: cache[slot.state] for slot in core.ledger.slots.values() if slot.state in cache},
            "unsettled": [label for label in self._labels.values() if not self.settled[label]],
            "timers": int(self._timer is not None),
            "unanswered": [f"{each.name} {each.nth}" for each in self._calls if not each.answered],
        }


def _args(operation: Operation) -> Record:
    """An operation as an argument of the original's ``kv.set``. It has no tenures, so their number is left out."""
    value = operation.value or b""
    if operation.verb is Verb.LOCK:
        content = json.loads(value)
        del content["tenure"]
        return {"key": operation.key, "value": json.dumps(content, separators=(",", ":")), "acquire": operation.session}
    return {"key": operation.key, "value": value.decode(), "release": operation.session}


def replay(trace: Record) -> str | None:
    """Replay a trace; return None, or the first record that differs.

    Compared are the construction, the steps before the first that touches a corner of the original
    (``clean_steps``), and the final state of a trace that touches none.
    """
    run = Replayer(trace)
    run.run(trace["clean_steps"])
    return compare(trace, run)


def compare(trace: Record, run: Replayer) -> str | None:
    """Compare what a run of the trace's clean steps saw with the log; return None, or the first that differs."""
    count = trace["clean_steps"]
    for expected in _expected(trace, count):
        if isinstance(expected, str):
            return expected
        seen = run.steps[expected.number + 1]
        if expected.number == -1 and not _constructed_alike(trace):
            continue
        before = run.steps[expected.number].after  # steps[0] is the construction, so this is the step before
        ready = expected.number >= 0 and before["state"] == "ready"
        difference = _first_difference(expected, seen, ready)
        if difference is not None:
            return f"step {expected.number}: {difference}"
    if not trace["touches"]:
        return _compare_final(trace["final"], run.final())
    return None
