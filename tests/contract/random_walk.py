"""A random walk over both agents: the same calls, the same answers.

``python tests/contract/random_walk.py --seed 1 --steps 20000`` walks with Hypothesis choosing the calls: several
sessions, keys in a tree, transactions of up to 64 operations, locks, lock-delays, TTLs, reads of everything. A seed
repeats a walk. Where the agents differ, Hypothesis looks for the shortest walk that shows it, and prints it.

Real time cannot be hurried, so lock-delays are none or long, and TTLs outlast the run; that both run out alike is
test_watches.py's business.
"""

from __future__ import annotations

import argparse
import base64
import json
import pathlib
import sys
import uuid
from collections.abc import Sequence
from typing import Any

import hypothesis
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

if __package__ in (None, ""):  # run as a program: the package's root is two folders up
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

from consul_locker.embedded import Agent
from consul_locker.embedded.versions import VERSIONS
from tests.contract.compare import Client
from tests.contract.record import nearest
from tests.real_consul import RealConsul, find_binary

__all__ = ["main", "version_like", "walk"]

#: Calls of one walk; a new one begins with nothing.
STEPS_OF_A_WALK = 50

KEYS = ("a", "b", "c", "d/a", "d/b", "d/e/f", "d", "é", "x y")
PREFIXES = ("", "d", "d/", "a", "none/")
NOBODY = "00000000-0000-0000-0000-000000000000"

#: How many sessions a walk has at a time; few, and few keys that are locked, so that they meet.
SLOTS = 3

keys = st.sampled_from(KEYS)
lock_keys = st.sampled_from(KEYS[:3])
#: The slot of a session (more than there are: the last one that left its slot), or one that cannot be.
sessions = st.one_of(st.integers(0, SLOTS), st.integers(0, SLOTS - 1), st.sampled_from(["", "nobody", "x", 0, 1]))
values = st.sampled_from([b"", b"1", b"2", b"\x00\xff"])
flags = st.sampled_from([0, 0, 7, 2**64 - 1])
#: An index: of a key as last read, none, or one that never was.
indexes = st.one_of(keys, st.sampled_from([0, 1]))
verbs = st.sampled_from(
    "set cas lock lock lock unlock unlock get get-tree check-index check-session check-not-exists delete delete-cas "
    "delete-tree nonsense".split()
)
operations = st.tuples(verbs, keys, sessions, values, flags, indexes)
short = st.lists(operations, min_size=0, max_size=3)
longer = st.lists(operations, min_size=3, max_size=10)
locks = st.tuples(
    st.sampled_from(["lock", "lock", "unlock", "check-session"]), lock_keys, sessions, values, flags, indexes
)
transactions = st.one_of(
    short, short, longer, st.lists(locks, min_size=1, max_size=8), st.lists(operations, min_size=60, max_size=65)
)


class Side:
    """One of the two agents, with its own names for the same things."""

    def __init__(self, address: str) -> None:
        self.client = Client(address)
        self.prefix = f"walk-{uuid.uuid4().hex[:12]}/"
        self.sessions: list[str] = []  # all that were made
        self.slots = [NOBODY] * (SLOTS + 1)
        self.indexes: dict[str, int] = {}
        self.seen: set[int] = set()
        node = self.client.json("GET", "/v1/agent/self")["Config"]["NodeName"]
        self._words = {node: "<node>", self.prefix: "<p>"}

    def session(self, number: int | str) -> str:
        """The id of a session by its slot; of one that cannot be by its name."""
        if isinstance(number, int):
            return self.slots[number]
        return NOBODY if number == "nobody" else number

    def index(self, of: int | str) -> int:
        """The ModifyIndex of a key as it was last read."""
        return of if isinstance(of, int) else self.indexes.get(of, 0)

    def ask(self, method: str, path: str, body: bytes = b"") -> Any:
        """Send a request; its answer with the names of this side taken out."""
        status, _, headers, text = self.client.ask(method, path, body)
        is_json = text and headers.get("Content-Type", "").startswith("application/json")
        value: Any = json.loads(text) if is_json else text.decode()
        if isinstance(value, list) and value and isinstance(value[0], dict):
            if "Behavior" in value[0]:  # other walks' sessions may still be there
                value = [one for one in value if one["ID"] in self.sessions]
                value.sort(key=lambda one: self.sessions.index(one["ID"]))
            else:
                self._note(value)
        elif isinstance(value, dict) and isinstance(value.get("Results"), list):
            self._note([result["KV"] for result in value["Results"]])
        index = headers.get("X-Consul-Index")
        return status, index and int(index), headers.get("X-Consul-Knownleader"), value

    def _note(self, entries: list[dict[str, Any]]) -> None:
        for entry in entries:
            self.indexes[entry["Key"].removeprefix(self.prefix)] = entry["ModifyIndex"]

    def normal(self, value: Any) -> Any:
        """The same in words that both sides have in common; indexes by their rank among all seen so far."""
        self._collect(value)
        ranks = {index: rank for rank, index in enumerate(sorted(self.seen))}
        return self._replaced(value, ranks)

    def _collect(self, value: Any) -> None:
        if isinstance(value, dict):
            self.seen.update(value[name] for name in ("CreateIndex", "ModifyIndex") if name in value)
            value = list(value.values())
        if isinstance(value, (list, tuple)):
            for part in value:
                self._collect(part)

    def _replaced(self, value: Any, ranks: dict[int, int]) -> Any:
        if isinstance(value, dict):
            return {
                name: ranks[part] if name.endswith("yIndex") or name == "CreateIndex" else self._replaced(part, ranks)
                for name, part in value.items()
            }
        if isinstance(value, (list, tuple)):
            return [self._replaced(part, ranks) for part in value]
        if isinstance(value, str):
            for id in self.sessions:
                value = value.replace(id, f"<session {self.sessions.index(id)}>")
            for word, instead in self._words.items():
                value = value.replace(word, instead)
            words = value.split(" ")
            if "modify" in words and "index" in words:  # "… current modify index 7 != 6"
                value = " ".join(str(ranks.get(int(word), "?")) if word.isdigit() else word for word in words)
        return value

    def close(self) -> None:
        for id in self.sessions:
            self.client.json("PUT", f"/v1/session/destroy/{id}")
        self.client.json("DELETE", f"/v1/kv/{self.prefix}?recurse")
        self.client.close()


