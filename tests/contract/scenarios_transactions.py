"""The contract of transactions."""

from __future__ import annotations

from .steps import NOBODY, A, Step, b64, destroy, get, op, put, scenario, session, txn

for verb in (
    "set",
    "cas",
    "lock",
    "unlock",
    "get",
    "get-tree",
    "check-index",
    "check-session",
    "check-not-exists",
    "delete",
    "delete-cas",
    "delete-tree",
    "SET",
    "",
    "other",
):
    same = op(verb, value=b64("new"), session="$s", index=0, flags=3)
    scenario(
        "Transactions",
        f"{verb or 'an empty verb'} on no key, on a free, own, foreign and empty key",
        session("s"),
        session("t"),
        txn(same),
        get(A),
        put("/v1/kv/$p/b"),
        get("/v1/kv/$p/b", remembers=True),
        txn(op(verb, "$p/b", value=b64("new"), session="$s", index="$index")),
        get("/v1/kv/$p/b"),
        put("/v1/kv/$p/c?acquire=$s"),
        txn({"KV": {**same["KV"], "Key": "$p/c"}}),
        get("/v1/kv/$p/c"),
        put("/v1/kv/$p/d?acquire=$t"),
        txn({"KV": {**same["KV"], "Key": "$p/d"}}),
        get("/v1/kv/$p/d"),
        *([] if verb == "delete-tree" else [txn({"KV": {**same["KV"], "Key": ""}})]),
    )
