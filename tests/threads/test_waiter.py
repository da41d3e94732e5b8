"""threads/waiter: a blocked call sleeps, is offered transactions, and is answered once."""

from __future__ import annotations

import threading

from hypothesis import given
from hypothesis import strategies as st

from consul_locker.core.requests import Transact
from consul_locker.threads.waiter import Waiter

from ..behaviour.tools import WAIT


def test_it_is_woken_also_by_what_came_before_it_slept() -> None:
    waiter = Waiter()
    waiter.wake()
    waiter.wake()
    waiter.sleep()  # returns at once
    slept = threading.Thread(target=waiter.sleep, daemon=True)
    slept.start()
    waiter.wake()
    slept.join(WAIT)
    assert not slept.is_alive()


@given(st.lists(st.sampled_from(["offer", "take", "withdraw", "close", "reopen"]), max_size=30))
def test_an_offer_is_taken_or_goes_back_and_never_both(actions: list[str]) -> None:
    waiter = Waiter()
    offered, taken, back = [], [], []
    for number, action in enumerate(actions):
        if action == "offer":
            request = Transact(number, ())
            (offered if waiter.offer(request) else back).append(request)
        elif action == "take":
            request_or_none = waiter.take()
            assert waiter.carries is request_or_none
            taken += [request_or_none] if request_or_none is not None else []
        elif action == "withdraw" and offered:
            back += [offered[0]] if waiter.withdraw(offered[0]) else []
        elif action == "close":
            waiter.closed = True
        elif action == "reopen":
            waiter.reopen()
    left = list(waiter.offers)
    assert len({*taken, *back, *left}) == len(taken) + len(back) + len(left) == actions.count("offer")


def test_it_is_answered_once() -> None:
    waiter = Waiter()
    waiter.settle("lease", None)
    waiter.settle(None, ValueError())
    assert (waiter.done, waiter.value, waiter.error) == (True, "lease", None)
