"""The queue of deferred inputs of a machine, and their replay."""

from __future__ import annotations

from collections.abc import Callable
from threading import get_ident
from typing import TYPE_CHECKING, Any, cast

from .events import Emitter
from .parts import START, Deferred, Queued, plain_name, plain_names
from .rows import described
from .threads import Guard

__all__ = ["Deferring"]


class Deferring(Emitter):
    """A machine's state, the input last given to it, and its queue of deferred inputs; `Fsm` is the rest.

    Args:
        table: what the machine does.
        mutex: as for `Fsm`.
    """

    __slots__ = ("_given", "_guard", "_queue", "fsm_state")

    def __init__(self, table: Any, mutex: bool | None) -> None:
        super().__init__(table)
        self._guard = Guard(mutex)
        self.fsm_state = START
        self._queue: list[Queued] = []
        self._given: tuple[Any, tuple[Any, ...]] | None = None  # the input last given to `handle`: what is deferred

    if TYPE_CHECKING:  # `Fsm` has these; deferred inputs are given to them again

        def handle(self, input: Any, *args: Any) -> Any: ...
        def transition(self, state: str) -> None: ...

    def _let_in(self, method: Callable[..., Any], *args: Any) -> bool:
        """Whether this thread may go on. If not, the guard has called the method, as soon as it might: all is done."""
        owner = self._guard.owner
        if owner is None or owner == get_ident():
            return True
        self._guard.call(method, *args)
        return False

    @property
    def input_queue(self) -> tuple[Queued, ...]:
        """The deferred inputs, oldest first. A batch that is being replayed is not among them."""
        return tuple(self._queue)

    def defer_until_transition(self, state: str | tuple[str, ...] | None = None) -> None:
        """Queue the input last given to `handle` until a state is entered (None: until the next transition).

        That is the input being handled, unless another one was handled in between. Nothing happens
        when there never was one.

        Args:
            state: the state, or several, any of which will do.
        """
        if not self._let_in(self.defer_until_transition, state) or self._given is None:
            return
        given, args = self._given
        if type(given) is str:
            given = Deferred(given)
            self._given = given, args  # it may be deferred once more
        state = plain_names(state)
        self._queue.append(Queued(state, given, args))
        if self._heard("deferred"):
            self._tell("deferred", {"state": self.fsm_state, "until": state, **described(given), "args": args})

    def defer_and_transition(self, state: str) -> None:
        """Defer until a state, and go there."""
        if self._let_in(self.defer_and_transition, state):
            self.defer_until_transition(state)
            self.transition(state)

    def process_queue(self) -> None:
        """Handle again, in order, what is due in the present state; a transition does it by itself.

        The batch leaves the queue first: what its handlers defer waits for a later pass, and clearing
        the queue does not stop it. After an error the rest of the batch is back in its old place.
        """
        before, state = self._queue, self.fsm_state
        if not before or not self._let_in(self.process_queue):
            return
        due = [queued for queued in before if queued.due(state)]
        if not due:
            return
        self._queue = [queued for queued in before if not queued.due(state)]
        done = 0
        try:
            for queued in due:
                done += 1
                self.handle(queued.input, *queued.args)
        except BaseException:
            self._put_back(due[done:], before)
            raise

    def _put_back(self, rest: list[Queued], before: list[Queued]) -> None:
        """Queue the rest of a batch again where it stood among the inputs that waited before it."""
        # By identity: equal inputs may be queued twice, and one of them may be gone by now.
        waiting = {id(queued) for queued in (*self._queue, *rest)}
        older = {id(queued) for queued in before}
        self._queue = [queued for queued in before if id(queued) in waiting] + [
            queued for queued in self._queue if id(queued) not in older
        ]

    def clear_queue(self, state: str | None = None) -> None:
        """Drop the inputs deferred until a state, or (None) all of them."""
        state = plain_name(state)
        self.discard(lambda queued: state is None or queued.until == state)

    def discard(self, predicate: Callable[[Queued], bool]) -> int:
        """Drop the deferred inputs for which ``predicate(queued)`` is true; return how many there were."""
        owner = self._guard.owner
        if owner is not None and owner != get_ident():
            return cast(int, self._guard.call(self.discard, predicate))
        kept = [queued for queued in self._queue if not predicate(queued)]
        dropped = len(self._queue) - len(kept)
        self._queue = kept
        return dropped
