"""core/step: whoever asks gets the answer, once, unless its generation has ended."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from consul_locker.core.calls import Lock
from consul_locker.core.messages import CancelRequest, CancelTimer, LeaseEnded, SetTimer, Settle
from consul_locker.core.requests import Committed, RawTransact, Transact, WatchKey
from consul_locker.core.step import Outbox
from consul_locker.lease import BaseLease, SessionLife

ANSWER = Committed(())


def outbox() -> Outbox:
    return Outbox(lambda: 0.5)


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(["answer", "forget", "end"])), max_size=20))
def test_an_answer_reaches_who_asked_once_and_nobody_after_the_generation(asked: list[tuple[bool, str]]) -> None:
    out, heard, expected = outbox(), [], []
    for number, (lasting, then) in enumerate(asked):
        request = Transact(number, ())
        out.ask(request, lambda outcome, number=number: heard.append(number), lasting=lasting)
        if then == "forget":
            out.forget(request)
        elif then == "end":
            out.end_generation()
        reaches = then == "answer" or (then == "end" and lasting)
        assert out.answered(request, ANSWER) is reaches
        assert out.answered(request, ANSWER) is False
        expected += [number] if reaches else []
    assert heard == expected


def test_the_end_of_a_generation_gives_up_its_watches_and_leaves_what_lasts() -> None:
    out, heard = outbox(), []
    watch, question = WatchKey(1, "key", 0, 60.0), RawTransact(1, ())
    out.ask(watch, heard.append)
    out.ask(question, heard.append, lasting=True)
    out.commands.clear()
    out.end_generation()
    assert list(out.commands) == [CancelRequest(watch)]
    assert out.answered(question, ANSWER)
    assert heard == [ANSWER]


def test_a_timer_is_set_with_what_it_does_and_does_it_once() -> None:
    out, heard = outbox(), []
    out.timer(("audit",), 1.0, lambda: heard.append("first"))
    out.timer(("audit",), 2.0, lambda: heard.append("second"))  # in its place
    out.fired(("audit",))
    out.fired(("audit",))
    assert heard == ["second"]
    assert list(out.commands) == [SetTimer(("audit",), 1.0), SetTimer(("audit",), 2.0)]


def test_a_timer_that_was_cancelled_does_nothing() -> None:
    out, heard = outbox(), []
    out.timer(("audit",), 1.0, lambda: heard.append("fired"))
    out.cancel(("audit",))
    out.cancel(("audit",))
    out.fired(("audit",))
    assert heard == []
    assert list(out.commands) == [SetTimer(("audit",), 1.0), CancelTimer(("audit",))]


def test_a_call_is_settled_once() -> None:
    out, call = outbox(), Lock(("1",))
    out.settle(call, "lease")
    out.settle(call, error=ValueError())
    assert [command for command in out.commands if isinstance(command, Settle)] == [Settle(call, "lease", None)]


def test_a_lease_ends_once() -> None:
    out = outbox()
    clock: Any = lambda: 0.0  # noqa: E731 # a clock that stands still
    life = SessionLife(1, "S", 10.0, "n", clock)
    lease, other = BaseLease("1", life, 7, 0.0, False), BaseLease("2", life, 7, 0.0, False)
    life.jobs[lease] = []  # somebody waits for its end
    out.end(other, "released")
    out.end(lease, "released")
    out.end(lease, "session destroyed")
    assert list(out.commands) == [LeaseEnded(lease)]
    assert lease.reason == "released"