scenario(
    "Transactions",
    "sessions that do not exist",
    put(A),
    *(
        txn(op(verb, session=id))
        for verb in ("lock", "unlock", "check-session")
        for id in ("", "x", NOBODY, 'a"é\n\t\x01<😀\u2028\xad\x7f\\')
    ),
    txn(op("lock")),
)
scenario(
    "Transactions",
    "locked by 64",
    session("s"),
    txn(*(op("lock", f"$p/{n}", session="$s") for n in range(64))),
    txn(*(op("check-session", f"$p/{n}", session="$s") for n in range(64))),
    txn(*(op("unlock", f"$p/{n}", session="$s") for n in range(64))),
)
scenario("Transactions", "65 operations", txn(*(op("get") for _ in range(65))), txn(*(op("set") for _ in range(65))))
scenario(
    "Transactions",
    "nothing to do",
    *(Step("PUT", "/v1/txn", body) for body in ("[]", " [ ] ", "null", "[{}]", '[{"KV":null}]', "[{},{}]")),
)
scenario(
    "Transactions",
    "every failing operation is told",
    session("s"),
    session("t"),
    put(A + "?acquire=$s"),
    put("/v1/kv/$p/b"),
    txn(
        op("lock", session="$t"),
        op("unlock", session="$t"),
        op("cas", index=1),
        op("cas", index=0),
        op("delete-cas", index=1),
        op("cas", "$p/n", index=1),
        op("check-session", "$p/n"),
        op("check-index", "$p/n"),
        op("check-index", index=3),
        op("check-session", session="$t"),
        op("check-session", "$p/b", session="$t"),
        op("check-not-exists"),
        op("get", "$p/n"),
        op("get"),
        op("other"),
        op("set", "$p/new"),
    ),
    get("/v1/kv/$p?keys"),
)
scenario(
    "Transactions",
    "what is checked first",
    session("s", LockDelay="60s"),
    session("t"),
    put(A + "?acquire=$s"),
    put("/v1/kv/$p/b?acquire=$t"),
    destroy("$s"),
    session("u"),
    txn(op("lock", session="$u"), op("lock", "$p/b", session="$u"), op("lock", "", session="$u"), op("get", "$p/n")),
    txn(op("lock", "$p/b", session="$u"), op("lock", "$p/c", session="x"), op("set", "$p/d")),
)
scenario(
    "Transactions",
    "undone as a whole",
    session("s"),
    put(A, "old"),
    put("/v1/kv/$p/b"),
    get("/v1/kv/$p/?recurse"),
    txn(
        op("set", value=b64("new")),
        op("lock", "$p/b", session="$s"),
        op("set", "$p/c"),
        op("delete", "$p/b"),
        op("delete-tree", "$p/"),
        op("get", "$p/nothing"),
    ),
    get("/v1/kv/$p/?recurse"),
    get("/v1/kv/$p/none"),
)
scenario(
    "Transactions",
    "later operations see earlier ones",
    session("s"),
    txn(
        op("set", value=b64("1")),
        op("get"),
        op("lock", session="$s", value=b64("2")),
        op("check-session", session="$s"),
        op("get-tree", "$p/"),
        op("unlock", session="$s", value=b64("3")),
        op("get"),
        op("delete"),
        op("check-not-exists"),
        op("set", "$p/e", value=""),
        op("get", "$p/e"),
        op("get-tree", "$p/none"),
        op("delete-tree", "$p/"),
    ),
    get("/v1/kv/$p/?recurse"),
)
scenario(
    "Transactions",
    "lock twice, or with another value",
    session("s"),
    txn(op("lock", session="$s", value=b64("1"))),
    txn(op("lock", session="$s", value=b64("1"))),
    txn(op("lock", session="$s", value=b64("2"))),
    txn(op("lock", session="$s"), op("lock", session="$s")),
    get(A),
)
scenario(
    "Transactions",
    "guarded by the index",
    session("s"),
    put(A + "?acquire=$s"),
    get(A, remembers=True),
    txn(op("check-index", index=1), op("unlock", session="$s")),
    txn(op("check-index", index="$index"), op("check-session", session="$s"), op("set", "$p/row")),
    txn(op("check-index", index="$index"), op("unlock", session="$s", flags=4)),
    get(A),
    txn(op("check-index", index="$index"), op("unlock", session="$s")),
)
scenario(
    "Transactions",
    "released and removed at once",
    session("s"),
    put(A + "?acquire=$s"),
    get(A, remembers=True),
    txn(op("check-session", session="$s"), op("delete-cas", index="$index")),
    get(A),
)
scenario(
    "Transactions",
    "values that are too large",
    txn(*(op("set", f"$p/{n}", value=b64("x" * 9000)) for n in range(64))),
    txn(op("set", value=b64("x" * 380000))),
    txn(op("set", value=b64("x" * 393216))),
)
scenario(
    "Transactions",
    "parameters",
    put(A),
    *(
        txn(op("get"), query=query)
        for query in ("?stale", "?consistent", "?stale&consistent", "?index=3", "?dc=dc1", "?dc=x", "?pretty")
    ),
    *(txn(op("set", value=b64("v")), query=query) for query in ("?stale", "?consistent", "?stale&consistent", "?dc=x")),
)
scenario(
    "Transactions",
    "bodies that are no transaction",
    *(
        Step("PUT", "/v1/txn", body)
        for body in (
            "",
            " ",
            "{",
            "{}",
            "true",
            '"x"',
            "5",
            "[1]",
            '["x"]',
            "[[]]",
            "[x]",
            '[{"Foo":{}}]',
            '[{"KV":1}]',
            '[{"KV":[]}]',
            '[{"KV":{"Verb":5}}]',
            '[{"KV":{"Verb":"set","Key":5}}]',
            '[{"KV":{"Verb":"set","Key":true}}]',
            '[{"KV":{"Verb":"set","Key":"k","Session":5}}]',
            '[{"KV":{"Verb":"set","Key":"k","Flags":-1}}]',
            '[{"KV":{"Verb":"set","Key":"k","Flags":"1"}}]',
            '[{"KV":{"Verb":"set","Key":"k","Flags":1.5}}]',
            '[{"KV":{"Verb":"set","Key":"k","Flags":18446744073709551616}}]',
            '[{"KV":{"Verb":"set","Key":"k","Index":"x"}}]',
            '[{"KV":{"Verb":"set","Key":"k","Other":1}}]',
            '[{"KV":{"Verb":"set","Key":"k","Value":5}}]',
            '[{"KV":{"Verb":"set","Key":"k","Value":{}}}]',
            '[{"KV":{"Verb":"set","Key":"k","Value":"%%"}}]',
            '[{"KV":{"Verb":"set","Key":"k","Value":"YQ"}}]',
            '[{"KV":{"Verb":"set","Key":"k","Value":"YWJjYQ"}}]',
            '[{"KV":{"Verb":"set","Key":"k","Value":"YQ==x"}}]',
            '[{"KV":{"Verb":"set","Key":"k","Value":"a$$b="}}]',
            '[{"KV":{"Verb":"set"}}',
            '[{"KV":{"Verb":"set","Key":null,"Flags":null}}]',
        )
    ),
    Step("PUT", "/v1/txn", "[" * 20000, loose=True),
)
scenario(
    "Transactions",
    "JSON read as Go reads it",
    Step("PUT", "/v1/txn", '[{"kv":{"VERB":"set","key":"$p/k","value":"Y\\nQ=="}}] and more'),
    get("/v1/kv/$p/k"),
    Step("PUT", "/v1/txn", '[{"KV":{"Verb":"set","Key":"$p/\\u0000\\ud800é"}}]'),
    get("/v1/kv/$p/?keys"),
)
