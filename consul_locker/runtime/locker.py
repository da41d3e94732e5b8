"""The base of the Lockers of both faces: everything that does not wait, and the fast path to a cached lock."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar, cast

from ..arguments import seconds
from ..config.options import LockerOptions
from ..core.batch import MAX_OPS
from ..core.calls import (
    Guarded,
    Info,
    LockCall,
    Question,
    ReadSessionInfo,
    Reboot,
    Release,
    ReleaseAll,
    Start,
    Stop,
)
from ..core.guarded import own_operations
from ..core.locker import LockerCore
from ..core.machine import STATES, STOPPED
from ..core.messages import Call
from ..errors import ConfigurationError, SessionEnded
from ..keys import check_id, lock_key
from ..lease import BaseLease
from ..models import Health, LockInfo, StateName
from ..strategies import PermanentStrategy
from .cores import CoreMaker
from .delivery import Runtime
from .factory import NOT_COPIED, BaseFactory
from .health import counters_of, health_of, words_of
from .locker_fsm import FsmView

__all__ = [
    "BaseLocker",
    "raisable",
]


LeaseT = TypeVar("LeaseT", bound=BaseLease)

#: Calls that a closed factory refuses: they need Consul, or a new session. The others are answered without.
NEED_OPEN = (Question, Reboot, Start)
#: The most ids of one `lock_many`: its transaction is never split, and each id is one operation of it; two with
#: fair=True, since it also gives back a place in a queue.
MAX_MANY = MAX_OPS
MAX_MANY_FAIR = MAX_OPS // 2
#: The id of a session. Consul answers any other text with an error (measured).
SESSION_UUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")


def raisable(error: BaseException) -> BaseException:
    """An exception for one caller to raise: a copy, if another caller has raised it already.

    Several callers may share an answer. One exception, raised by each of them, would collect the frames of all.
    """
    if error.__traceback__ is None:
        return error  # not raised yet
    copied = copy.copy(error)
    vars(copied).pop("__notes__", None)
    return copied


class BaseLocker(Generic[LeaseT]):
    """The part of a Locker that never waits. The rest is in the `Locker` of each face."""

    #: Its name in a repr.
    _full_name: str
    #: The most transactions of the Locker in flight.
    _max_in_flight = 1
    _runtime: Runtime

    def __init__(self, factory: BaseFactory[Any], options: LockerOptions, lease_type: type[LeaseT]) -> None:
        self._factory = factory
        self._options = options
        self._clock = factory._clock
        self._lease_type = lease_type
        self._forked = False  # whether it was not used since the fork that made this process
        self._idle: LockerCore | None = None  # answers questions until then
        self._view: list[FsmView] = []  # `fsm`, once it was asked for
        self._draining = False
        self._holds: dict[tuple[Any, str], Any] = {}  # (caller, id) -> the present `Hold` (runtime/holds.py)
        #: The observers that it holds itself, by signal; replaced as a whole, since other threads read it.
        self._observers = options.observers
        self._served = 0

    def _core_maker(self, first: LockerCore | None = None) -> Callable[[], LockerCore]:
        """What makes the core, and others in its place. ``first``: the first one, if it is made already."""
        return CoreMaker(self, self._lease_type, self._factory._client.timeout, first).make

    def _follow(self, core: LockerCore) -> None:
        """Another core is the Locker's."""
        self._leases: Mapping[str, BaseLease] = core.ledger.leases
        if not self._draining:
            self._strategy = core.strategy
        for view in self._view:
            view.listen_to(core.fsm)

    @property
    def _core(self) -> LockerCore:
        return self._runtime.core if self._idle is None else self._idle

    # ------------------------------------------------------------------------------------- properties

    @property
    def name(self) -> str:
        """The name, which competing Lockers share."""
        return self._options.name

    @property
    def state(self) -> StateName:
        """``"acquiring"``, ``"ready"``, ``"paused"`` or ``"stopped"``."""
        return cast(StateName, self._core.state)

    @property
    def session_id(self) -> str | None:
        """The id of the present session; None if there is none."""
        life = self._core.session.life
        return None if life is None else life.session_id

    @property
    def reboot_count(self) -> int:
        """Failed attempts to get a session since the Locker was last ready."""
        return self._core.attempts.retries

    @property
    def held(self) -> Mapping[str, LeaseT]:
        """The leases held now, by id: a read-only snapshot."""
        leases: dict[str, Any] = dict(self._leases)
        return MappingProxyType(leases)

    def stats(self) -> dict[str, int]:
        """Counters since the Locker was made.

        Among them: ``granted``, ``denied``, ``cached`` (calls answered without a request), ``shared`` (calls that
        joined a request in flight), ``requests`` (lock operations), ``transactions``, ``released``, ``lost``,
        ``failed``, ``renewals``, ``renewals_failed``, ``outages`` of Consul, ``outage_seconds`` (whole, of all outages,
        the present one included), ``stopping`` (1 during a stop). All are there from the beginning.
        """
        counters = counters_of(self._core, self._clock.now())
        counters["cached"] += self._served
        return counters

    def health(self) -> Health:
        """How the Locker is, for a health endpoint: what it has met so far. Nothing is asked of Consul.

        It never waits, and takes no mutex: each fact is one value, right a moment ago, and nothing is decided by them.
        """
        return health_of(
            self._core,
            self._clock.now(),
            held=len(self._leases),
            waiting=self._runtime.unanswered,
            address=self._factory._addresses.in_use,
        )

    def __repr__(self) -> str:
        core = self._core
        return f"<{self._full_name} {self.name!r} {words_of(core, self._clock.now())} held={len(self._leases)}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(NOT_COPIED)

    # ------------------------------------------------------------------------------- calls that do not wait

    def start(self) -> None:
        """Begin again after a stop, or try at once when paused. In acquiring or ready it does nothing.

        Returns at once; `wait_for_state` waits for the session.

        Raises:
            RuntimeError: the factory is closed, or the process was forked; on asyncio also: not its event loop runs.
        """
        self._submit(Start())

    def reboot(self) -> None:
        """Give up the session, pause, and try again. Every lock is lost ("rebooted"). Returns at once.

        It also starts a stopped Locker again, as in the original; while a stop is under way it does nothing.

        Raises:
            RuntimeError: as for `start`.
        """
        self._submit(Reboot())

    # -------------------------------------------------------------------------------------- for the faces

    @property
    def fsm(self) -> FsmView:
        """The Locker as an `Fsm`, for embedding, inspection and drawing; see `consul_locker.runtime.locker_fsm`."""
        if not self._view:  # made when it is needed; if two threads make one, that of the first is everybody's
            inputs = {**self._inputs(), "start": self.start, "reboot": self.reboot}
            self._view.append(FsmView(lambda: self._core.fsm, inputs, self._queue, self._observe))
        return self._view[0]

    if TYPE_CHECKING:  # each face has it: its functions for the inputs of `fsm` that have an answer

        def _inputs(self) -> dict[str, Callable[..., Any]]: ...

    def _queue(self, job: Callable[[], None]) -> None:
        self._runtime.queue_for_observers(job)

    def _observe(self, signal: str, observer: Callable[..., Any]) -> None:
        """Call an observer at a signal, as long as the Locker lives."""
        self._observers = {**self._observers, signal: (*self._observers.get(signal, ()), observer)}

    def _use(self, open: bool = False) -> None:
        """Before each use: refuse it, or begin anew, as `BaseFactory._check` says."""
        self._factory._check(open)
        if self._forked:
            self._begin_anew()

    def _refuse_new(self) -> None:
        """Refuse a call for locks, by SessionEnded, while the Locker is drained."""
        if self._draining:
            raise SessionEnded(self.name, ", or will be: it is being drained", None, self._factory._closed)

    def _submit(self, call: Call) -> Any:
        self._use(open=isinstance(call, NEED_OPEN))
        return self._runtime.submit(call)

    def _ask(self, call: Call) -> Any:
        self._use(open=isinstance(call, NEED_OPEN))
        if isinstance(call, LockCall):
            self._refuse_new()
        return self._runtime.ask(call)

    def _mark_forked(self) -> None:
        """In the child of a fork: end the leases, so that the child takes none of them for a lock (rule 10).

        Until its first use there, the Locker has a core that does nothing: it is asked for its state, and the like.
        """
        life = self._core.session.life
        if life is not None:
            life.deadline = float("-inf")
        for lease in self._leases.values():
            lease.end("forked")
        stopped = self._core.state == STOPPED
        self._forked, self._holds, self._leases, self._served = True, {}, {}, 0
        views, self._view = self._view, []  # nobody hears this core
        self._idle = idle = self._core_maker()()
        self._view = views
        now = self._clock.now()
        idle.begin(now)
        if stopped:
            idle.step(Stop(), now)
        idle.commands.clear()

    def _begin_anew(self) -> None:
        """At the first use in the child of a fork. On asyncio the factory has refused that."""

    def _cached(self, id: Any) -> LeaseT | None:
        """The lease that answers a call without a request, and without the mutex (docs/design.rst).

        Other threads may run between any two of these lines. But the lease that is returned was claimed, so that the
        cancellation of another call does not end it (`BaseLease.claim` has the proof), and was valid after that.
        """
        lease: Any = self._leases.get(id) if type(id) is str else None
        if lease is None or not lease.cached:
            return None
        strategy = self._strategy
        if type(strategy) is not PermanentStrategy:  # that one serves always: asking is a quarter of this path's time
            try:
                if not strategy.serves(lease, self._clock.now()):
                    return None
            except Exception:  # of a user's strategy: the core asks it again, and reports the error
                return None
        if not lease.shared:
            if not lease.claim():
                return None  # it is being given back, or another call is claiming it: let the core decide
            lease.shared = True
        life = lease._life
        if lease._reason is not None or life.clock() >= life.deadline:  # it is `valid`, without a call
            return None
        self._served += 1
        found: LeaseT = lease
        return found

    def _lock_call(self, kind: type[LockCall], ids: Iterable[Any], wait: Any, timeout: Any) -> LockCall:
        """A call for locks, with checked arguments. The ids of several locks are those of `_ids`."""
        limit = seconds("timeout", timeout)
        return kind(
            dict.fromkeys(ids) if kind.is_set else [check_id(id) for id in ids],
            wait=seconds("wait", wait),
            timeout=self._options.default_timeout if timeout is None else limit,
        )

    def _ids(self, ids: Iterable[Any]) -> list[str]:
        """The ids of `lock_many`, as text. They must be a collection.

        Raises:
            ConfigurationError: they are one text, or too many for one transaction.
        """
        if isinstance(ids, (str, bytes)) or not isinstance(ids, Iterable):
            raise ConfigurationError("ids", ids, "a list of ids, not one; lock() and hold() take one")
        found = [check_id(id) for id in ids]
        most = MAX_MANY_FAIR if self._options.fair else MAX_MANY
        if len(set(found)) > most:
            where = " with fair=True" if self._options.fair else ""
            raise ConfigurationError("ids", f"({len(set(found))} ids)", f"at most {most} at once{where}")
        return found

    @staticmethod
    def _in_order(leases: Iterable[LeaseT], ids: Iterable[str]) -> list[LeaseT]:
        """The lease of each id, in the order of the ids; an id that is given twice has it twice."""
        found = {lease.id: lease for lease in leases}
        return [found[id] for id in ids]

    def _release_call(self, id: Any) -> Call:
        return Release(check_id(id), timeout=self._options.default_timeout)

    def _release_all_call(self) -> Call:
        return ReleaseAll(timeout=self._options.default_timeout)

    def _guarded_call(self, lease: BaseLease, operations: Iterable[Mapping[str, Any]]) -> Call:
        """A call for the user's own KV operations.

        Raises:
            ConfigurationError: they are not valid, or the lease is not of this Locker.
            LockLost: the lease is over.
        """
        if not isinstance(lease, BaseLease):
            raise ConfigurationError("lease", lease, "a lease of this Locker, as lock() and hold() give it")
        own = own_operations(operations)
        if lease.key == lock_key(self.name, lease.id):
            lease.check()
            if lease.session_id == self.session_id:
                return Guarded(lease, [*lease.guard(), *own], timeout=self._options.default_timeout)
            lease.check()  # its session ended just now
        raise ConfigurationError("lease", lease, "it is another Locker's; that one can do this")

    @staticmethod
    def _own_answers(lease: BaseLease, answers: list[LockInfo]) -> list[LockInfo]:
        """The answers to the user's own operations of `guarded`: without those of the guard, which come first."""
        return answers[len(lease.guard()) :]

    def _question(self, kind: type[Info], id: Any) -> Call:
        return kind(check_id(id), timeout=self._options.default_timeout)

    def _session_question(self, session_id: str | None) -> Call:
        if session_id is not None and not (isinstance(session_id, str) and SESSION_UUID.fullmatch(session_id)):
            raise ConfigurationError("session_id", session_id, "the id of a session is a UUID, as Locker.session_id is")
        wanted = self.session_id if session_id is None else session_id
        return ReadSessionInfo(wanted, timeout=self._options.default_timeout)

    def _wait_limit(self, state: str, timeout: float | None) -> float | None:
        """Check the arguments of `wait_for_state`, and return its limit in seconds."""
        self._use()
        if state not in STATES:
            raise ConfigurationError("state", state, f"one of {', '.join(STATES)}")
        return seconds("timeout", timeout)
