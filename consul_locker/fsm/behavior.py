"""One table for many objects of the user's own: machina's BehavioralFsm."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .events import BUILT_IN, Emitter, Listener
from .machine import Fsm
from .spec import Table

if TYPE_CHECKING:
    from typing_extensions import TypeVar as TypeVarWithDefault  # its stub alone

    Client = TypeVarWithDefault("Client", default=Any)
else:
    Client = TypeVar("Client")

__all__ = ["Behavior"]


class _Weak(Fsm[Any]):
    """A machine that does not keep its client alive."""

    __slots__ = ("_client",)

    @property
    def client(self) -> Any:
        """The client; None once it is gone."""
        return self._client()

    @client.setter
    def client(self, client: Any) -> None:
        self._client = weakref.ref(client)


_Weak._below = _Weak


class _OfClient(_Weak):
    """The machine of one client; its listeners are those of the behavior."""

    __slots__ = ("_behavior",)

    def __init__(self, behavior: Behavior[Any], client: Any, mutex: bool | None) -> None:
        self._behavior = behavior
        super().__init__(behavior.table, client, begin=False, mutex=mutex)

    @property
    def _listeners(self) -> Mapping[str, tuple[Listener, ...]]:
        return self._behavior._listeners

    @_listeners.setter
    def _listeners(self, listeners: object) -> None:
        """It has none of its own."""

    def begin_once(self) -> None:
        """Make the first transition, unless another thread has."""
        if self._let_in(self.begin_once) and not self.begun:
            self.begin()

    def emit(self, event: str, data: Any = None) -> None:
        """Call the behavior's listeners; what a machine says of itself names the client."""
        if event in BUILT_IN and isinstance(data, dict):
            data.setdefault("client", self.client)
        super().emit(event, data)


_OfClient._below = _Weak


class Behavior(Emitter, Generic[Client]):
    """A table for many clients: objects of the user's own, each with a state and a queue of its own.

    A client's machine is made, and begins, when the client is first named. It is kept as long as the client lives.
    Listeners hear the events of all of them; the machine's own events have the ``client`` in their data.

    Args:
        table: what it does; handlers get the client.
        mutex: as for `Fsm`, for the machine of each client.

    Clients must be objects that can be referred to weakly, which those of most classes can.
    """

    __slots__ = ("__weakref__", "_machines", "_making", "_mutex")

    table: Table[Client]

    def __init__(self, table: Table[Client], *, mutex: bool | None = False) -> None:
        super().__init__(table)
        self._mutex = mutex
        self._making = threading.RLock()
        # By id, since clients may be equal, and may not be hashable.
        self._machines: dict[int, tuple[weakref.ref[Any], _OfClient]] = {}

    def of(self, client: Client) -> Fsm[Client]:
        """The machine of a client, for all that a machine can be asked. It begins at the first time.

        Raises:
            TypeError: the client is no object that can be referred to weakly.
        """
        with self._making:
            known = self._machines.get(id(client))
            fsm = self._kept(client) if known is None else known[1]
        if not fsm.begun:  # by its own mutex: an entry action may wait for a thread that names another client
            fsm.begin_once()
        return fsm

    def _kept(self, client: Client) -> _OfClient:
        key = id(client)
        machines = self._machines

        def forget(gone: weakref.ref[Any]) -> None:
            if key in machines and machines[key][0] is gone:
                del machines[key]

        try:
            reference = weakref.ref(client, forget)
        except TypeError:
            raise TypeError(
                f"{client!r} cannot be a client: it must be an object that can be referred to weakly,"
                " as those of a class with __weakref__ can"
            ) from None
        fsm = _OfClient(self, client, self._mutex)
        machines[key] = reference, fsm
        return fsm

    def handle(self, client: Client, input: Any, *args: Any) -> Any:
        """Do what the client's state does with an input, as `Fsm.handle` says."""
        return self.of(client).handle(input, *args)

    def post(self, client: Client, input: Any, *args: Any) -> None:
        """Have an input of a client handled after what is under way, as `Fsm.post` says."""
        self.of(client).post(input, *args)

    def can_handle(self, client: Client, input: Any) -> bool:
        """Whether the client's state does something with an input."""
        return self.of(client).can_handle(input)

    def transition(self, client: Client, state: str) -> None:
        """Send a client to a state, as `Fsm.transition` says."""
        self.of(client).transition(state)

    def reset(self, client: Client) -> None:
        """Send a client back to the initial state."""
        self.of(client).reset()

    def defer_until_transition(self, client: Client, state: str | tuple[str, ...] | None = None) -> None:
        """Queue the client's present input, as `Fsm.defer_until_transition` says."""
        self.of(client).defer_until_transition(state)

    def defer_and_transition(self, client: Client, state: str) -> None:
        """Defer until a state, and go there."""
        self.of(client).defer_and_transition(state)

    def process_queue(self, client: Client) -> None:
        """Handle again what is due in the client's state."""
        self.of(client).process_queue()

    def clear_queue(self, client: Client, state: str | None = None) -> None:
        """Drop what the client has deferred, until a state or (None) all of it."""
        self.of(client).clear_queue(state)

    def state(self, client: Client) -> str:
        """The client's state."""
        return self.of(client).state

    def composite_state(self, client: Client) -> str:
        """The client's state, with those of the machines below."""
        return self.of(client).composite_state

    def snapshot(self, client: Client) -> dict[str, Any]:
        """What is to be kept of a client's machine, as `Fsm.snapshot` says."""
        return self.of(client).snapshot()

    def restore(self, client: Client, snapshot: Mapping[str, Any]) -> None:
        """Have a client go on where a snapshot was taken, without entry actions.

        Raises:
            RuntimeError: the client has begun already.
            TableError: the snapshot does not fit.
        """
        with self._making:
            if id(client) in self._machines:
                raise RuntimeError("this client has begun already; forget() it first")
            fsm = self._kept(client)
            try:
                fsm._put(snapshot)
            except BaseException:
                self.forget(client)
                raise

    def forget(self, client: Client) -> None:
        """Let go of a client: named again, it begins anew."""
        with self._making:
            self._machines.pop(id(client), None)

    def __len__(self) -> int:
        """How many clients have a machine."""
        return len(self._machines)

    def __contains__(self, client: object) -> bool:
        return id(client) in self._machines

    def __repr__(self) -> str:
        return f"<Behavior {self.table.namespace!r}, {len(self)} clients>"
