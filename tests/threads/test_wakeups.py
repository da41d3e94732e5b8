"""threads/wakeups: waiting on threads. What happens in the waiting thread itself, the test decides by `over`."""

from __future__ import annotations

import threading

from consul_locker.threads.wakeups import Sleepers

from ..behaviour.tools import WAIT, until


def test_what_is_so_is_not_waited_for() -> None:
    sleepers = Sleepers()
    assert sleepers.wait(lambda: True, None)
    assert len(sleepers) == 0


def test_the_time_is_over_first() -> None:
    sleepers = Sleepers()
    assert not sleepers.wait(lambda: False, 0.0)
    assert not sleepers.wait(lambda: False, 0.001)
    assert len(sleepers) == 0


def test_all_are_woken_and_look_again() -> None:
    sleepers, so, done = Sleepers(), threading.Event(), []
    threads = [threading.Thread(target=lambda: done.append(sleepers.wait(so.is_set, WAIT))) for _ in range(3)]
    for thread in threads:
        thread.start()
    until(lambda: len(sleepers) == 3)
    sleepers.wake()
    sleepers.wake()  # some are awake by now
    assert not done
    so.set()
    sleepers.wake()
    for thread in threads:
        thread.join(WAIT)
    assert done == [True] * 3


def test_a_wake_up_by_the_thread_itself_right_before_it_sleeps_is_not_missed() -> None:
    """A signal handler, after the look that found nothing."""
    sleepers, looks = Sleepers(), []

    def over() -> bool:
        looks.append(None)
        if len(looks) == 1:
            sleepers.wake()
        return len(looks) > 1

    assert sleepers.wait(over, WAIT)
    assert len(looks) == 2


def test_a_limit_longer_than_threads_can_wait() -> None:
    sleepers, so, done = Sleepers(), threading.Event(), []
    thread = threading.Thread(target=lambda: done.append(sleepers.wait(so.is_set, 1e300)))
    thread.start()
    until(lambda: len(sleepers))
    so.set()
    sleepers.wake()
    thread.join(WAIT)
    assert done == [True]