class Walk(RuleBasedStateMachine):
    """The same calls to both agents; every answer is compared, and the whole state often."""

    addresses: tuple[str, str]
    steps = 0  #: calls made by all walks of this run

    def __init__(self) -> None:
        super().__init__()
        self.differs = False
        self.both = tuple(Side(address) for address in self.addresses)

    def alike(self, method: str, path: str, body: bytes = b"") -> None:
        """Ask both, with each side's own names in path and body."""
        type(self).steps += 1
        answers = []
        for side in self.both:
            answer = side.ask(method, side_path(side, path), side_path(side, body.decode("latin-1")).encode("latin-1"))
            answers.append((side, answer))
        self.compare(f"{method} {path}", answers)

    def compare(self, what: str, answers: list[tuple[Side, Any]]) -> None:
        indexes = [answer[1] for _, answer in answers]
        for side, answer in answers:
            if answer[1] is not None:
                side.seen.add(answer[1])
        shown = []
        for side, (status, index, leader, value) in answers:
            normal = side.normal(value)
            ranks = sorted(side.seen)
            shown.append((status, None if index is None else ranks.index(index), leader, normal))
        self.differs = shown[0] != shown[1]
        assert not self.differs, f"{what}\n embedded: {shown[0]}\n real:     {shown[1]}\n indexes: {indexes}"

    @initialize()
    def begin(self) -> None:
        """Both tables get an index of this walk's own, which makes ranks comparable."""
        for slot in range(SLOTS):
            self.create(slot, "release", "60s" if slot == 0 else "0s", "", True, False)
        self.alike("PUT", "/v1/kv/$p!first", b"x")

    @rule(
        slot=st.integers(0, SLOTS - 1),
        behavior=st.sampled_from(["release", "release", "delete"]),
        delay=st.sampled_from(["0s", "60s"]),
        ttl=st.sampled_from(["", "", "1h", "24h"]),
        checked=st.booleans(),
        end=st.booleans(),
    )
    def create(self, slot: int, behavior: str, delay: str, ttl: str, checked: bool, end: bool) -> None:
        """A new session takes a slot; the one before it ends, or stays without one."""
        if end:
            self.destroy(slot)
        body = {"Behavior": behavior, "LockDelay": delay, "TTL": ttl, "Checks": ["serfHealth"] if checked else []}
        type(self).steps += 1
        for side in self.both:
            status, _, _, value = side.ask("PUT", "/v1/session/create", json.dumps(body).encode())
            assert status == 200
            side.slots[SLOTS] = side.slots[slot]
            side.slots[slot] = value["ID"]
            side.sessions.append(value["ID"])

    @rule(session=sessions)
    def destroy(self, session: int | str) -> None:
        self.alike("PUT", f"/v1/session/destroy/$session({session})")

    @rule(session=sessions)
    def renew(self, session: int | str) -> None:
        self.alike("PUT", f"/v1/session/renew/$session({session})")

    @rule(session=sessions)
    def info(self, session: int | str) -> None:
        self.alike("GET", f"/v1/session/info/$session({session})")

    @rule()
    def list(self) -> None:
        self.alike("GET", "/v1/session/list")

    @rule(key=keys, value=values, flags=flags)
    def put(self, key: str, value: bytes, flags: int) -> None:
        self.alike("PUT", f"/v1/kv/$p{quoted(key)}?flags={flags}", value)

    @rule(key=lock_keys, value=values, session=sessions, verb=st.sampled_from(["acquire", "acquire", "release"]))
    def lock(self, key: str, value: bytes, session: int | str, verb: str) -> None:
        self.alike("PUT", f"/v1/kv/$p{quoted(key)}?{verb}=$session({session})", value)

    @rule(key=keys, value=values, index=indexes)
    def cas(self, key: str, value: bytes, index: int | str) -> None:
        self.alike("PUT", f"/v1/kv/$p{quoted(key)}?cas=$index({index})", value)

    @rule(key=keys)
    def delete(self, key: str) -> None:
        self.alike("DELETE", f"/v1/kv/$p{quoted(key)}")

    @rule(key=keys, index=indexes)
    def delete_cas(self, key: str, index: int | str) -> None:
        self.alike("DELETE", f"/v1/kv/$p{quoted(key)}?cas=$index({index})")

    @rule(prefix=st.sampled_from(PREFIXES))
    def delete_tree(self, prefix: str) -> None:
        self.alike("DELETE", f"/v1/kv/$p{prefix}?recurse")

    @rule(key=keys)
    def get(self, key: str) -> None:
        self.alike("GET", f"/v1/kv/$p{quoted(key)}")

    @rule(prefix=st.sampled_from(PREFIXES), query=st.sampled_from(["recurse", "keys", "keys&separator=/"]))
    def below(self, prefix: str, query: str) -> None:
        self.alike("GET", f"/v1/kv/$p{prefix}?{query}")

    @rule(chosen=transactions)
    def transact(self, chosen: Any) -> None:
        type(self).steps += 1
        answers = []
        for side in self.both:
            body = [
                {
                    "KV": {
                        "Verb": verb,
                        "Key": side.prefix + key,
                        "Value": base64.b64encode(value).decode(),
                        "Flags": flags,
                        "Session": side.session(session),
                        "Index": side.index(index),
                    }
                }
                for verb, key, session, value, flags, index in chosen
            ]
            answers.append((side, side.ask("PUT", "/v1/txn", json.dumps(body).encode())))
        self.compare(f"PUT /v1/txn {chosen}", answers)

    def teardown(self) -> None:
        try:
            if not self.differs:
                self.alike("GET", "/v1/kv/$p?recurse")
                self.alike("GET", "/v1/session/list")
        finally:
            for side in self.both:
                side.close()


