"""The contract of paths and methods."""

from __future__ import annotations

from .steps import NOBODY, A, Step, get, put, scenario

scenario(
    "Endpoints",
    "status",
    get("/v1/status/leader"),
    get("/v1/status/peers"),
    get("/v1/status/leader?dc=dc1"),
    get("/v1/status/leader?dc=nowhere"),
    get("/v1/agent/self"),
)
scenario(
    "Endpoints",
    "unknown paths",
    *(
        get(path)
        for path in (
            "/v1/nothing",
            "/nothing",
            "/v1/",
            "/v1/session/",
            "/v1/session/list/x",
            "/v1/txn/",
            "/v1/session/create/x",
        )
    ),
    Step("PUT", "/v1/nothing"),
    Step("OPTIONS", "/v1/nothing"),
)
scenario(
    "Endpoints",
    "wrong methods",
    *(
        Step(method, path)
        for path, methods in {
            "/v1/agent/self": "PUT POST DELETE OPTIONS",
            "/v1/status/leader": "PUT",
            "/v1/session/create": "GET POST DELETE OPTIONS",
            f"/v1/session/destroy/{NOBODY}": "GET DELETE",
            f"/v1/session/info/{NOBODY}": "PUT DELETE",
            "/v1/session/list": "PUT",
            "/v1/session/node/x": "PUT",
            f"/v1/session/renew/{NOBODY}": "GET POST",
            "/v1/txn": "GET POST DELETE OPTIONS",
            A: "POST PATCH HEAD OPTIONS",
        }.items()
        for method in methods.split()
    ),
)
scenario(
    "Endpoints",
    "paths are cleaned by a redirect",
    put("/v1/kv//$p//b"),
    put("/v1/kv/$p/../b"),
    put("/v1/kv/./$p"),
    put("/v1/kv/$p%2F..%2Fb?flags=1"),
    get("//v1/kv/$p"),
    get("/v1/session/../kv/$p?raw&keys"),
    get("/v1/kv"),
    put("/v1/session/info"),
    get("/v1/kv/$p/a%20b/../c%3F/"),
    get(A),
)
scenario(
    "Endpoints",
    "paths that cannot be meant",
    put("/v1/kv/$p%00x"),
    put("/v1/kv/$p%0Ax"),
    get("/v1/kv/$p%zz"),
    get("/v1/kv/$p%E2%80%8B"),
    get("/v1/kv/$p?raw=%zz"),
)
scenario(
    "Endpoints", "JSON indented on request", put(A + "?pretty"), get(A + "?pretty"), get("/v1/status/leader?pretty")
)
