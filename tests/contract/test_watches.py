"""Blocking queries and the passing of time, alike on both agents."""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from consul_locker.embedded import Agent, ManualClock

from .compare import Client

#: How long a query that must not be woken is left waiting, in seconds.
QUIET = 0.3

#: How long to wait for one that must be woken, in seconds.
PATIENCE = 30.0

Answer = tuple[int, str, dict[str, str], bytes]


class Waiting:
    """A blocking query in a thread of its own."""

    def __init__(self, client: Client, path: str) -> None:
        self._client = Client(client.address)
        self._answer: list[Answer] = []
        self._thread = threading.Thread(target=self._ask, args=(path,), daemon=True)
        self._thread.start()

    def _ask(self, path: str) -> None:
        self._answer.append(self._client.ask("GET", path))

    def answer(self) -> Answer:
        """Its answer; it must come."""
        self._thread.join(PATIENCE)
        assert self._answer, "the blocking query was not woken"
        self._client.close()
        return self._answer[0]


@pytest.fixture
def client(agent: Any) -> Iterator[Client]:
    found = Client(agent.address)
    yield found
    found.close()


@pytest.fixture
def key(client: Client) -> Iterator[str]:
    """A key of the test's own."""
    name = f"watch-{uuid.uuid4().hex[:12]}"
    yield name
    client.json("DELETE", f"/v1/kv/{name}?recurse")


@pytest.fixture
def new_session(client: Client) -> Iterator[Callable[..., str]]:
    """Makes sessions that end with the test."""
    made: list[str] = []

    def make(**fields: Any) -> str:
        made.append(client.json("PUT", "/v1/session/create", {"Checks": [], "LockDelay": "0s", **fields})["ID"])
        return made[-1]

    yield make
    for id in made:
        client.json("PUT", f"/v1/session/destroy/{id}")


def index_of(client: Client, path: str) -> int:
    return int(client.ask("GET", path)[2]["X-Consul-Index"])


def watch(client: Client, path: str) -> Waiting:
    """A query that waits for the next change of what the path shows now."""
    mark = "&" if "?" in path else "?"
    return Waiting(client, f"{path}{mark}index={index_of(client, path)}&wait={PATIENCE:g}s")


def quiet(client: Client, path: str, meanwhile: Callable[[], object]) -> None:
    """Nothing that ``meanwhile`` does wakes a query on the path: it comes back after its wait, with the old index."""
    before = index_of(client, path)
    mark = "&" if "?" in path else "?"
    started = time.monotonic()
    waiting = Waiting(client, f"{path}{mark}index={before}&wait={QUIET * 1000:g}ms")
    meanwhile()
    answer = waiting.answer()
    assert time.monotonic() - started >= QUIET * 0.9
    assert int(answer[2]["X-Consul-Index"]) == before


def test_an_old_index_is_answered_at_once(client: Client, key: str) -> None:
    client.json("PUT", f"/v1/kv/{key}", "1")
    old = index_of(client, f"/v1/kv/{key}")
    client.json("PUT", f"/v1/kv/{key}", "2")
    assert int(client.ask("GET", f"/v1/kv/{key}?index={old}")[2]["X-Consul-Index"]) > old


def test_a_key_wakes_its_watch(client: Client, key: str) -> None:
    client.json("PUT", f"/v1/kv/{key}", "1")
    for change in (("PUT", "2"), ("DELETE", None)):
        before = index_of(client, f"/v1/kv/{key}")
        waiting = watch(client, f"/v1/kv/{key}")
        client.json(change[0], f"/v1/kv/{key}", change[1])
        answer = waiting.answer()
        assert int(answer[2]["X-Consul-Index"]) > before
    assert answer[0] == 404


def test_a_missing_key_wakes_its_watch(client: Client, key: str) -> None:
    client.json("PUT", f"/v1/kv/{key}-other", "1")
    waiting = watch(client, f"/v1/kv/{key}")
    client.json("PUT", f"/v1/kv/{key}", "1")
    assert waiting.answer()[0] in (200, 404)  # another key's write may wake it too
    client.json("DELETE", f"/v1/kv/{key}-other")


