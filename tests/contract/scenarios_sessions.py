"""The contract of sessions."""

from __future__ import annotations

import json
from typing import Any

from .steps import NOBODY, A, Step, create, delete, destroy, get, op, put, scenario, session, txn

scenario(
    "Sessions",
    "made, read, renewed, destroyed",
    session("s", Name="n", TTL="15s"),
    get("/v1/session/info/$s"),
    put("/v1/session/renew/$s", ""),
    destroy("$s"),
    get("/v1/session/info/$s"),
    put("/v1/session/renew/$s", ""),
    destroy("$s"),
)
scenario(
    "Sessions",
    "listed",
    session("s", Name="one"),
    session("t", Name="two", Behavior="delete"),
    get("/v1/session/list"),
    get("/v1/session/node/$node"),
    get("/v1/session/node/nowhere"),
    destroy("$s"),
    get("/v1/session/list"),
)
scenario(
    "Sessions",
    "defaults",
    create("s"),
    get("/v1/session/info/$s"),
    destroy("$s"),
    Step("PUT", "/v1/session/create", "null", binds="t"),
    get("/v1/session/info/$t"),
    destroy("$t"),
)
FIELDS: dict[str, tuple[Any, ...]] = {
    "TTL": (
        "10s",
        "24h",
        "1m30s",
        "0s",
        "0",
        "",
        "9.999s",
        "24h1s",
        "-10s",
        "+10s",
        "abc",
        "15",
        "15x",
        ".s",
        None,
        15,
    ),
    "LockDelay": (
        "0s",
        "1.5s",
        "60s",
        "1h",
        "-1s",
        "0",
        "",
        "15",
        "15x",
        0,
        10,
        999,
        1000,
        2 * 10**9,
        1.5,
        -1,
        None,
        True,
        [1],
    ),
    "Behavior": ("release", "delete", "", "other", None),
    "Node": ("nowhere", "", None),
    "Checks": ([], ["serfHealth"], ["other"], None, "serfHealth", [1]),
    "NodeChecks": ([], ["serfHealth"], ["serfHealth", "other"], "x", [1], {}),
    "ServiceChecks": ([{"ID": "other"}], "x", ["x"], {}),
    "Name": ("é😀", 'a"b\\c<&>', None, 5, True, [], {}),
    "ID": (NOBODY, 5),
    "CreateIndex": (5, "x", -1),
    "Unknown": (1, "x"),
    "name": ("small letters",),
}
for field, choices in FIELDS.items():
    for number, value in enumerate(choices):
        scenario(
            "Sessions",
            f"created with {field} {json.dumps(value)} ({number})",
            create("s", **{field: value}),
            get("/v1/session/info/$s"),
            destroy("$s"),
        )
scenario(
    "Sessions",
    "health checks named twice",
    create("s", Checks=[], NodeChecks=["serfHealth"]),
    get("/v1/session/info/$s"),
    destroy("$s"),
    create("t", Checks=["serfHealth"], NodeChecks=[]),
    get("/v1/session/info/$t"),
    destroy("$t"),
)
scenario(
    "Sessions",
    "which error comes first",
    create(Behavior="x", TTL="1s"),
    create(TTL="1s", Node="x"),
    create(Node="x", Checks=["x"]),
)
scenario(
    "Sessions",
    "bodies that are no session",
    *(Step("PUT", "/v1/session/create", body) for body in ("{", "[]", '""', "5", "true", "x", "[", '{"a"')),
    Step("PUT", "/v1/session/create", '{"a":1,}', loose=True),
)
for title, id in {
    "nothing": "",
    "one letter": "x",
    "nobody": NOBODY,
    "no hexadecimal": "z" * 36,
    "hyphens": "-" * 36,
    "an odd number of digits": "0" * 33 + "---",
    "no hyphens": "0" * 36,
    "not ASCII": "%C3%A9" * 18,
    "a longer one": NOBODY + "/",
}.items():
    scenario(
        "Sessions", f"the id is {title}", get(f"/v1/session/info/{id}"), put(f"/v1/session/renew/{id}", ""), destroy(id)
    )
scenario("Sessions", "no node named", get("/v1/session/node/"))
scenario(
    "Sessions",
    "another datacenter",
    get("/v1/session/list?dc=x"),
    get(f"/v1/session/info/{NOBODY}?dc=x"),
    get("/v1/session/node/x?dc=x"),
    Step("PUT", "/v1/session/create?dc=x"),
    Step("PUT", f"/v1/session/renew/{NOBODY}?dc=x"),
    Step("PUT", f"/v1/session/destroy/{NOBODY}?dc=x"),
)
scenario(
    "Sessions",
    "the end releases what was held",
    session("s"),
    put(A + "?acquire=$s"),
    destroy("$s"),
    get(A),
    session("t"),
    put(A + "?acquire=$t"),
    get(A),
)
scenario(
    "Sessions",
    "the end deletes what was held",
    session("s", Behavior="delete"),
    put(A + "?acquire=$s"),
    put("/v1/kv/$p/free"),
    destroy("$s"),
    get(A),
    get("/v1/kv/$p/free"),
    get("/v1/kv/$p?keys"),
)
for delay in (None, "60s", "1h"):
    scenario(
        "Sessions",
        f"lock-delay {delay}",
        session("s", LockDelay=delay),
        session("t"),
        put(A + "?acquire=$s"),
        put("/v1/kv/$p/b?acquire=$s"),
        put("/v1/kv/$p/b?release=$s"),
        destroy("$s"),
        put(A + "?acquire=$t"),
        txn(op("lock", session="$t")),
        put(A),
        get(A),
        put("/v1/kv/$p/b?acquire=$t"),
    )
scenario(
    "Sessions",
    "lock-delay and behavior delete",
    session("s", LockDelay="60s", Behavior="delete"),
    session("t"),
    put(A + "?acquire=$s"),
    destroy("$s"),
    put(A + "?acquire=$t"),
    get(A),
)
scenario(
    "Sessions",
    "no lock-delay after a release or a deletion",
    session("s", LockDelay="60s"),
    session("t"),
    put(A + "?acquire=$s"),
    put(A + "?release=$s"),
    put("/v1/kv/$p/b?acquire=$s"),
    delete("/v1/kv/$p/b"),
    destroy("$s"),
    put(A + "?acquire=$t"),
    put("/v1/kv/$p/b?acquire=$t"),
)
