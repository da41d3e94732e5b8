"""What is on its way in a schedule of the walk (simulation.py): the time, the requests, and their fates."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from random import Random

from consul_locker.config.options import LockerOptions
from consul_locker.core.audit import FEW
from consul_locker.core.requests import Failed, KeysRead, Outcome, ReadKey, Request, SessionRead, Transact, Verb, Watch
from consul_locker.errors import ConsulUnavailable
from consul_locker.lease import BaseLease
from consul_locker.strategies import PermanentStrategy

from .around import Violation
from .breaks import breaking_off
from .consul import SimConsul, Snapshot
from .outages import Outages
from .player import Player

#: The limit on a request, in seconds of simulated time.
TIMEOUT = 4.0
#: So much later than its time-out a request may still commit, in seconds.
LATEST = 8.0
#: How long the calm is, in seconds: the latest request, some periods to audit in, and the pauses of a retry.
CALM = 40.0
#: A renewal period, in seconds: the audits are so far apart.
PERIOD = 5.0
#: So long keys that were refused or given back are looked at, in seconds: no second copy of a request comes later, and
#: one look may fail.
FORMER_FOR = TIMEOUT + LATEST + 2 * PERIOD
#: A snapshot of that age, in seconds, has locks that are looked at no longer.
OLD = FORMER_FOR + PERIOD
#: A round of the last act, in seconds: longer than the longest pause of a waiter (1 s) and some requests.
ROUND = 3.0
#: How often a step is broken off, where steps are.
BREAKS = 0.1
#: And in a schedule at most so often. After each the core is another one, which asks again for the end of all sessions
#: that were given up; with more of them than 1 / BREAKS the answers alone would break off ever more steps, without end.
MOST_BREAKS = 200
#: In this part of the schedules Consul does not take the key of one of several ids.
SPOILT = 0.15
#: A line of the longest steps, near their ends.
LONGEST_STEP = 1000
#: What may go wrong beside single requests.
MISHAPS = (
    "destroy", "delete", "overwrite", "take", "give", "snapshot", "restore", "pause", "jump", "start", "narrow"
)  # fmt: skip
#: After so long all orphaned sessions have expired: 2 x TTL.
EXPIRED = 31.0


class Register:
    """What the locks protect: it takes a write only with a fence that is not lower than the highest seen."""

    def __init__(self) -> None:
        self.highest = 0
        self.lease: BaseLease | None = None

    def write(self, lease: BaseLease) -> None:
        """A holder writes, or one that was a holder."""
        if lease.fence < self.highest:
            return
        if lease.fence == self.highest and lease is not self.lease:
            raise Violation("mutual exclusion at a fenced register", f"{lease} and {self.lease}")
        self.highest, self.lease = lease.fence, lease


class Moody:
    """A user's strategy: now it remembers and shares, now it does not."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng

    @property
    def shares_in_flight(self) -> bool:
        return self._rng.random() < 0.5

    def keeps(self, lease: BaseLease) -> bool:
        return self._rng.random() < 0.5

    def serves(self, lease: BaseLease, now: float) -> bool:
        if self._rng.random() < 0.1:
            raise ValueError("not in the mood")
        return self._rng.random() < 0.5


