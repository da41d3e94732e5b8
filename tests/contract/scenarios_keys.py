"""The contract of keys."""

from __future__ import annotations

from .steps import NOBODY, A, delete, get, put, scenario, session

scenario(
    "Keys",
    "written, read, deleted",
    get(A),
    put(A, "one"),
    get(A),
    put(A, "one"),
    get(A),
    put(A, "two"),
    get(A),
    get(A + "?raw"),
    delete(A),
    get(A),
    get(A + "?raw"),
    delete(A),
)
scenario("Keys", "no key", get("/v1/kv/"), put("/v1/kv/"), delete("/v1/kv/"))
scenario("Keys", "an empty value", put(A, ""), get(A), get(A + "?raw"))
scenario(
    "Keys",
    "listings",
    put("/v1/kv/$p/d/e/f", "1"),
    put("/v1/kv/$p/d/g", "2"),
    put("/v1/kv/$p/d/e/h", "3"),
    put("/v1/kv/$p/d-", "4"),
    get("/v1/kv/$p/d?recurse"),
    get("/v1/kv/$p/d/?recurse"),
    get("/v1/kv/$p/d/e?recurse&raw"),
    get("/v1/kv/$p/d?keys"),
    get("/v1/kv/$p/d/?keys&separator=/"),
    get("/v1/kv/$p/d?keys&separator=/"),
    get("/v1/kv/$p/d?keys&separator="),
    get("/v1/kv/$p/d?recurse&keys"),
    get("/v1/kv/$p/d/e?keys&raw"),
    get("/v1/kv/$p/x?recurse"),
    get("/v1/kv/$p/x?keys"),
    get("/v1/kv/$p/?recurse=false"),
)
scenario(
    "Keys",
    "indexes of listings after deletions",
    put("/v1/kv/$p/d/a"),
    put("/v1/kv/$p/d/b"),
    put("/v1/kv/$p/e"),
    delete("/v1/kv/$p/d/a"),
    put("/v1/kv/$p/f"),
    get("/v1/kv/$p/d/?recurse"),
    get("/v1/kv/$p/d/?keys"),
    delete("/v1/kv/$p/d/?recurse"),
    put("/v1/kv/$p/g"),
    get("/v1/kv/$p/d/?recurse"),
    get("/v1/kv/$p/d/b?recurse"),
    get("/v1/kv/$p/d/a"),
    delete("/v1/kv/$p/nothing?recurse"),
    delete("/v1/kv/$p/nothing"),
    get("/v1/kv/$p/nothing"),
    get("/v1/kv/$p/?keys"),
)
scenario(
    "Keys",
    "names byte for byte",
    *(
        step
        for name in (
            "a%20b",
            "a%2Fb",
            "%3Facquire=",
            "%23",
            "%C3%A9",
            "%F0%9F%98%80",
            "a+b",
            "%25",
            "%22%5C",
            "a/%20/b",
            "%FF",
            "a;b",
            "%3C%26%3E",
        )
        for step in (put(f"/v1/kv/$p/{name}"), get(f"/v1/kv/$p/{name}"))
    ),
    get("/v1/kv/$p/?keys"),
)
scenario(
    "Keys",
    "flags",
    *(
        step
        for flags in ("7", "0", "18446744073709551615", "18446744073709551616", "x", "", "-1", "%20", "1&flags=2")
        for step in (put(f"{A}?flags={flags}"), get(A))
    ),
)
scenario(
    "Keys",
    "check and set",
    put(A + "?cas=0"),
    put(A + "?cas=0"),
    put(A + "?cas=1"),
    get(A, remembers=True),
    put(A + "?cas=$index", "new"),
    put(A + "?cas=$index", "newer"),
    get(A),
    put("/v1/kv/$p/b?cas=5"),
    put(A + "?cas=x"),
    put(A + "?cas="),
    put(A + "?cas=-1"),
    put(A + "?cas"),
)
scenario(
    "Keys",
    "check and delete",
    put(A),
    get(A, remembers=True),
    delete(A + "?cas=1"),
    delete(A + "?cas=0"),
    delete(A + "?cas=$index"),
    delete(A + "?cas=1"),
    get(A),
    delete(A + "?cas=x"),
    delete(A + "?cas"),
)
scenario(
    "Keys",
    "acquired and released",
    session("s"),
    session("t"),
    put(A + "?acquire=$s", "1"),
    put(A + "?acquire=$s", "1"),
    get(A),
    put(A + "?acquire=$s", "2"),
    get(A),
    put(A + "?acquire=$t"),
    put(A + "?release=$t"),
    get(A),
    put(A + "?release=$s", "3"),
    get(A),
    put(A + "?release=$s"),
    put(A + "?acquire=$t&flags=5"),
    get(A),
    put("/v1/kv/$p/b?release=$s"),
    get("/v1/kv/$p/b"),
)
scenario(
    "Keys",
    "a stranger writes a held key",
    session("s"),
    put(A + "?acquire=$s"),
    put(A, "stranger"),
    get(A),
    put(A + "?acquire=$s", "again"),
    get(A),
    put(A + "?release=$s"),
    get(A),
)
scenario(
    "Keys",
    "a held key is deleted and made again",
    session("s"),
    session("t"),
    put(A + "?acquire=$s"),
    get(A),
    delete(A),
    put(A + "?acquire=$t"),
    get(A),
)
scenario(
    "Keys",
    "sessions that do not exist",
    *(put(f"{A}?{verb}={id}") for verb in ("acquire", "release") for id in ("", "x", NOBODY, "z" * 36)),
    get(A),
)
scenario(
    "Keys",
    "options that exclude each other",
    put(A + "?acquire=x&release=y"),
    put(A + "?cas=0&acquire=x"),
    put(A + "?release=x&cas=1&dc=dc1&flags=a%20b"),
    delete(A + "?recurse&cas=1"),
)
scenario("Keys", "values that are too large", put(A, "x" * 524288), put(A, "x" * 524289), put(A, "x" * 1500000))
scenario(
    "Keys",
    "parameters of reads",
    put(A),
    get(A + "?stale"),
    get(A + "?consistent"),
    get(A + "?stale&consistent"),
    get(A + "?index=x"),
    get(A + "?index=-1"),
    get(A + "?index="),
    get(A + "?wait=x"),
    get(A + "?wait=10"),
    get(A + "?wait="),
    get(A + "?wait=-5s"),
    get(A + "?wait=5s"),
    get(A + "?index=1"),
    get(A + "?index=1&wait=0s"),
    get(A + "?wait=x&index=x"),
    get(A + "?index=x&stale&consistent"),
    get("/v1/kv/?index=x"),
    get(A + "?token=t"),
    get(A + "?dc=dc1"),
    get(A + "?dc="),
    get(A + "?dc=x"),
    put(A + "?dc=x"),
    delete(A + "?dc=x"),
    get("/v1/session/list?wait=x"),
    get("/v1/session/info/?index=x"),
    get("/v1/session/node/?index=x"),
)
