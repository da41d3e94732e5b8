"""Consul's HTTP API over the store: a request in, an answer or a blocking query out. Pure.

The part that lockers and their users' tests need, answered as Consul 1.8.7 answers it (docs/embedded.rst lists it
against a real agent). Unlike ``consul agent -dev`` JSON is not indented unless ``?pretty`` asks for it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Union
from urllib.parse import parse_qsl, unquote_to_bytes

from . import forms, txn
from .forms import JSON, LEADER, NO_LEADER, RAW, Answer, Blocking, Call, Refused, Request
from .golang import Invalid, duration
from .records import Rejected, Scope, SessionView, View
from .store import Store

__all__ = ["Api"]

_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")

#: What the answer to a transaction that only reads says besides its results.
_READ_META = {"Index": 0, "LastContact": 0, "KnownLeader": True, "ConsistencyLevel": ""}

Handler = Callable[[Call], Union[Answer, Blocking]]
Route = tuple[tuple[str, ...], Handler]


class Api:
    """Answers requests from a store.

    Args:
        store: what it reads and writes.
        address: what /v1/status/leader says, ``host:port``.
    """

    def __init__(self, store: Store, address: str) -> None:
        self.store = store
        self.address = address
        self._exact: dict[str, Route] = {
            "/v1/agent/self": (("GET",), self._agent_self),
            "/v1/session/create": (("PUT",), self._session_create),
            "/v1/session/list": (("GET",), self._session_list),
            "/v1/status/leader": (("GET",), self._leader),
            "/v1/status/peers": (("GET",), self._peers),
            "/v1/txn": (("PUT",), self._txn),
        }
        self._below: dict[str, Route] = {
            "/v1/kv/": (("GET", "PUT", "DELETE"), self._kv),
            "/v1/session/destroy/": (("PUT",), self._session_destroy),
            "/v1/session/info/": (("GET",), self._session_info),
            "/v1/session/node/": (("GET",), self._session_node),
            "/v1/session/renew/": (("PUT",), self._session_renew),
        }

    def endpoint(self, target: str) -> str:
        """The endpoint a request goes to: its whole path, or the part before the key or id."""
        path = target.partition("?")[0]
        for prefix in self._below:
            if path.startswith(prefix):
                return prefix
        return path

    # -------------------------------------------------------------------------------------- routing

    def handle(self, request: Request, now: float) -> Answer | Blocking:
        """Answer a request, or say that it waits."""
        try:
            answer = self._handle(request, now)
        except Refused as refusal:
            answer = refusal.answer
        except (Rejected, Invalid) as error:
            answer = Refused(500, str(error)).answer
        return answer

    def _handle(self, request: Request, now: float) -> Answer | Blocking:
        path, _, query = request.target.partition("?")
        if "%" in path:
            if _BAD_ESCAPE.search(path):
                raise Refused(400, "400 Bad Request", close=True)
            path = unquote_to_bytes(path).decode("utf-8", "surrogateescape")
        if not path.startswith("/"):
            raise Refused(400, "400 Bad Request", close=True)
        if not forms.readable(path).isprintable():
            return Answer(400)
        if "//" in path or "/." in path:
            cleaned = forms.cleaned(path)
            if cleaned != path:
                return forms.moved(request.method, cleaned, query)
        route, rest = self._exact.get(path), ""
        if route is None:
            for prefix, candidate in self._below.items():
                if path.startswith(prefix):
                    route, rest = candidate, path[len(prefix) :]
                    break
                if path + "/" == prefix:
                    return forms.moved(request.method, prefix, query)
        if route is None:
            return Answer(404)
        return self._dispatch(request, route, rest, query, now)

    def _dispatch(self, request: Request, route: Route, rest: str, query: str, now: float) -> Answer | Blocking:
        methods, handler = route
        method = request.method
        if method not in methods:
            allow = ("Allow", "OPTIONS," + ",".join(methods))
            if method == "OPTIONS":
                return Answer(200, b"", (allow,))
            raise Refused(405, f"method {method} not allowed", (allow,))
        pairs: list[tuple[str, str]] = []
        if query:
            if _BAD_ESCAPE.search(query):
                return Answer(500)
            pairs = parse_qsl(query, keep_blank_values=True, errors="surrogateescape")
        found = dict(reversed(pairs))  # the first of several counts, as with Go's url.Values.Get
        answer = handler(Call(method, rest, found, pairs, request.body, request.size, now))
        if "pretty" in found and isinstance(answer, Answer) and JSON in answer.headers:
            answer = answer._replace(body=forms.pretty(answer.body))
        return answer

    def _read(
        self, call: Call, read: Callable[[], tuple[Answer, int, Scope]], options: tuple[int, float]
    ) -> Answer | Blocking:
        index, wait = options
        if index > 0:
            return Blocking(index, wait, read)
        return read()[0]

    # ----------------------------------------------------------------------------------- agent, status

    def _agent_self(self, call: Call) -> Answer:
        config = {
            "Datacenter": forms.DATACENTER,
            "NodeName": self.store.node,
            "NodeID": "00000000-0000-0000-0000-000000000000",
            "Revision": "consul_locker.embedded",
            "Server": True,
            "Version": "1.8.7",
        }
        member = {"Name": self.store.node, "Addr": self.address.rpartition(":")[0], "Status": 1}
        return Answer(200, forms.dump({"Config": config, "Member": member}), (JSON,))

    def _leader(self, call: Call) -> Answer:
        call.check_datacenter()
        return Answer(200, forms.dump(self.address), (JSON,))

    def _peers(self, call: Call) -> Answer:
        call.check_datacenter()
        return Answer(200, forms.dump([self.address]), (JSON,))

    # ---------------------------------------------------------------------------------------- sessions

    def _session_create(self, call: Call) -> Answer:
        call.check_datacenter()
        try:
            fields = forms.session_fields(call.body)
        except Invalid as error:
            raise Refused(400, f"Request decode failed: {error}") from None
        behavior, ttl_text = fields["behavior"], fields["ttl_text"]
        if fields["node"] == "":
            raise Refused(500, "Must provide Node")
        if behavior not in ("", "release", "delete"):
            raise Refused(500, f"Invalid Behavior setting '{behavior}'")
        ttl = 0
        if ttl_text:
            try:
                ttl = duration(ttl_text)
            except Invalid as error:
                raise Refused(500, f"Session TTL '{ttl_text}' invalid: {error}") from None
            if ttl and not forms.MIN_TTL <= ttl <= forms.MAX_TTL:
                raise Refused(500, f"Invalid Session TTL '{ttl}', must be between [10s=24h0m0s]")
        session = self.store.create_session(call.now, ttl=ttl / 1e9, **fields)
        return Answer(200, forms.dump({"ID": session.id}), (JSON,))

    def _session_destroy(self, call: Call) -> Answer:
        call.check_datacenter()
        self.store.destroy_session(call.session_id(), call.now)
        return Answer(200, b"true", (JSON,))

    def _session_renew(self, call: Call) -> Answer:
        call.check_datacenter()
        id = call.session_id()
        session = self.store.renew_session(id, call.now)
        if session is None:
            raise Refused(404, f"Session id '{id}' not found")
        return Answer(200, forms.dump([forms.session_json(session)]), (JSON,))

    def _session_read(self, call: Call, read: Callable[[], SessionView]) -> Answer | Blocking:
        options = call.options()
        try:
            call.check_datacenter()
            read()
        except (Refused, Rejected) as error:
            raise Refused(500, str(error), NO_LEADER) from None

        def answer() -> tuple[Answer, int, Scope]:
            view = read()
            headers = (JSON, ("X-Consul-Index", str(view.index)), *LEADER)
            body = forms.dump([forms.session_json(session) for session in view.sessions])
            return Answer(200, body, headers), view.index, view.scope

        return self._read(call, answer, options)

    def _session_info(self, call: Call) -> Answer | Blocking:
        call.options()
        id = call.session_id()
        return self._session_read(call, lambda: self.store.session(id))

    def _session_list(self, call: Call) -> Answer | Blocking:
        return self._session_read(call, self.store.sessions)

    def _session_node(self, call: Call) -> Answer | Blocking:
        call.options()
        if not call.rest:
            raise Refused(400, "Missing node name")
        return self._session_read(call, lambda: self.store.sessions(call.rest))

    # -------------------------------------------------------------------------------------------- keys

    def _kv(self, call: Call) -> Answer | Blocking:
        if call.method == "GET":
            return self._kv_get(call)
        return self._kv_put(call) if call.method == "PUT" else self._kv_delete(call)

    def _kv_get(self, call: Call) -> Answer | Blocking:
        options = call.options()
        as_keys = "keys" in call.query
        if not as_keys and "recurse" not in call.query and not call.rest:
            raise Refused(400, "Missing key name")
        call.check_datacenter()

        def read() -> tuple[Answer, int, Scope]:
            if as_keys or "recurse" in call.query:
                view = self.store.below(call.rest)
            else:
                view = self.store.get(call.rest)
            return self._kv_answer(call, view), view.index, view.scope

        return self._read(call, read, options)

    def _kv_answer(self, call: Call, view: View) -> Answer:
        headers = (("X-Consul-Index", str(view.index)), *LEADER)
        if not view.entries:
            return Answer(404, b"", headers)
        if "keys" in call.query:
            keys = forms.key_names(view.entries, call.rest, call.query.get("separator", ""))
            return Answer(200, forms.dump(keys), (JSON, *headers))
        if "raw" in call.query and "recurse" not in call.query:
            return Answer(200, view.entries[0].value, (*RAW, *headers))
        return Answer(200, forms.dump([forms.entry_json(entry) for entry in view.entries]), (JSON, *headers))

    def _kv_put(self, call: Call) -> Answer:
        if not call.rest:
            raise Refused(400, "Missing key name")
        call.check_conflicts("acquire", "release", "cas")
        flags = call.number("flags")
        index = call.number("cas")
        call.check_size("kv_max_value_size")
        call.check_datacenter()
        store, key, value = self.store, call.rest, call.body
        if "acquire" in call.query:
            if store.is_delayed(key, call.now):
                return Answer(200, b"false", (JSON,))
            store.index += 1
            done = store.lock(key, value, flags, call.query["acquire"])
        elif "release" in call.query:
            store.index += 1
            done = store.unlock(key, value, flags, call.query["release"])
        elif "cas" in call.query:
            store.index += 1
            done = store.cas(key, value, flags, index)
        else:
            store.index += 1
            done = store.put(key, value, flags)
        return Answer(200, b"true" if done is not None else b"false", (JSON,))

    def _kv_delete(self, call: Call) -> Answer:
        recurse = "recurse" in call.query
        if not recurse and not call.rest:
            raise Refused(400, "Missing key name")
        call.check_conflicts("recurse", "cas")
        index = call.number("cas")
        call.check_datacenter()
        self.store.index += 1
        done = True
        if recurse:
            self.store.delete_tree(call.rest)
        elif "cas" in call.query:
            done = self.store.delete_cas(call.rest, index)
        else:
            self.store.delete(call.rest)
        return Answer(200, b"true" if done else b"false", (JSON,))

    # ------------------------------------------------------------------------------------ transactions

    def _txn(self, call: Call) -> Answer:
        call.check_size("txn_max_req_len")
        try:
            operations = txn.parse(call.body)
        except Invalid as error:
            raise Refused(400, f"Failed to parse body: {error}") from None
        except txn.Unsupported as error:
            raise Refused(501, f"The embedded agent has only KV operations in transactions, not {error}") from None
        if len(operations) > txn.MAX_OPERATIONS:
            size = len(operations)
            raise Refused(413, f"Transaction contains too many operations ({size} > {txn.MAX_OPERATIONS})")
        writes = txn.is_write(operations)
        if not writes:
            call.check_consistency()
        call.check_datacenter()
        results, errors = txn.transact(self.store, operations, call.now)
        body: dict[str, Any] = {
            "Results": None if errors else [{"KV": forms.entry_json(entry, shown)} for entry, shown in results],
            "Errors": [{"OpIndex": place, "What": what} for place, what in errors] or None,
        }
        if not writes:
            body.update(_READ_META)
        return Answer(409 if errors else 200, forms.dump(body), (JSON,) if writes else (JSON, *LEADER))