class Traffic:
    """The time of a schedule, its Lockers, their requests, and what becomes of them."""

    def __init__(self, seed: int | str, events: int = 60, *, breaks: bool = False) -> None:
        self.rng = Random(seed)
        self._breaks = Random(f"{seed} breaks") if breaks else None
        self.now = 0.0
        self.sim = SimConsul()
        self.sim.on_overwrite = self._overwritten
        self.faults = True
        self.outages = Outages(self, seed)
        self.latest = LATEST
        self.events = events
        self.fences: dict[tuple[str, int], BaseLease] = {}
        self.registers: dict[str, Register] = {}
        self.players: list[Player] = []
        self.ids = ["a", "b", "c"][: self.rng.randint(1, 3)]
        if len(self.ids) > 1 and (chance := Random(f"{seed} spoilt")).random() < SPOILT:
            self.sim.spoilt = f"n/{chance.choice(self.ids)}/lock"
        # In a third of the schedules a watch on all names finds out what was deleted; in the others the audit must.
        self._hint_above = 0 if Random(f"{seed} hint").random() < 1 / 3 else FEW
        self.trouble = self.rng.choice([0.0, 0.05, 0.2, 0.4])  # how often a request meets with a fault
        # Whether an acquire may come again after its answer. Where none does, refused and released keys are not looked
        # at: that would cover up for what is found otherwise.
        self.repeats = self.chance(0.5)
        self._agenda: list[tuple[float, int, Callable[[], object]]] = []
        self._count = itertools.count()
        self._watches: dict[Request, Player] = {}
        self._paused: dict[Player, float] = {}
        self._seen = -1  # the index of Consul at which watches were looked at last
        self._snapshot: Snapshot | None = None
        self._lie_again = 0.0
        self.log: list[str] = []

    def random(self) -> float:
        return self.rng.random()

    def breaks(self) -> AbstractContextManager[None]:
        if self._breaks is None or not self.faults or self._breaks.random() > BREAKS:
            return nullcontext()
        if sum(player.breaks for player in self.players) >= MOST_BREAKS:
            return nullcontext()
        return breaking_off(int(LONGEST_STEP ** self._breaks.random()))

    def chance(self, probability: float) -> bool:
        """Whether something of that probability happens."""
        return self.rng.random() < probability

    def add_players(self) -> None:
        """One to three Lockers that have the same name and, the first two of them, the same habits."""
        rng = self.rng
        delay = rng.choice([0.0, 0.0, 0.0, 2.0])
        fair = self.chance(0.5)  # all of them, or nearly: one that does not queue excludes and is excluded
        for number in range(rng.randint(1, 3)):
            options = LockerOptions.build(
                "n",
                ttl=None if self.chance(0.1) else 15.0,
                lock_delay=delay,
                behavior=rng.choice(["release", "release", "delete"]),
                strategy=rng.choice([None, Moody(rng)] + 8 * [PermanentStrategy()]),
                delete_on_release=self.chance(0.15),
                identify_holder=self.chance(0.5),
                max_retries=rng.choice([None, 10, 1]),
                retry_interval=2.0,
                fair=fair and self.chance(0.9),
                **self.outages.options(),
            )
            max_ops, max_in_flight = rng.choice([64, 3]), rng.choice([1, 1, 2, None])
            player = Player(self, number, options, TIMEOUT, max_ops=max_ops, max_in_flight=max_in_flight)
            player.former_for = player.core.audit.doubts.former_for = FORMER_FOR if self.repeats else 0.0
            player.hint_above = player.core.audit.hint.more_than = self._hint_above
            self.players.append(player)

    def soon(self, player: Player, action: Callable[[], object]) -> None:
        self.for_player(player, self.now, action)

    def awake(self, player: Player) -> float:
        return self._paused.get(player, 0.0)

    def _overwritten(self, key: str, before: bytes | None, value: bytes | None) -> None:
        for player in self.players:
            player.rules.overwritten(key, before, value)

    # ------------------------------------------------------------------------------------------ time

    def at(self, time: float, action: Callable[[], object]) -> None:
        """Do something at a time."""
        heapq.heappush(self._agenda, (time, next(self._count), action))

    def run(self, until: float) -> None:
        """Let everything happen that is due."""
        while True:
            when, do = self._next()
            if when > until:
                break
            self.now = max(self.now, when)
            do()
            self._wake_watches()
        self.now = until

    def _next(self) -> tuple[float, Callable[[], object]]:
        when: float = self._agenda[0][0] if self._agenda else float("inf")
        do: Callable[[], object] = self._pop
        for player in self.players:
            awake = self._paused.get(player, 0.0)
            for name, at in player.timers.items():
                due = max(at, awake)
                if due < when:
                    when, do = due, partial(player.fire, name)
        for end in self.sim.expiry.values():
            if end < when:
                when, do = end, self._expire
        return when, do

    def _expire(self) -> None:
        self.sim.expire(self.now)

    def _pop(self) -> None:
        heapq.heappop(self._agenda)[2]()

    def for_player(self, player: Player, time: float, action: Callable[[], object]) -> None:
        """Something reaches a Locker at a time, or when its process goes on again."""

        def arrive() -> None:
            awake = self._paused.get(player, 0.0)
            if awake > self.now:
                self.at(awake + self.rng.random() / 100, arrive)  # what piled up comes in any order
            else:
                action()

        self.at(time, arrive)

    # -------------------------------------------------------------------------------------- requests

    def ask(self, player: Player, request: Request) -> None:
        limit = min(request.timeout or TIMEOUT, TIMEOUT)
        if self.outages.kind is not None and self.outages.meets(player, request, limit):
            return
        if isinstance(request, Watch):
            self._watches[request] = player
            self._seen = -1
            if self.faults and self.chance(self.trouble / 2):
                self.for_player(player, self.now + self.rng.random(), lambda: self._watch_fails(player, request))
            self.at(self.now + request.wait, lambda: self._watch_over(request))
            return
        rng = self.rng
        there = self.now + rng.random() * 0.02
        back = there + rng.random() * 0.02
        if not self.faults or not self.chance(self.trouble):
            self._commit_and_answer(player, request, there, back)
            return
        fate = rng.choice(["slow", "lost", "answer lost", "late", "refused", "twice", "answered twice"])
        self.log.append(f"{self.now:.3f} {player.number} {fate}: {request!r:.120}")
        fails = self.now + rng.random() * limit
        if fate == "slow":
            there = self.now + rng.random() * limit
            self._commit_and_answer(player, request, there, there + rng.random() * (self.now + limit - there))
        elif fate == "twice":
            self._doubt(player, request)
            if _acquires(request) and not self.repeats:
                # An agent's own retry: it comes before the answer, and its outcome is the answer.
                self.at(there, lambda: self._commit(request))
                self._commit_and_answer(player, request, (there + back) / 2, back)
            else:
                self._commit_and_answer(player, request, there, back)
                self.at(self.now + rng.random() * (limit + LATEST), lambda: self._commit(request))
        elif fate == "answered twice":
            self._commit_and_answer(player, request, there, back, twice=True)
        else:
            if fate == "late":
                # Only what failed and was not repeated can come when refused and released keys are forgotten again.
                latest = FORMER_FOR + PERIOD if self.chance(0.1) else LATEST
                self.at(fails + rng.random() * latest, lambda: self._commit(request))
            elif fate == "answer lost":
                self.at(there, lambda: self._commit(request))
            sent = fate != "refused"
            error = ConsulUnavailable("no answer", sent=sent, outage=True)
            self.fails(player, request, max(fails, back), Failed(error, sent))

    def _commit(self, request: Request) -> Outcome:
        stale = self.faults and self.chance(self.trouble)
        return self.sim.apply(request, self.now, stale)

    def _commit_and_answer(
        self, player: Player, request: Request, there: float, back: float, twice: bool = False
    ) -> None:
        def commit() -> None:
            outcome = self._commit(request)
            self.for_player(player, back, lambda: player.answer(request, outcome))
            if twice:
                self.for_player(player, back + self.rng.random() * 5, lambda: player.answer(request, outcome))

        self.at(there, commit)

    def perhaps_commit(self, request: Request, when: float | None) -> None:
        """A request that nobody hears of again is carried out at that time; None: never."""
        if when is not None and not isinstance(request, Watch):
            self.at(when, lambda: self._commit(request))

    def fails(self, player: Player, request: Request, when: float, outcome: Failed) -> None:
        """A request has no usable answer."""

        def fail() -> None:
            self._doubt(player, request)
            player.answer(request, outcome)

        self.for_player(player, when, fail)

    @staticmethod
    def _doubt(player: Player, request: Request) -> None:
        if isinstance(request, Transact):
            player.doubtful.update(op.key for op in request.operations)
        elif isinstance(request, ReadKey):
            player.doubtful.add(request.key)

    def cancel(self, player: Player, request: Request | None) -> None:
        for watch in [watch for watch, whose in self._watches.items() if whose is player and request in (None, watch)]:
            del self._watches[watch]

    def _watch_fails(self, player: Player, request: Watch) -> None:
        if self._watches.pop(request, None) is not None:
            player.answer(request, Failed(ConsulUnavailable("the watch broke off", outage=True)))

    def break_watches(self, rng: Random) -> None:
        """The connections of all watches break."""
        watches = [(watch, player) for watch, player in self._watches.items() if isinstance(watch, Watch)]
        for watch, player in watches:
            self.for_player(player, self.now + rng.random() / 10, partial(self._watch_fails, player, watch))

    def _watch_over(self, request: Watch) -> None:
        player = self._watches.pop(request, None)
        if player is not None:
            outcome = self.sim.look(request)
            self.for_player(player, self.now, lambda: player.answer(request, outcome))

    def _wake_watches(self) -> None:
        if self._seen == self.sim.index:
            return
        self._seen = self.sim.index
        for request, player in list(self._watches.items()):
            assert isinstance(request, Watch)
            if self.sim.woken(request):
                del self._watches[request]
                outcome = self.sim.look(request)
                self.for_player(player, self.now + self.rng.random() * 0.02, partial(player.answer, request, outcome))

    def _look_again(self, player: Player, watch: Watch) -> None:
        player.answer(watch, self.sim.look(watch))

    def restore(self, snapshot: Snapshot) -> None:
        """A snapshot is restored: every watch ends with what it knew (source: a restore abandons the store)."""
        before = [(watch, player) for watch, player in self._watches.items() if isinstance(watch, Watch)]
        self._watches.clear()
        for watch, player in before:
            outcome = self.sim.look(watch)
            if isinstance(outcome, (SessionRead, KeysRead)) and not self.sim.woken(watch):
                self.for_player(player, self.now + 0.01, partial(player.answer, watch, outcome))
            else:
                self.for_player(player, self.now + 0.01, partial(self._look_again, player, watch))
        self.sim.restore(snapshot, self.now)


def _acquires(request: Request) -> bool:
    return isinstance(request, Transact) and any(op.verb is Verb.LOCK for op in request.operations)
