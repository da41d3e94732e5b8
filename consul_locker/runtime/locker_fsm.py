"""A Locker as an `Fsm`: for embedding it in a larger machine, for inspection, and for drawing.

The Locker's own machine belongs to its core, and is only used under the Locker's mutex (or on its event loop). The view
reads it, hands inputs to the Locker, and calls listeners where the observers of signals are called: in order, outside
the mutex.
"""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NoReturn

from ..core.messages import Call
from ..fsm import CATCH_ALL, Fsm, Listener, Queued, Subscription, TableError
from ..fsm.errors import nearest

__all__ = ["SIGNALS", "FsmView"]

#: The signals of a Locker that are events of its machine as well, each with the signal's facts as its data.
SIGNALS = ("lock_acquired", "lock_denied", "lock_lost", "released", "session_created", "session_ended")
#: How similar the name of a user's own event may be to one of these, from 0 to 1; above that it is taken for a slip.
NEAR = 0.85


def _plain(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments of an input as its user gave them: ids instead of the core's calls."""
    return tuple(each for arg in args for each in (arg.ids if isinstance(arg, Call) else (arg,)))


class FsmView(Fsm):
    """What `Locker.fsm` is.

    `handle` takes the inputs of a user: ``lock`` and ``release`` with an id (and the keyword arguments of
    the Locker's methods), ``start``, ``stop``, ``reboot``. It returns what the Locker's own method for it does
    without waiting: a future on threads, a task on asyncio, None for ``start`` and ``reboot``. All
    other inputs come from Consul and from timers.

    Its events are those of any machine, and ``lock_acquired``, ``lock_denied``, ``lock_lost``, ``released``,
    ``session_created`` and ``session_ended``, each with the data of the signal of that name.
    """

    __slots__ = ("_core_fsm", "_inputs_of_user", "_observe", "_queue_for_observers", "_relay", "_signals")

    def __init__(
        self,
        core_fsm: Callable[[], Fsm],
        inputs: Mapping[str, Callable[..., Any]],
        queue_for_observers: Callable[[Callable[[], None]], None],
        observe: Callable[[str, Callable[..., None]], None],
    ) -> None:
        self._core_fsm = core_fsm
        self._inputs_of_user = inputs
        self._queue_for_observers = queue_for_observers
        self._observe = observe
        self._relay: Subscription | None = None
        self._signals: set[str] = set()  # those that it observes so far
        super().__init__(core_fsm().table, begin=False, mutex=None)

    @property
    def state(self) -> str:
        """The Locker's state."""
        return self._core_fsm().state

    @property
    def prior_state(self) -> str | None:
        """The state before this one, or None."""
        return self._core_fsm().prior_state

    @property
    def current_action(self) -> str:
        """What the Locker's machine is doing, as ``"ready.lock"``; "" most of the time."""
        return self._core_fsm().current_action

    @property
    def prior_action(self) -> str:
        """What it did before that."""
        return self._core_fsm().prior_action

    @property
    def in_exit_handler(self) -> bool:
        """Whether it is leaving a state."""
        return self._core_fsm().in_exit_handler

    @property
    def input_queue(self) -> tuple[Queued, ...]:
        """The deferred calls, oldest first, with their ids as arguments."""
        return tuple(Queued(until, input, _plain(args)) for until, input, args in self._core_fsm().input_queue)

    def knows(self, input: Any) -> bool:
        """Whether `handle` takes an input of that name."""
        return input in self._inputs_of_user

    def can_handle(self, input: Any) -> bool:
        """Whether `handle` would do something with an input now."""
        return self.knows(input) and super().can_handle(input)

    def handle(self, input: Any, *args: Any, **options: Any) -> Any:
        """Give the Locker an input, as its methods do.

        Raises:
            ValueError: it is no input of a user.
        """
        method = self._inputs_of_user.get(input)
        if method is None:
            raise ValueError(f"{input!r} is no input of a user: one of {', '.join(self._inputs_of_user)}")
        return method(*args, **options)

    def on(self, event: str, listener: Listener) -> Subscription:
        """Call a listener at an event, as `Fsm.on` says; it is called like an observer of a signal.

        Raises:
            TypeError: it is a coroutine function; those can observe signals, on asyncio.
        """
        if inspect.iscoroutinefunction(listener):
            raise TypeError("a listener of a machine's events is a plain function; a coroutine can observe signals")
        near = None if event in SIGNALS else nearest(event, SIGNALS, NEAR)
        if near is not None:
            raise TableError("on()", event, "is no event of a Locker's machine", (near,))
        if self._relay is None:
            self._relay = self._listen(self._core_fsm())  # and to those that come in its place: `listen_to`
        for signal in SIGNALS if event == CATCH_ALL else (event,):
            if signal in SIGNALS and signal not in self._signals:
                self._signals.add(signal)
                self._observe(signal, partial(self._pass_on_signal, signal))
        return super().on(event, listener)

    def listen_to(self, core_fsm: Fsm) -> None:
        """Another core comes in the place of the Locker's: its machine is to be heard from the first transition on."""
        if self._relay is not None:
            self._relay = self._listen(core_fsm)

    def _listen(self, core_fsm: Fsm) -> Subscription:
        """Hear the Locker's own machine, which does not keep this view by that, nor its Locker."""
        me = weakref.ref(self)

        def pass_on(event: str, data: Mapping[str, Any]) -> None:
            view = me()
            if view is not None:
                view._pass_on(event, data)

        return core_fsm.on("*", pass_on)

    def _pass_on_signal(self, signal: str, locker: object, **facts: Any) -> None:
        """Called in the thread of the observers, or in their task: there the listeners are called, too."""
        self._tell(signal, facts)

    def _pass_on(self, event: str, data: Mapping[str, Any]) -> None:
        if self._listeners:
            payload = dict(data)
            if "args" in payload:
                payload["args"] = _plain(payload["args"])
            self._queue_for_observers(lambda: self.emit(event, payload))

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("the machine of a Locker can be neither pickled nor copied, as the Locker itself cannot")

    def snapshot(self) -> dict[str, Any]:
        """Refused: a Locker's session and its locks are in Consul."""
        raise RuntimeError("a Locker cannot be kept: its session ends without it; make a new one")

    def dispose(self) -> None:
        """Refused."""
        raise RuntimeError("a Locker's machine ends with the Locker; stop() it")

    def transition(self, state: str) -> None:
        """Refused, as all that would move the machine past its inputs."""
        raise RuntimeError(f"a Locker cannot be sent to {state!r}: its machine moves by its inputs; use handle()")

    def defer_until_transition(self, state: str | tuple[str, ...] | None = None) -> None:
        """Refused: only the machine's own actions can defer."""
        raise RuntimeError("only the actions of a Locker's machine can defer an input")

    def process_queue(self) -> None:
        """Refused: the machine does it on entering a state."""
        raise RuntimeError("a Locker's deferred inputs are replayed by its machine only")

    def discard(self, predicate: Callable[[Queued], bool]) -> int:
        """Refused: every deferred call is answered (rule 7)."""
        raise RuntimeError("a Locker's deferred calls cannot be dropped; each of them is answered")

    def clear_queue(self, state: str | None = None) -> None:
        """Refused, as `discard`."""
        self.discard(lambda queued: True)
