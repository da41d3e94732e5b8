"""A Locker as a child of a user's machine: `embed`.

Calls go down: the child takes the inputs ``lock`` and ``release``. Signals come up: each arrives at the parent as an
input of its name, by `post`, so that the thread of the observers never waits for a machine, and whoever waits for the
observers never waits for the machine either. What would wait for Consul while this thread is at the machine is refused
(`consul_locker.may_wait`).
"""

from __future__ import annotations

import threading
from functools import partial
from itertools import count
from typing import Any

from .core.machine import TABLE
from .fsm.events import Emitter
from .fsm.parts import CATCH_ALL, RESET, Input, passed_on, plain_name
from .fsm.rows import Nohandler, described
from .fsm.threads import Guard
from .keys import check_id, lock_key
from .may_wait import MACHINES
from .runtime.locker import BaseLocker
from .runtime.locker_fsm import SIGNALS
from .threads.locker import Locker

__all__ = ["EmbeddedLocker", "embed"]

#: The inputs that it takes. Its life is the state's, so ``start``, ``stop`` and ``reboot`` are left to the parent.
INPUTS = ("lock", "release")


def embed(locker: BaseLocker[Any]) -> EmbeddedLocker:
    """Make a Locker the child of a state: ``State(child=lambda client: embed(factory.create("reports")))``.

    In that state the inputs ``lock`` and ``release`` with an id go to the Locker, and its signals arrive at the machine
    as the inputs ``lock_acquired``, ``lock_denied``, ``lock_lost``, ``released``, ``session_created`` and
    ``session_ended``, each with one argument: a dict of what the signal tells. Leaving the state begins the Locker's
    stop, and waits for nothing; what it still tells is not heard. Each entry takes a new Locker.

    Args:
        locker: of threads or of asyncio. On threads the machine must have ``mutex=True``.

    Returns:
        The child.

    Raises:
        TypeError: it is no Locker.
    """
    if not isinstance(locker, BaseLocker):
        raise TypeError(f"embed() takes a Locker, as factory.create() makes it, not {locker!r}")
    return EmbeddedLocker(locker)


