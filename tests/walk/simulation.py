"""World: Lockers of one name, a simulated Consul and simulated time, all decided by one seed.

A schedule has three acts. In the first everything may go wrong: requests are lost, late, twice; answers come late,
twice, or never; sessions end early, keys are deleted, overwritten, taken over, snapshots restored, processes paused;
and users call whatever they like. Then it is calm, and what was said must be true: no lock stands in Consul that
nobody knows of, no lease without a lock. Last the locks are given back, round by round, until every call has ended,
and the Lockers stop.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from random import Random

from consul_locker.config.options import LockerOptions
from consul_locker.core.fair_line import FairLine
from consul_locker.core.machine import READY, STOPPED
from consul_locker.core.messages import Call
from consul_locker.core.requests import Failed, KeysRead, Outcome, ReadKey, Request, SessionRead, Transact, Verb, Watch
from consul_locker.errors import ConsulUnavailable
from consul_locker.lease import BaseLease
from consul_locker.strategies import PermanentStrategy

from .breaks import breaking_off
from .consul import SimConsul, Snapshot
from .player import Player, Violation

__all__ = ["Register", "Violation", "World", "play"]

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


class World:
    """Everything that a schedule is made of. See the module's description."""

    def __init__(self, seed: int | str, events: int = 60, *, breaks: bool = False) -> None:
        self.rng = Random(seed)
        self._breaks = Random(f"{seed} breaks") if breaks else None
        self.now = 0.0
        self.sim = SimConsul()
        self.faults = True
        self.events = events
        self.fences: dict[tuple[str, int], BaseLease] = {}
        self.registers: dict[str, Register] = {}
        self.players: list[Player] = []
        self.ids = ["a", "b", "c"][: self.rng.randint(1, 3)]
        if len(self.ids) > 1 and (chance := Random(f"{seed} spoilt")).random() < SPOILT:
            self.sim.spoilt = f"n/{chance.choice(self.ids)}/lock"
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
            )
            max_ops, max_in_flight = rng.choice([64, 3]), rng.choice([1, 1, 2, None])
            player = Player(self, number, options, TIMEOUT, max_ops=max_ops, max_in_flight=max_in_flight)
            player.core._audit.doubts.former_for = FORMER_FOR if self.repeats else 0.0
            self.players.append(player)

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
        if isinstance(request, Watch):
            self._watches[request] = player
            self._seen = -1
            if self.faults and self.chance(self.trouble / 2):
                self.for_player(player, self.now + self.rng.random(), lambda: self._watch_fails(player, request))
            self.at(self.now + request.wait, lambda: self._watch_over(request))
            return
        rng = self.rng
        limit = min(request.timeout or TIMEOUT, TIMEOUT)
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
            self._fails(player, request, max(fails, back), sent=fate != "refused")

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

    def _fails(self, player: Player, request: Request, when: float, sent: bool) -> None:
        def fail() -> None:
            self._doubt(player, request)
            player.answer(request, Failed(ConsulUnavailable("no answer", sent=sent), sent))

        self.for_player(player, when, fail)

    @staticmethod
    def _doubt(player: Player, request: Request) -> None:
        if isinstance(request, Transact):
            player.doubtful.update(op.key for op in request.operations)
        elif isinstance(request, ReadKey):
            player.doubtful.add(request.key)

    def cancel(self, player: Player, request: Request) -> None:
        self._watches.pop(request, None)

    def _watch_fails(self, player: Player, request: Watch) -> None:
        if self._watches.pop(request, None) is not None:
            player.answer(request, Failed(ConsulUnavailable("the watch broke off")))

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
                self.for_player(
                    player, self.now + self.rng.random() * 0.02, partial(player.answer, request, outcome)
                )

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

    # ----------------------------------------------------------------------------- what users do

    def user(self, player: Player) -> None:
        """Some user of a Locker does something."""
        rng = self.rng
        verb = rng.choices(
            ["lock", "release", "hold", "leave", "lock_many", "hold_many", "release_all", "abandon", "write",
             "stop", "start", "reboot", "info", "holder", "session_info", "guarded"],
            [30, 18, 12, 14, 6, 4, 2, 5, 6, 1, 3, 1, 1, 1, 1, 2],
        )[0]  # fmt: skip
        if verb in ("lock", "hold", "lock_many", "hold_many"):
            wait = rng.choice([0.0, 0.0, 1.0, 10.0, None])
            timeout = rng.choice([None, None, None, 0.01, 2.0])
            many = verb.endswith("many")
            ids = tuple(rng.sample(self.ids, rng.randint(1, len(self.ids)))) if many else (rng.choice(self.ids),)
            player.call(Call(verb, ids, wait=wait, timeout=timeout))
        elif verb == "release":
            player.call(Call("release", (rng.choice(self.ids),), timeout=rng.choice([None, None, 0.5])))
        elif verb == "leave":
            self.leave_one(player)
        elif verb == "abandon":
            if player.answered is not None and self.chance(0.3):
                call, player.answered = player.answered, None  # its answer and its end crossed
                player.abandon(call)
            elif player.open:
                player.abandon(rng.choice(list(player.open)))
        elif verb == "write":
            leases = [*player.live, *player.old]
            if leases:
                lease = rng.choice(leases)
                self.registers.setdefault(lease.key, Register()).write(lease)
        elif verb == "guarded":
            if player.live:
                lease = rng.choice(list(player.live))
                player.call(Call("guarded", (lease.id,), argument=(lease, lease.guard())))
        elif verb in ("info", "holder"):
            player.call(Call(verb, (rng.choice(self.ids),)))
        elif verb == "session_info":
            player.call(Call(verb, argument=rng.choice([None, "s1"])))
        else:
            player.call(Call(verb, timeout=rng.choice([None, 1.0]) if verb in ("stop", "release_all") else None))

    def leave_one(self, player: Player) -> bool:
        """One of the holds of a Locker ends. Returns whether there was one."""
        if not player.holds:
            return False
        hold = self.rng.choice(list(player.holds))
        leases = player.holds.pop(hold)
        player.call(Call("leave", tuple(lease.id for lease in leases), argument=leases))
        return True

    def mishap(self) -> None:
        """Something goes wrong that is no fault of a single request."""
        rng, sim = self.rng, self.sim
        key = f"n/{rng.choice(self.ids)}/lock"
        place = next((entry.key for entry in sim.queue(key)), None)
        what = rng.choice(MISHAPS)
        self.log.append(f"{self.now:.3f} {what} {key}")
        if what == "destroy" and sim.sessions:
            sim.end_session(rng.choice(sorted(sim.sessions)), self.now, outside=True)
        elif what == "delete":
            sim.delete(place if place and self.chance(0.5) else key)
        elif what == "overwrite":
            sim.overwrite(place if place and self.chance(0.5) else key)
        elif what == "take":
            sim.take_over(key, self.now)
        elif what == "give":
            self.strangers_leave()
        elif what == "snapshot":
            self._snapshot = sim.snapshot()
        elif what == "restore" and self._snapshot is not None:
            self.restore(self._snapshot)
        elif what == "pause":
            self.pause(rng.choice(self.players), rng.choice([0.5, 3.0, 12.0, 40.0]))
        elif what == "jump":
            for player in self.players:
                self.pause(player, rng.choice([0.5, 20.0]))
        elif what == "start":
            lacked = frozenset(id for id in sorted(sim.sessions) if self.chance(0.7))
            self.lie(rng.choice([0.1, 1.0, 3.0]), lacked=lacked)
        elif what == "narrow":
            self.lie(rng.choice([0.5, 3.0, 7.0]), filtered=True)

    def lie(self, seconds: float, lacked: frozenset[str] = frozenset(), filtered: bool = False) -> None:
        """A server has just started and lacks some sessions, or the token's policy is narrowed.

        Never both within the time of one request: what a session that lives looks like then no client can know.
        """
        if self.now < self._lie_again:
            return
        self._lie_again = self.now + seconds + TIMEOUT
        self.sim.lacked, self.sim.filtered = lacked, filtered
        self.at(self.now + seconds, self.tell_the_truth)

    def tell_the_truth(self) -> None:
        """Consul does not lie any more."""
        self.sim.lacked, self.sim.filtered = frozenset(), False

    def pause(self, player: Player, seconds: float) -> None:
        """A process stands still."""
        self._paused[player] = max(self._paused.get(player, 0.0), self.now + seconds)

    def strangers_leave(self) -> None:
        """Sessions of strangers end; so do those without a TTL that no Locker has, which an operator ends."""
        ours = {player.session for player in self.players}
        for id, session in list(self.sim.sessions.items()):
            if id.startswith("x") or (session.ttl is None and id not in ours):
                self.sim.end_session(id, self.now, outside=True)

    # --------------------------------------------------------------------------------- the three acts

    def play(self) -> None:
        """The whole schedule.

        Raises:
            Violation: an invariant does not hold.
        """
        self.add_players()
        for player in self.players:
            player.begin()
        mishaps = self.rng.choice([0.0, 0.0, 0.05, 0.2])
        for _ in range(self.events):
            self.run(self.now + self.rng.choice([0.0, 0.005, 0.02, 0.1, 1.0]) * self.rng.random() * 2)
            if self.chance(mishaps):
                self.mishap()
            player = self.rng.choice(self.players)
            if self._paused.get(player, 0.0) <= self.now:
                self.user(player)
            self._wake_watches()
        self.faults = False
        self.tell_the_truth()
        if self._snapshot is not None and self.chance(0.3):
            # What comes back then is so old that only a sweep finds it.
            self.run(max([self.now, *self._paused.values()]) + OLD)
            self.restore(self._snapshot)
        self.strangers_leave()
        self.run(max([self.now, *self._paused.values()]) + LATEST + TIMEOUT + CALM)
        self.check_calm()
        self.give_back()
        self.end()

    def check_calm(self) -> None:
        """Nothing goes wrong any more: what the Lockers believe must be what Consul says."""
        for player in self.players:
            life = player.core.session.life
            if life is None:
                continue
            for id in self.ids:
                key = player.key(id)
                lease, entry = player.knows(id), self.sim.keys.get(key)
                ours = entry is not None and entry.session == life.session_id
                if ours and (lease is None or lease.fence != entry.modify_index):
                    raise Violation("no lock is left that nobody knows of", f"{entry} of {player.number}, {lease}")
                if lease is not None and lease.takers == 0:
                    raise Violation("an abandoned call leaves no lock behind", f"{lease} of {player.number}")
                if lease is not None and not ours:
                    raise Violation("losses are noticed", f"{lease} of {player.number}, {entry}")
                self.check_places(player, id, life.session_id)
        self.check_waiters()

    def check_places(self, player: Player, id: str, session_id: str) -> None:
        """Each place of a Locker is that of a call that waits, and each call that waits has one, or shares it."""
        slot, queue = player.core.ledger.slots.get(id), player.core._waiting
        if slot is None or not isinstance(queue, FairLine):
            return
        standings = [queue._contenders[call] for call in slot.waiters]
        known = {standing.places[id].key for standing in standings if standing.places}
        found = {entry.key for entry in self.sim.queue(player.key(id)) if entry.session == session_id}
        if found != known:
            raise Violation("no place is left that nobody stands in", f"{found} of {player.number}, {known}")
        if standings and not known:
            raise Violation("who waits has a place", f"{[standing.call for standing in standings]} of {player.number}")

    def check_waiters(self) -> None:
        """A free key with a live waiter has been taken by now."""
        for player in self.players:
            for id in self.ids:
                slot = player.core.ledger.slots.get(id)
                entry = self.sim.keys.get(player.key(id))
                if slot is None or (entry is not None and entry.session) or self.sim.delayed(player.key(id), self.now):
                    continue
                for call in slot.waiters:
                    if not call.settled and call.reason != "local" and self.its_turn(player, call):
                        raise Violation("a free key is taken by who waits", f"{call} of {player.number} for {id}")

    def its_turn(self, player: Player, call: Call) -> bool:
        """Whether a call of a fair Locker stands first in the queue of each of its keys, and all of them are free."""
        queue = player.core._waiting
        if not isinstance(queue, FairLine):
            return True
        for id in call.ids:
            places, entry = self.sim.queue(player.key(id)), self.sim.keys.get(player.key(id))
            own = queue._contenders[call].places.get(id)
            if own is None or places[0].key != own.key or (entry is not None and entry.session is not None):
                return False
        return True

    def give_back(self) -> None:
        """Locks are given back until every call has ended."""
        for _ in range(sum(len(player.open) for player in self.players) + 4):
            for player in self.players:
                while self.leave_one(player):
                    pass
                if player.core.state == READY:
                    player.call(Call("release_all"))
            self.run(self.now + ROUND)
            if not any(player.open for player in self.players):
                return
        self.run(self.now + CALM)
        for player in self.players:
            if player.open:
                raise Violation("every call ends", f"{list(player.open)} of {player.number} in {player.core.state}")

    def end(self) -> None:
        """The Lockers stop; nothing is left."""
        for player in self.players:
            player.call(Call("stop"))
        self.run(self.now + ROUND)
        for player in self.players:
            if player.open or player.core.state != STOPPED:
                raise Violation("every call ends", f"{list(player.open)} of {player.number} in {player.core.state}")
            if player.live or player.session is not None:
                raise Violation("a grant ends in one of released and lock-lost", f"{list(player.live)}")
            if len(player.ended_leases) != len(player.old):
                raise Violation("the end of a lease is told once", f"{len(player.ended_leases)} {len(player.old)}")
        if any(entry.session for entry in self.sim.keys.values()):
            self.run(self.now + EXPIRED)
        for entry in self.sim.keys.values():
            if entry.session is not None and self.sim.sessions[entry.session].ttl is not None:
                raise Violation("no lock is left that nobody knows of", f"{entry} at the end")


def _acquires(request: Request) -> bool:
    return isinstance(request, Transact) and any(op.verb is Verb.LOCK for op in request.operations)


def play(seed: int | str, events: int = 60, *, breaks: bool = False) -> World:
    """Play one schedule.

    Args:
        seed: decides everything.
        events: how many things users do.
        breaks: whether steps are broken off, too.

    Raises:
        Violation: an invariant does not hold.
    """
    world = World(seed, events, breaks=breaks)
    try:
        world.play()
    except Violation as violation:
        violation.args = (f"seed {seed}, at {world.now:.3f} s: {violation.args[0]}", *world.log[-12:])
        raise
    return world