def test_other_keys_and_empty_writes_do_not_wake(client: Client, key: str) -> None:
    client.json("PUT", f"/v1/kv/{key}", "1")

    def meanwhile() -> None:
        client.json("PUT", f"/v1/kv/{key}/below", "1")
        client.json("PUT", f"/v1/kv/{key}", "1")  # as it was
        client.json("PUT", f"/v1/kv/{key}?cas=0", "2")  # refused

    quiet(client, f"/v1/kv/{key}", meanwhile)


@pytest.mark.parametrize("query", ["recurse", "keys"])
def test_a_prefix_wakes_its_watch(client: Client, key: str, query: str) -> None:
    client.json("PUT", f"/v1/kv/{key}/a", "1")
    for method, name in (("PUT", "a"), ("PUT", "b"), ("DELETE", "a")):
        waiting = watch(client, f"/v1/kv/{key}/?{query}")
        client.json(method, f"/v1/kv/{key}/{name}", "2")
        assert waiting.answer()[0] == 200
    waiting = watch(client, f"/v1/kv/{key}/?{query}")
    client.json("DELETE", f"/v1/kv/{key}/?recurse")
    assert waiting.answer()[0] == 404
    client.json("PUT", f"/v1/kv/{key}/a", "1")
    quiet(client, f"/v1/kv/{key}/?{query}", lambda: client.json("PUT", f"/v1/kv/{key}", "1"))


def test_a_transaction_wakes_watches(client: Client, key: str, new_session: Callable[..., str]) -> None:
    client.json("PUT", f"/v1/kv/{key}", "1")
    waiting = watch(client, f"/v1/kv/{key}")
    lock = {"KV": {"Verb": "lock", "Key": key, "Session": new_session()}}
    client.json("PUT", "/v1/txn", [lock, {"KV": {"Verb": "set", "Key": f"{key}/x"}}])
    assert waiting.answer()[0] == 200
    failing = [{"KV": {"Verb": "set", "Key": key, "Value": "Mg=="}}, {"KV": {"Verb": "get", "Key": f"{key}/none"}}]
    quiet(client, f"/v1/kv/{key}", lambda: client.json("PUT", "/v1/txn", failing))


def test_the_end_of_a_session_wakes_those_who_watch_its_key(
    client: Client, key: str, new_session: Callable[..., str]
) -> None:
    for behavior, status in (("release", 200), ("delete", 404)):
        id = new_session(Behavior=behavior)
        client.json("PUT", f"/v1/kv/{key}?acquire={id}", "1")
        waiting = watch(client, f"/v1/kv/{key}")
        client.json("PUT", f"/v1/session/destroy/{id}")
        assert waiting.answer()[0] == status


def test_a_session_wakes_its_own_watch_only(client: Client, key: str, new_session: Callable[..., str]) -> None:
    id = new_session()

    def meanwhile() -> None:
        client.json("PUT", f"/v1/session/destroy/{new_session()}")
        client.json("PUT", f"/v1/session/renew/{id}")
        client.json("PUT", f"/v1/kv/{key}?acquire={id}", "1")

    before = index_of(client, f"/v1/session/info/{id}")
    waiting = Waiting(client, f"/v1/session/info/{id}?index={before}&wait={QUIET * 1000:g}ms")
    meanwhile()
    assert waiting.answer()[0] == 200
    waiting = watch(client, f"/v1/session/info/{id}")
    client.json("PUT", f"/v1/session/destroy/{id}")
    assert waiting.answer()[3].split() == [b"[]"]