class EmbeddedLocker(Emitter):
    """What `embed` makes: to its parent a machine like any other. All its events are heard through the parent.

    Attributes:
        TABLE: the table of each Locker, for drawings.
        locker: the Locker, for all that is no input: ``service.child.locker.held``.
        GOT: the inputs that tell of what it has until the state is left, for `inspect`.
    """

    TABLE = TABLE
    GOT = ("lock_acquired",)

    def __init__(self, locker: BaseLocker[Any]) -> None:
        self._view = locker.fsm
        super().__init__(self._view.table)
        self.locker = locker
        self._guard: Guard | None = None  # of the parent
        self._stay: object = None  # stands for the time between entry and leaving
        self._left = False
        self._subscription: Any = None
        self._mutex = threading.RLock()  # for `_is_new`; a finalizer may come in between
        self._numbers = count(1)  # of calls, and of what was told of them
        self._session: str | None = None  # the last session of which the parent was told
        self._leases: dict[str, Any] = {}  # by id: the last lease of which the parent was told
        self._denied: dict[str, tuple[int, BaseException]] = {}  # by id: the last refusal, while calls are under way
        self._calls: set[int] = set()  # the numbers of calls for locks that are under way
        self._tasks: set[Any] = set()  # what is under way: an event loop holds its tasks weakly

    # ------------------------------------------------------------------------------------- what one can see

    @property
    def state(self) -> str:
        """The Locker's state."""
        return self.locker.state

    @property
    def composite_state(self) -> str:
        """The Locker's state, too, since there is no machine below it."""
        return self.state

    def knows(self, input: Any) -> bool:
        """Whether it takes an input of that name: ``lock`` and ``release``."""
        return plain_name(input) in INPUTS

    def can_handle(self, input: Any) -> bool:
        """Whether it takes it now; a Locker answers both of its inputs in each of its states."""
        return self.knows(input)

    def __repr__(self) -> str:
        return f"<EmbeddedLocker of {self.locker!r}>"

    # ---------------------------------------------------------------------------------------------- inputs

    def handle(self, input: Any, *args: Any, **options: Any) -> Any:
        """Hand ``lock`` or ``release`` to the Locker; all else bubbles. Never waits.

        Args:
            input: its name, or an `Input`.
            args: the id.
            options: ``wait`` and ``timeout``, as for `Locker.lock`.

        Returns:
            A future (threads) or a task (asyncio) of the answer, which arrives as an input, too. A lock that was asked
            for here becomes ``lock_acquired`` or ``lock_denied``, whatever it was that refused it.

        Raises:
            InvalidLockId: the id cannot name a lock.
            ConfigurationError: an option is not valid.
        """
        given = passed_on(plain_name(input))
        if given.name == RESET:
            return None  # it is new
        if given.name not in INPUTS:
            self._bubble(given, args)
            return None
        done: Any = self._done
        number = next(self._numbers)
        if given.name == "lock":
            done = partial(self._lock_done, args[0] if args else None, number, self._stay)
            self._calls.add(number)  # before its signals may come
        try:
            task = self._view.handle(given.name, *args, **options)
        except BaseException:
            self._calls.discard(number)
            raise
        self._tasks.add(task)
        task.add_done_callback(done)
        return task

    def _bubble(self, given: Input, args: tuple[Any, ...]) -> None:
        payload = Nohandler({**described(given), "args": args, "namespace": self.table.namespace})
        payload.given = given
        self.emit("nohandler", payload)

    # ------------------------------------------------------------------------- where observers are called

    def _hear(self, stay: object, event: str, data: dict[str, Any]) -> None:
        """Hear what the Locker's machine tells, and its signals."""
        if event == "session_created":
            if not self._is_new(data["session_id"]):
                return  # it was there already when the state was entered
        elif event == "lock_acquired":
            self._leases[data["id"]] = data["lease"]
        elif event in ("lock_lost", "released"):
            self._leases.pop(data["id"], None)
        elif event == "lock_denied" and self._calls:
            self._denied[data["id"]] = next(self._numbers), data["error"]
        self._pass_up(stay, event, data)

    def _is_new(self, session: str) -> bool:
        """Whether the parent was not told of a session yet; it counts as told from now on."""
        with self._mutex:
            new = session != self._session
            self._session = session
            return new

    def _lock_done(self, asked: Any, number: int, stay: object, task: Any) -> None:
        """See to it that the parent hears how a call ended: a lock from the cache gives no signal, for one."""
        error = self._done(task)
        self._calls.discard(number)
        if task.cancelled():
            return
        id = check_id(asked)
        if error is not None:
            told, last = self._denied.get(id, (0, None))
            if told < number or type(last) is not type(error) or str(last) != str(error):
                self._pass_up(stay, "lock_denied", {"id": id, "key": lock_key(self.locker.name, id), "error": error})
        elif self._leases.get(id) is not task.result() and task.result().valid:
            lease = self._leases[id] = task.result()
            self._pass_up(stay, "lock_acquired", {"id": id, "key": lease.key, "lease": lease})
        if not self._calls:
            self._denied = {}

    def _done(self, task: Any) -> BaseException | None:
        """Forget a call that is done; its error counts as seen, which asyncio would log."""
        self._tasks.discard(task)
        error: BaseException | None = None if task.cancelled() else task.exception()
        return error

    def _pass_up(self, stay: object, event: str, data: dict[str, Any]) -> None:
        if self._guard is not None:
            self._guard.post(partial(self._arrive, stay), event, (data,))

    def _arrive(self, stay: object, event: str, data: dict[str, Any]) -> None:
        """At the machine, when nothing else is under way there."""
        if stay is not self._stay or stay is None:
            return  # the state was left meanwhile
        self.emit(event, data)
        if event in SIGNALS:
            self._bubble(Input(event), (data,))

    # -------------------------------------------------------------------------------------- coming and going

    def _adopt(self, guard: Guard) -> None:
        """Be let in by a parent's guard.

        Raises:
            RuntimeError: on threads the parent has no mutex; or its state was left before.
        """
        self._refuse_again(self._left)
        if guard.mutex is None and isinstance(self.locker, Locker):
            self._view.handle("stop")  # it was made for this
            raise RuntimeError(
                f"a machine that has the Locker {self.locker.name!r} below a state must be made with mutex=True:"
                " the Locker's signals come from another thread"
            )
        self._guard = guard
        if self._stay is not None:
            MACHINES.add(self, guard)

    def entered(self) -> None:
        """Its state was entered: hear the Locker, before the entry action.

        Raises:
            RuntimeError: it was below a state before, or is.
        """
        self._refuse_again(self._left or self._stay is not None)
        stay = self._stay = object()
        if self._guard is not None:
            MACHINES.add(self, self._guard)
        self._subscription = self._view.on(CATCH_ALL, partial(self._hear, stay))
        session = self.locker.session_id
        if session is not None and self._is_new(session):  # its signal may be over, or yet to come
            self._pass_up(stay, "session_created", {"session_id": session})

    def _refuse_again(self, again: bool) -> None:
        if again:
            raise RuntimeError(
                f"the Locker {self.locker.name!r} was below a state before, and leaving that has begun its stop; make"
                " one for each entry: child=lambda client: embed(factory.create(...))"
            )

    def left(self) -> None:
        """Its state was left: hear it no longer, and begin its stop."""
        self._stay = None
        self._left = True
        self._subscription.off()
        MACHINES.remove(self)
        task = self._view.handle("stop")
        self._tasks.add(task)
        task.add_done_callback(self._done)
