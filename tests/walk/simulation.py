"""World: Lockers of one name, a simulated Consul and simulated time, all decided by one seed.

A schedule has three acts. In the first everything may go wrong: requests are lost, late, twice; answers come late,
twice, or never; sessions end early, keys are deleted, overwritten, taken over, snapshots restored, processes paused;
and users call whatever they like. Then it is calm, and what was said must be true: no lock stands in Consul that
nobody knows of, no lease without a lock. Last the locks are given back, round by round, until every call has ended,
and the Lockers stop.
"""

from __future__ import annotations

from consul_locker.core.calls import Guarded, LeaveHold, LockCall, Obstacle, ReadSessionInfo, Release, ReleaseAll, Stop
from consul_locker.core.fair_line import FairLine
from consul_locker.core.machine import READY, STOPPED
from consul_locker.core.messages import Call

from ..told import call_of
from .around import Violation
from .player import Player
from .traffic import CALM, EXPIRED, LATEST, MISHAPS, OLD, ROUND, TIMEOUT, Register, Traffic

__all__ = ["Register", "Violation", "World", "play"]


def _is_local(call: LockCall) -> bool:
    """Whether a call waits for another one of its own Locker."""
    return call.waiting is not None and call.waiting.obstacle is Obstacle.LOCAL


class World(Traffic):
    """Everything that a schedule is made of. See the module's description."""

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
            player.call(call_of(verb, ids, wait=wait, timeout=timeout))
        elif verb == "release":
            player.call(Release(rng.choice(self.ids), timeout=rng.choice([None, None, 0.5])))
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
                player.call(Guarded(lease, lease.guard()))
        elif verb in ("info", "holder"):
            player.call(call_of(verb, (rng.choice(self.ids),)))
        elif verb == "session_info":
            player.call(ReadSessionInfo(rng.choice([None, "s1"])))
        else:
            player.call(call_of(verb, timeout=rng.choice([None, 1.0]) if verb in ("stop", "release_all") else None))

    def leave_one(self, player: Player) -> bool:
        """One of the holds of a Locker ends. Returns whether there was one."""
        if not player.holds:
            return False
        hold = self.rng.choice(list(player.holds))
        leases = player.holds.pop(hold)
        player.call(LeaveHold(leases))
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
            self.run(self.now + self.outages.pass_time())
            self.run(self.now + self.rng.choice([0.0, 0.005, 0.02, 0.1, 1.0]) * self.rng.random() * 2)
            if self.chance(mishaps):
                self.mishap()
            player = self.rng.choice(self.players)
            if self._paused.get(player, 0.0) <= self.now:
                self.user(player)
            self._wake_watches()
            self.look_at_calls()
        self.faults = False
        self.outages.end()
        self.tell_the_truth()
        if self._snapshot is not None and self.chance(0.3):
            # What comes back then is so old that only a sweep finds it.
            self.run(max([self.now, *self._paused.values()]) + OLD)
            self.restore(self._snapshot)
        self.strangers_leave()
        self.run(max([self.now, *self._paused.values()]) + LATEST + TIMEOUT + CALM)
        self.look_at_calls()
        self.check_calm()
        self.serve_again()
        self.give_back()
        self.end()

    def look_at_calls(self) -> None:
        """No call lasts longer than it may."""
        if self.outages.meant:
            for player in self.players:
                player.rules.look_at_calls()

    def serve_again(self) -> None:
        """After outages each Locker that has a session serves calls as ever."""
        if not self.outages.meant:
            return
        ready = [player for player in self.players if player.core.state == READY]
        probes = [(player, call_of(verb, (f"probe-{player.number}",))) for player in ready for verb in ("lock", "info")]
        for player, call in probes:
            player.call(call)
        self.run(self.now + ROUND)
        for player, call in probes:
            if player.core.state == READY and (call in player.open or call in player.failed):
                raise Violation("after an outage calls are served", f"{call}: {player.failed.get(call)!r}")

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
        """Each place of a Locker is that of a waiting call, or of a lock that it has; who waits has or shares one."""
        slot, queue = player.core.ledger.slots.get(id), player.core.line
        if (player.knows(id) is None and slot is None) or not isinstance(queue, FairLine):
            return
        standings = [queue.contenders[call] for call in (slot.waiters if slot is not None else ())]
        known = {standing.places[id].key for standing in standings if standing.places}
        found = {entry.key for entry in self.sim.queue(player.key(id)) if entry.session == session_id}
        kept = player.core.releases.places.get(id)
        if found != known | ({kept.key} if kept is not None and player.knows(id) is not None else set()):
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
                    if not call.settled and not _is_local(call) and self.its_turn(player, call):
                        raise Violation("a free key is taken by who waits", f"{call} of {player.number} for {id}")

    def its_turn(self, player: Player, call: Call) -> bool:
        """Whether a call of a fair Locker stands first in the queue of each of its keys, and all of them are free."""
        queue = player.core.line
        if not isinstance(queue, FairLine):
            return True
        for id in call.ids:
            places, entry = self.sim.queue(player.key(id)), self.sim.keys.get(player.key(id))
            own = queue.contenders[call].places.get(id)
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
                    player.call(ReleaseAll())
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
            player.call(Stop())
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
