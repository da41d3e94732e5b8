"""What an embedded agent can be told to refuse: rates, rights, keys."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from consul_locker.embedded import Agent, ManualClock, RequestLimits
from consul_locker.embedded.versions import VERSIONS
from consul_locker.errors import ConfigurationError

from ..contract.compare import Client
from .tools import waiting

TOO_MANY_WRITES = (
    503,
    "rate limit exceeded for operation that can only be performed by the leader, try again later",
)
TOO_MANY_READS = (429, "rate limit exceeded, try again later or against a different server")
#: What a token is told that lacks a right, by version.
DENIED = {
    "1.8": "Permission denied",
    "1.16": "Permission denied: token with AccessorID '00000000-0000-0000-0000-000000000002' lacks permission "
    "'{right}' on \"{on}\"",
}
DENIED["1.23"] = DENIED["1.16"]

FILTERED = "X-Consul-Results-Filtered-By-Acls"


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def agent(version: str) -> Iterator[Agent]:
    with Agent(version=version, clock=ManualClock()) as found:
        yield found


@pytest.fixture
def client(agent: Agent) -> Iterator[Client]:
    with Client(agent.address) as found:
        yield found


def ask(client: Client, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    """Status and body, which is JSON or text."""
    data = b"" if body is None else json.dumps(body).encode()
    status, _, _, text = client.ask(method, path, data)
    try:
        return status, json.loads(text)
    except ValueError:
        return status, text.decode()


def transact(client: Client, *operations: dict[str, Any]) -> tuple[int, Any]:
    return ask(client, "PUT", "/v1/txn", [{"KV": operation} for operation in operations])


def new_session(client: Client) -> str:
    id: str = ask(client, "PUT", "/v1/session/create", {"Checks": []})[1]["ID"]
    return id


# ------------------------------------------------------------------------------------------- rates


def test_writes_over_the_rate_are_not_done(agent: Agent, client: Client) -> None:
    session = new_session(client)
    agent.request_limits = RequestLimits(write_rate=4)
    writes = [
        lambda: ask(client, "PUT", "/v1/session/create", {"Checks": []}),
        lambda: ask(client, "PUT", f"/v1/session/renew/{session}"),
        lambda: ask(client, "PUT", "/v1/kv/a", "1"),
        lambda: transact(client, {"Verb": "get", "Key": "a"}, {"Verb": "set", "Key": "b"}),
        lambda: ask(client, "DELETE", "/v1/kv/a"),
        lambda: ask(client, "PUT", f"/v1/session/destroy/{session}"),
        lambda: ask(client, "PUT", "/v1/kv/a?acquire=x", "1"),
    ]
    answers = [write() for write in writes]
    assert [status for status, _ in answers] == [200] * 4 + [503] * 3
    assert answers[4] == TOO_MANY_WRITES
    assert ask(client, "GET", "/v1/kv/a?raw")[0] == 200  # reads have no limit, and nothing was deleted
    agent.advance(0.5)
    again = [ask(client, "PUT", f"/v1/session/renew/{session}")[0] for _ in range(4)]
    assert again == [200, 200, 503, 503]
    agent.request_limits = None
    assert {ask(client, "PUT", f"/v1/session/renew/{session}")[0] for _ in range(20)} == {200}


def test_reads_over_the_rate(agent: Agent, client: Client) -> None:
    session = new_session(client)
    ask(client, "PUT", "/v1/kv/a", "1")
    agent.request_limits = RequestLimits(read_rate=4)
    reads = [
        lambda: transact(client, *({"Verb": "get", "Key": "a"} for _ in range(60))),  # one, whatever its size
        lambda: ask(client, "GET", "/v1/kv/a"),
        lambda: ask(client, "GET", f"/v1/session/info/{session}"),
        lambda: ask(client, "GET", "/v1/session/list"),
        lambda: ask(client, "GET", "/v1/kv/?keys"),
        lambda: ask(client, "GET", "/v1/session/node/embedded"),
        lambda: transact(client, {"Verb": "get", "Key": "a"}),
    ]
    answers = [read() for read in reads]
    assert [status for status, _ in answers] == [200] * 4 + [429] * 3
    assert answers[6] == TOO_MANY_READS
    assert ask(client, "GET", "/v1/status/leader")[0] == 200
    assert ask(client, "PUT", "/v1/kv/a", "2")[0] == 200


def test_a_rate_of_nought_refuses_all_and_a_small_one_serves_one() -> None:
    limits = RequestLimits(write_rate=0, read_rate=0.5)
    with Agent(clock=ManualClock(), request_limits=limits) as agent, Client(agent.address) as client:
        assert agent.request_limits is limits
        assert ask(client, "PUT", "/v1/kv/a", "1") == TOO_MANY_WRITES
        assert [ask(client, "GET", "/v1/session/list")[0] for _ in range(2)] == [200, 429]
        agent.advance(3600)
        assert ask(client, "PUT", "/v1/kv/a", "1") == TOO_MANY_WRITES
        assert [ask(client, "GET", "/v1/session/list")[0] for _ in range(2)] == [200, 429]


@pytest.mark.parametrize("wrong", [-1, float("inf"), float("nan"), True, "60"])
def test_rates_that_cannot_be_meant(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="write_rate"):
        RequestLimits(write_rate=wrong)
    with pytest.raises(ConfigurationError, match="read_rate"):
        RequestLimits(read_rate=wrong)


def test_limits_are_limits() -> None:
    with pytest.raises(ConfigurationError, match="RequestLimits"):
        Agent(request_limits=60)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------- keys


def test_keys_are_checked_as_by_1_21_5(agent: Agent, client: Client) -> None:
    assert agent.check_keys is False
    agent.check_keys = True
    assert agent.check_keys is True
    words = r'invalid key name, keys should respect the "^[a-zA-Z0-9,_./\\-?&=]+$" format'
    for method, path in (
        ("PUT", "/v1/kv/order:17"),
        ("GET", "/v1/kv/order:17"),
        ("GET", "/v1/kv/order:17?keys"),
        ("DELETE", "/v1/kv/order:17"),
        ("GET", "/v1/kv/a%20b"),
    ):
        assert ask(client, method, path, "v" if method == "PUT" else None) == (500, words)
    assert transact(client, {"Verb": "set", "Key": "order:17"})[0] == 200
    assert transact(client, {"Verb": "get", "Key": "order:17"})[0] == 200
    assert ask(client, "GET", "/v1/kv/?keys")[0] == 200
    assert ask(client, "PUT", "/v1/kv/aZ9,_./-%3F&=", "v")[0] == 200
    agent.check_keys = False
    assert ask(client, "GET", "/v1/kv/order:17")[0] == 200


@pytest.mark.parametrize("key", ["my%20file.txt", "%2e%2e", "../a", "..", " a", "a ", "/a", "a b%41"])
def test_one_key_spoils_a_transaction(agent: Agent, client: Client, version: str, key: str) -> None:
    status, said = transact(client, {"Verb": "set", "Key": "innocent"}, {"Verb": "set", "Key": key})
    if version == "1.23":
        assert status == 400
        assert said.startswith("Invalid key in transaction: invalid key name, ")
        assert ask(client, "GET", "/v1/kv/innocent")[0] == 404
    else:
        assert status == 200


@pytest.mark.parametrize("key", ["a b", "order:17", "a..b", "100%", "é", "%2f", "a/../b", "%zz"])
def test_other_keys_are_taken(agent: Agent, client: Client, key: str) -> None:
    assert transact(client, {"Verb": "set", "Key": key})[0] == 200
    assert transact(client, {"Verb": "get", "Key": key})[1]["Results"][0]["KV"]["Key"] == key


def test_a_key_in_its_path(agent: Agent, client: Client, version: str) -> None:
    for path in ("..%2Fz", "%2e%2e/q", "my%2520file.txt"):
        status, said = ask(client, "PUT", f"/v1/kv/{path}", "1")
        if version == "1.23":
            assert status == 500
            assert said.startswith("invalid key name, ")
        elif version == "1.8" and path != "my%2520file.txt":
            assert status == 301
        else:
            assert status == 200


# ------------------------------------------------------------------------------------------- rights


def test_filtered_reads_show_nothing(agent: Agent, client: Client, version: str) -> None:
    session = new_session(client)
    ask(client, "PUT", "/v1/kv/n/a", "1")
    transact(client, {"Verb": "lock", "Key": "n/a", "Session": session})
    agent.filter_reads = True
    assert agent.filter_reads is True
    for path in (f"info/{session}", "list", "node/embedded", f"info/{session}?consistent"):
        status, _, headers, text = client.ask("GET", f"/v1/session/{path}")
        assert (status, text) == (200, b"[]")
        assert int(headers["X-Consul-Index"]) > 1
        assert headers.get(FILTERED) == (None if version == "1.8" else "true")
    assert FILTERED not in client.ask("GET", "/v1/session/info/00000000-0000-0000-0000-000000000000")[2]
    denied = DENIED[version].format(right="session:write", on="embedded")
    assert ask(client, "PUT", f"/v1/session/renew/{session}") == (403, denied)
    assert ask(client, "PUT", "/v1/session/renew/00000000-0000-0000-0000-000000000000")[0] == 404
    assert ask(client, "PUT", f"/v1/session/destroy/{session}") == (403, denied)
    assert ask(client, "PUT", "/v1/session/destroy/00000000-0000-0000-0000-000000000000") == (200, True)
    assert ask(client, "PUT", "/v1/session/create", {"Checks": []}) == (403, denied)
    assert ask(client, "GET", "/v1/kv/n/a") == (403, DENIED[version].format(right="key:read", on="n/a"))
    for query in ("keys", "recurse"):
        status, _, headers, text = client.ask("GET", f"/v1/kv/n/?{query}")
        assert (status, text) == (404, b"")
        assert int(headers["X-Consul-Index"]) > 1
        assert headers.get(FILTERED) == (None if version == "1.8" else "true")
    agent.filter_reads = False
    assert ask(client, "GET", "/v1/session/list")[1][0]["ID"] == session
    assert FILTERED not in client.ask("GET", "/v1/session/list")[2]
    assert ask(client, "PUT", f"/v1/session/renew/{session}")[0] == 200


def test_filtered_reads_in_a_transaction(agent: Agent, client: Client, version: str) -> None:
    session = new_session(client)
    transact(client, {"Verb": "lock", "Key": "n/a", "Session": session}, {"Verb": "set", "Key": "n/b"})
    agent.filter_reads = True
    for operation in ({"Verb": "get", "Key": "n/a"}, {"Verb": "get-tree", "Key": "n/"}):
        status, answer = transact(client, operation, {"Verb": "get", "Key": "n/b"})
        assert (status, answer["Results"], answer["Errors"]) == (200, [], None)
        assert answer.get("ResultsFilteredByACLs") is (None if version == "1.8" else True)
    status, answer = transact(client, {"Verb": "get", "Key": "n/none"})
    assert (status, answer["Errors"][0]["What"]) == (409, 'key "n/none" doesn\'t exist')
    status, answer = transact(
        client, {"Verb": "get", "Key": "n/a"}, {"Verb": "check-session", "Key": "n/a", "Session": session}
    )
    denied = DENIED[version].format(right="key:read", on="n/a")
    assert (status, answer["Errors"]) == (409, [{"OpIndex": 1, "What": denied}])
    agent.filter_reads = False
    status, answer = transact(client, {"Verb": "get", "Key": "n/a"})
    assert len(answer["Results"]) == 1
    assert answer.get("ResultsFilteredByACLs") is (None if version == "1.8" else False)


def test_rights_that_are_missing(version: str) -> None:
    with Agent(version=version, refuse=["session:write", "key:write"]) as agent, Client(agent.address) as client:
        assert agent.refuse == {"session:write", "key:write"}
        assert ask(client, "PUT", "/v1/session/create", {"Checks": []})[0] == 403
        denied = DENIED[version].format(right="key:write", on="a")
        assert ask(client, "PUT", "/v1/kv/a", "1") == (403, denied)
        assert ask(client, "DELETE", "/v1/kv/a") == (403, denied)
        status, answer = transact(client, {"Verb": "lock", "Key": "a", "Session": "x"}, {"Verb": "get-tree", "Key": ""})
        if version == "1.23":
            assert status == 400  # the empty key of get-tree comes first
        status, answer = transact(
            client, {"Verb": "get-tree", "Key": "n"}, {"Verb": "lock", "Key": "a", "Session": "x"}
        )
        assert (status, answer["Errors"]) == (409, [{"OpIndex": 1, "What": denied}])
        agent.refuse = "session:write"  # type: ignore[assignment]
        assert agent.refuse == {"session:write"}
        assert ask(client, "PUT", "/v1/kv/a", "1") == (200, True)
        agent.refuse = ()
        session = new_session(client)
        agent.refuse = {"session:read"}
        assert ask(client, "PUT", f"/v1/session/renew/{session}")[0] == 200
        assert ask(client, "GET", "/v1/session/list") == (200, [])


def test_a_right_that_there_is_none_of() -> None:
    with pytest.raises(ConfigurationError, match="session:write"):
        Agent(refuse={"session"})
    with Agent(refuse="key:write") as agent:  # one alone, as when it is set later
        assert agent.refuse == {"key:write"}
    with Agent() as agent, pytest.raises(ConfigurationError, match="operator:read"):
        agent.refuse = {"operator:read"}


def test_a_blocking_query_keeps_the_rights_with_which_it_began(agent: Agent, client: Client) -> None:
    session = new_session(client)
    path = f"/v1/session/info/{session}"
    index = client.ask("GET", path)[2]["X-Consul-Index"]
    watch = waiting(agent, f"{path}?index={index}&wait=60s")
    agent.filter_reads = True
    agent.advance(61)
    assert json.loads(watch.result()[3])[0]["ID"] == session
    assert json.loads(client.ask("GET", path)[3]) == []