def quoted(key: str) -> str:
    return "".join(letter if letter.isascii() and letter != " " else _percent(letter) for letter in key)


def _percent(letter: str) -> str:
    return "".join(f"%{byte:02X}" for byte in letter.encode())


def side_path(side: Side, text: str) -> str:
    """A path or body with ``$p``, ``$session(…)`` and ``$index(…)`` replaced."""
    text = text.replace("$p", side.prefix)
    for name, found in (("$session(", side.session), ("$index(", side.index)):
        before, sign, rest = text.partition(name)
        if sign:
            inner, _, after = rest.partition(")")
            chosen: Any = int(inner) if inner.isdigit() else inner
            text = f"{before}{found(chosen)}{after}"
    return text


def version_like(real: str) -> str:
    """The version of the embedded agent that answers like a real one, of the versions that were recorded."""
    return next(name for name, version in VERSIONS.items() if nearest(version.number) == nearest(real))


def walk(embedded: str, real: str, seed: int, steps: int, *, shrink: bool = True) -> int:
    """Walk until at least so many calls were made.

    Args:
        embedded: the address of one agent.
        real: the address of the other.
        seed: of the first round; the next has the next.
        steps: calls.
        shrink: whether to look for the shortest walk when the two differ.

    Returns:
        how many calls were made.

    Raises:
        AssertionError: where the two differ, with the shortest walk that shows it.
    """

    class ChosenWalk(Walk):
        addresses = (embedded, real)
        steps = 0

    rounds = 0
    while ChosenWalk.steps < steps:
        left = steps - ChosenWalk.steps
        settings = hypothesis.settings(
            max_examples=max(1, min(50, left // STEPS_OF_A_WALK + 1)),
            stateful_step_count=STEPS_OF_A_WALK,
            deadline=None,
            database=None,
            derandomize=False,
            report_multiple_bugs=False,
            phases=[phase for phase in hypothesis.Phase if shrink or phase is hypothesis.Phase.generate],
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        hypothesis.seed(seed + rounds)(ChosenWalk)
        run_state_machine_as_test(ChosenWalk, settings=settings)
        rounds += 1
    return ChosenWalk.steps


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=20000, help="calls (default: %(default)s)")
    options = parser.parse_args(arguments)
    binary = find_binary()
    if binary is None:
        print("no real Consul found (CONSUL_BINARY, PATH, .ci/cache/)", file=sys.stderr)
        return 2
    with RealConsul(binary) as real, Agent(version=version_like(real.version)) as embedded:
        made = walk(embedded.address, real.address, options.seed, options.steps)
    print(f"seed {options.seed}: {made} calls, no difference")
    return 0


if __name__ == "__main__":
    sys.exit(main())
