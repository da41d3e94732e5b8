"""Consul's HTTP API over the store: a request in, an answer or a blocking query out. Pure.

The part that lockers and their users' tests need, answered as one version of Consul answers it (versions.py has what
differs; docs/contract.rst lists all against real agents). Unlike ``consul agent -dev`` JSON is not indented unless
``?pretty`` asks for it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Union
from urllib.parse import parse_qsl, unquote_to_bytes

from ..embedded import forms, txn
from .forms import FILTERED, JSON, LEADER, NO_LEADER, SANDBOX, Answer, Blocking, Call, Refused, Request
from .golang import Invalid, duration
from .policy import Policy
from .records import Rejected, Scope, SessionView, View
from .store import Store
from .versions import Version, pattern_fault

__all__ = ["Api"]

_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")

#: What the answer to a transaction that only reads says besides its results.
_READ_META = {"Index": 0, "LastContact": 0, "KnownLeader": True, "ConsistencyLevel": ""}

#: What is said to a request over the rate, with its status (measured on 1.16.4 and 1.23.0-dev).
_TOO_MANY_READS = (429, "rate limit exceeded, try again later or against a different server")
_TOO_MANY_WRITES = (
    503,
    "rate limit exceeded for operation that can only be performed by the leader, try again later",
)

Handler = Callable[[Call], Union[Answer, Blocking]]
Route = tuple[tuple[str, ...], Handler]


class Api:
    """Answers requests from a store.

    Args:
        store: what it reads and writes.
        address: what /v1/status/leader says, ``host:port``.
        version: whose ways it has.
        policy: what it was told to refuse.
    """

    def __init__(self, store: Store, address: str, version: Version, policy: Policy) -> None:
        self.store = store
        self.address = address
        self.version = version
        self.policy = policy
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
        target, _, query = request.target.partition("?")
        path = target
        if "%" in path:
            if _BAD_ESCAPE.search(path):
                raise Refused(400, "400 Bad Request", close=True)
            path = unquote_to_bytes(path).decode("utf-8", "surrogateescape")
        if not path.startswith("/"):
            raise Refused(400, "400 Bad Request", close=True)
        if not forms.readable(path).isprintable():
            return Answer(400)
        seen = path if self.version.cleans_decoded else target
        if "//" in seen or "/." in seen:
            cleaned = forms.cleaned(seen)
            if cleaned != seen:
                return forms.moved(request.method, cleaned, query, self.version.redirect)
        route, rest = self._exact.get(path), ""
        if route is None:
            for prefix, candidate in self._below.items():
                if path.startswith(prefix):
                    route, rest = candidate, path[len(prefix) :]
                    break
                if path + "/" == prefix:
                    return forms.moved(request.method, prefix, query, self.version.redirect)
        if route is None:
            raise self._unknown(path)
        return self._dispatch(request, route, rest, query, now)

    def _unknown(self, path: str) -> Refused:
        """The refusal of a path that is no endpoint's."""
        if not self.version.explains_paths:
            return Refused(404)
        if path.startswith("/v1/"):
            return Refused(404, "Invalid URL path: not a recognized HTTP API endpoint\n")
        start = "if attempting to use the HTTP API, ensure the path starts with '/v1/'"
        return Refused(404, f"Invalid URL path: {start}\n")

    def _dispatch(self, request: Request, route: Route, rest: str, query: str, now: float) -> Answer | Blocking:
        methods, handler = route
        method = request.method
        if method not in methods:
            allow = ("Allow", "OPTIONS," + ",".join(methods))
            if method == "OPTIONS":
                return Answer(200, b"", (allow, *self.version.bare))
            raise Refused(405, f"method {method} not allowed", (allow,))
        pairs: list[tuple[str, str]] = []
        if query:
            if _BAD_ESCAPE.search(query):
                return Answer(500, b"", self.version.bad_query)
            pairs = parse_qsl(query, keep_blank_values=True, errors="surrogateescape")
        found = dict(reversed(pairs))  # the first of several counts, as with Go's url.Values.Get
        forms.check_namespace(request.target, found)
        answer = handler(Call(method, rest, found, pairs, request.body, request.size, now))
        if "pretty" in found and isinstance(answer, Answer) and {JSON, self.version.conflict} & set(answer.headers):
            answer = answer._replace(body=forms.pretty(answer.body))
        return answer

    def _read(
        self, call: Call, read: Callable[[], tuple[Answer, int, Scope]], options: tuple[int, float]
    ) -> Answer | Blocking:
        index, wait = options
        if index > 0:
            return Blocking(index, wait, read)
        return read()[0]

    def _admit(self, call: Call, write: bool) -> None:
        """Where a real agent hands a request to a server: it must go to this datacenter, and be within the rate."""
        call.check_datacenter()
        if not self.policy.admits(write, call.now):
            raise Refused(*(_TOO_MANY_WRITES if write else _TOO_MANY_READS))

    def _must_have(self, right: str, on: str) -> None:
        if self.policy.lacks(right):
            raise Refused(403, self.version.denied(right, on))

    # ----------------------------------------------------------------------------------- agent, status

    def _agent_self(self, call: Call) -> Answer:
        config = {
            "Datacenter": forms.DATACENTER,
            "NodeName": self.store.node,
            "NodeID": "00000000-0000-0000-0000-000000000000",
            "Revision": "consul_locker.embedded",
            "Server": True,
            "Version": self.version.number,
            **dict(self.version.config),
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
        try:
            fields = forms.session_fields(call.body)
        except Invalid as error:
            raise Refused(400, f"Request decode failed: {error}") from None
        self._admit(call, write=True)
        behavior, ttl_text = fields["behavior"], fields["ttl_text"]
        if fields["node"] == "":
            raise Refused(500, "Must provide Node")
        self._must_have("session:write", fields["node"] or self.store.node)
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
        try:
            session = self.store.create_session(call.now, ttl=ttl / 1e9, **fields)
        except Rejected as error:
            raise Refused(500, f"{self.version.not_applied}{error}") from None
        return Answer(200, forms.dump({"ID": session.id}), (JSON,))

    def _session_destroy(self, call: Call) -> Answer:
        self._admit(call, write=True)
        session = self.store.find_session(call.session_id())
        if session is not None:
            self._must_have("session:write", session.node)
        self.store.destroy_session(call.rest, call.now)
        return Answer(200, b"true", (JSON,))

    def _session_renew(self, call: Call) -> Answer:
        self._admit(call, write=True)
        id = call.session_id()
        session = self.store.find_session(id)
        if session is None:
            raise Refused(404, f"Session id '{id}' not found")
        self._must_have("session:write", session.node)
        self.store.renew_session(session, call.now)
        return Answer(200, forms.dump([forms.session_json(session)]), (JSON,))

    def _session_read(self, call: Call, read: Callable[[], SessionView]) -> Answer | Blocking:
        options = call.options()
        try:
            call.check_datacenter()
            read()
        except (Refused, Rejected) as error:
            raise Refused(500, str(error), NO_LEADER) from None
        self._admit(call, write=False)
        hidden = self.policy.lacks("session:read")

        def answer() -> tuple[Answer, int, Scope]:
            view = read()
            shown = () if hidden else view.sessions
            headers = (JSON, ("X-Consul-Index", str(view.index)), *LEADER, *self._filtered(shown != view.sessions))
            body = forms.dump([forms.session_json(session) for session in shown])
            return Answer(200, body, headers), view.index, view.scope

        return self._read(call, answer, options)

    def _filtered(self, something: bool) -> tuple[tuple[str, str], ...]:
        """The header of a read from which something was filtered."""
        return (FILTERED,) if something and self.version.tells_filtered else ()

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
        if call.rest:
            fault = pattern_fault(call.rest) if self.policy.check_keys else ""
            if fault := fault or self.version.key_fault(call.rest):
                raise Refused(500, fault)
        if call.method == "GET":
            return self._kv_get(call)
        return self._kv_put(call) if call.method == "PUT" else self._kv_delete(call)

    def _kv_get(self, call: Call) -> Answer | Blocking:
        options = call.options()
        many = "keys" in call.query or "recurse" in call.query
        if not many and not call.rest:
            raise Refused(400, "Missing key name")
        self._admit(call, write=False)
        hidden = self.policy.lacks("key:read")
        if not many:
            self._must_have("key:read", call.rest)

        def read() -> tuple[Answer, int, Scope]:
            view = self.store.below(call.rest) if many else self.store.get(call.rest)
            return self._kv_answer(call, view, hidden), view.index, view.scope

        return self._read(call, read, options)

    def _kv_answer(self, call: Call, view: View, hidden: bool) -> Answer:
        headers = (("X-Consul-Index", str(view.index)), *LEADER)
        if hidden or not view.entries:
            return Answer(404, b"", (*headers, *self._filtered(bool(view.entries))))
        if "keys" in call.query:
            keys = forms.key_names(view.entries, call.rest, call.query.get("separator", ""))
            return Answer(200, forms.dump(keys), (JSON, *headers))
        if "raw" in call.query and "recurse" not in call.query:
            return Answer(200, view.entries[0].value, (*SANDBOX, self.version.value, *headers))
        return Answer(200, forms.dump([forms.entry_json(entry) for entry in view.entries]), (JSON, *headers))

    def _kv_put(self, call: Call) -> Answer:
        if not call.rest:
            raise Refused(400, "Missing key name")
        call.check_conflicts("acquire", "release", "cas", end=self.version.end_of_flags)
        flags = call.number("flags")
        index = call.number("cas")
        call.check_size("kv_max_value_size", self.version.limits)
        self._admit(call, write=True)
        self._must_have("key:write", call.rest)
        store, key, value = self.store, call.rest, call.body
        if "acquire" in call.query or "release" in call.query:
            if "acquire" in call.query and store.is_delayed(key, call.now):
                return Answer(200, b"false", (JSON,))
            store.index += 1
            try:
                if "acquire" in call.query:
                    done = store.lock(key, value, flags, call.query["acquire"])
                else:
                    done = store.unlock(key, value, flags, call.query["release"])
            except Rejected as error:
                raise Refused(500, f"{self.version.not_locked}{error}") from None
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
        call.check_conflicts("recurse", "cas", end=self.version.end_of_flags)
        index = call.number("cas")
        self._admit(call, write=True)
        self._must_have("key:write", call.rest)
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
        version = self.version
        call.check_size("txn_max_req_len", version.limits)
        try:
            operations = txn.parse(call.body)
        except Invalid as error:
            raise Refused(400, f"Failed to parse body: {error}") from None
        except txn.Unsupported as error:
            raise Refused(501, f"The embedded agent has only KV operations in transactions, not {error}") from None
        if len(operations) > version.max_operations:
            size = len(operations)
            raise Refused(413, f"Transaction contains too many operations ({size} > {version.max_operations})")
        for operation in operations:
            if fault := version.key_fault(operation.key):
                raise Refused(400, f"Invalid key in transaction: {fault}")
        writes = txn.is_write(operations)
        if not writes:
            call.check_consistency()
        self._admit(call, writes)
        results, errors, looked, hidden = txn.transact(self.store, operations, call.now, version, self.policy)
        body: dict[str, Any] = {
            "Results": None if errors else [{"KV": forms.entry_json(entry, shown)} for entry, shown in results],
            "Errors": [{"OpIndex": place, "What": what} for place, what in errors] or None,
        }
        headers = [version.conflict if errors else JSON]
        if not writes:
            body.update(_READ_META, **dict(version.read_meta))
            if looked:
                body["Index"] = version.read_index
            else:
                body["KnownLeader"] = version.unread_leader
            if hidden and version.tells_filtered:
                body["ResultsFilteredByACLs"] = True
            headers += LEADER if body["KnownLeader"] else NO_LEADER[1:]
        return Answer(409 if errors else 200, forms.dump(body), tuple(headers))