@pytest.mark.parametrize("path", ["/v1/session/list", "/v1/session/node/$node"])
def test_sessions_wake_the_watch_on_all_of_them(
    client: Client, key: str, new_session: Callable[..., str], path: str
) -> None:
    path = path.replace("$node", client.json("GET", "/v1/agent/self")["Config"]["NodeName"])
    id = new_session()
    waiting = watch(client, path)
    new_session()
    assert waiting.answer()[0] == 200

    def meanwhile() -> None:
        client.json("PUT", f"/v1/kv/{key}?acquire={id}", "1")
        client.json("PUT", f"/v1/session/renew/{id}")

    quiet(client, path, meanwhile)
    waiting = watch(client, path)
    client.json("PUT", f"/v1/session/destroy/{id}")
    assert waiting.answer()[0] == 200


def test_an_index_ahead_of_everything_waits(client: Client, key: str) -> None:
    client.json("PUT", f"/v1/kv/{key}", "1")
    started = time.monotonic()
    ahead = index_of(client, f"/v1/kv/{key}") + 10**6
    answer = client.ask("GET", f"/v1/kv/{key}?index={ahead}&wait={QUIET * 1000:g}ms")
    assert time.monotonic() - started >= QUIET * 0.9
    assert answer[0] == 200
    assert int(answer[2]["X-Consul-Index"]) < ahead


# ------------------------------------------------------------------------------------------------ time


class Course:
    """A clock that is waited for, or moved, as the agent's own goes."""

    def __init__(self, address: str, clock: ManualClock | None) -> None:
        self.address = address
        self._clock = clock
        self._began = self.now()

    def now(self) -> float:
        return time.monotonic() if self._clock is None else self._clock.now()

    def wait_until(self, seconds: float) -> None:
        """Until so many seconds after the beginning."""
        if self._clock is not None:
            self._clock.advance(max(0.0, self._began + seconds - self.now()))
        else:
            time.sleep(max(0.0, self._began + seconds - self.now()))  # real time is what this test is about


@pytest.fixture(params=["embedded", pytest.param("real", marks=pytest.mark.slow)])
def course(request: pytest.FixtureRequest) -> Iterator[Course]:
    """The embedded agent on a manual clock; the real one in real time, when CONSUL_LOCKER_SLOW is set."""
    if request.param == "real":
        if not os.environ.get("CONSUL_LOCKER_SLOW"):
            pytest.skip("takes 24 s of real time: set CONSUL_LOCKER_SLOW=1")
        yield Course(request.getfixturevalue("real_agent").address, None)
        return
    clock = ManualClock()
    with Agent(clock=clock) as embedded:
        yield Course(embedded.address, clock)


def test_a_ttl_and_a_lock_delay_pass(course: Course) -> None:
    """TTL 10 s: gone after 20 s, not before; a renewal starts the 20 s again; a lock-delay of 2 s afterwards."""
    client = Client(course.address)
    prefix = f"time-{uuid.uuid4().hex[:12]}"
    new = {"Checks": [], "TTL": "10s", "LockDelay": "2s"}
    silent, renewed = (client.json("PUT", "/v1/session/create", new)["ID"] for _ in range(2))
    other = client.json("PUT", "/v1/session/create", {"Checks": []})["ID"]
    assert client.json("PUT", f"/v1/kv/{prefix}?acquire={silent}", "1") is True
    waiting = watch(client, f"/v1/session/info/{silent}")
    course.wait_until(12.0)
    assert len(client.json("GET", f"/v1/session/info/{silent}")) == 1
    client.json("PUT", f"/v1/session/renew/{renewed}")
    course.wait_until(18.5)
    assert len(client.json("GET", f"/v1/session/info/{silent}")) == 1
    course.wait_until(21.5)
    assert client.json("GET", f"/v1/session/info/{silent}") == []
    assert waiting.answer()[3].split() == [b"[]"]
    assert len(client.json("GET", f"/v1/session/info/{renewed}")) == 1
    assert client.json("PUT", f"/v1/kv/{prefix}?acquire={other}", "1") is False
    course.wait_until(24.0)
    assert client.json("PUT", f"/v1/kv/{prefix}?acquire={other}", "1") is True
    for id in (renewed, other):
        client.json("PUT", f"/v1/session/destroy/{id}")
    client.json("DELETE", f"/v1/kv/{prefix}")
    client.close()
