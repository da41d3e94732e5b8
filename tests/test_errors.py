"""errors: each can be pickled and copied, keeps its facts, and says what to do."""

from __future__ import annotations

import copy
import pickle

import pytest

from consul_locker import errors
from consul_locker.models import LockInfo

HOLDER = LockInfo("a", "n/a/lock", "5e55", {"pid": 7, "host": "h"}, 12, 1)

ERRORS = [
    (errors.AlreadyLocked("a", "n/a/lock"), "another session"),
    (errors.AlreadyLocked("a", "n/a/lock", "held", HOLDER), "process 7 on h (session 5e55)"),
    (errors.AlreadyLocked("a", "n/a/lock", "lock-delay"), "lock-delay"),
    (errors.AlreadyLocked("a", "n/a/lock", "local"), "this Locker"),
    (errors.AlreadyLocked("a", "n/a/lock", "local", shared=True), "this Locker has 'a' by lock; release it first"),
    (errors.AlreadyLocked("a", "n/a/lock", ids=("a", "b")), "'a', 'b'"),
    (errors.LockTimeout("a", 1.5, "paused"), "within 1.5 s"),
    (errors.LockTimeout(None, None, "ready", "stop"), "stop was not answered within its limit"),
    (errors.LockTimeout("a", 1, "ready"), "the Locker is ready: Consul did not answer in time"),
    (errors.LockTimeout("a", 1, "ready", "hold", "held"), "hold of 'a' was not granted within 1 s: it is still"),
    (errors.LockTimeout("a", 1, "ready", reason="held", holder=HOLDER), "held by process 7 on h (session 5e55); try"),
    (errors.LockTimeout("a", 1, "ready", reason="held", fair=True), "another session, or others wait before it"),
    (errors.LockTimeout("a", 1, "ready", reason="local"), "in use by another caller of this Locker"),
    (errors.LockTimeout("a", 1, "ready", reason="lock-delay"), "it is still in its lock-delay"),
    (errors.LockTimeout("a", 1, "ready", cause=OSError("gone")), "within 1 s: the last attempt failed (gone); try"),
    (errors.LockTimeout("a", 1, "paused", cause=OSError("gone")), "does not exist yet; the last attempt failed (gone)"),
    (errors.LockTimeout("a", 1, "acquiring"), "does not exist yet; is Consul reachable?"),
    (errors.SessionEnded("n", " since noon"), "since noon; call start()"),
    (errors.SessionEnded("n", cause=OSError("gone")), "is stopped (the last failure: gone); call start()"),
    (errors.SessionEnded("n", closed=True), "is stopped; its factory is closed; make a new one"),
    (errors.SessionUnavailable("n", 3, errors.ConsulUnavailable("no", option="dc")), "fix the option 'dc', or call"),
    (errors.SessionUnavailable("n", 3, OSError("gone")), "the last failure: gone"),
    (errors.SessionUnavailable("n", 3), "within 3 retries and is stopped; call"),
    (errors.LockLost("a", "n/a/lock", "released", 7), "lost (released)"),
    (errors.ConsulUnavailable("no answer", operation="txn", status=500, sent=True), "no answer"),
    (errors.AccessDenied("session create", 403, "rpc error"), "session:write"),
    (errors.AccessDenied("session create", 403, "ACL not found"), "option 'token'), or not yet"),
    (errors.AccessDenied("transaction", 403, "", right="key:write"), 'on a key: key_prefix "" { policy = "write" }'),
    (errors.AccessDenied("x", 403, "", right="key:read", on="a/b"), "lacks key:read on 'a/b': key \"a/b\" {"),
    (errors.AccessDenied("x", 403, "", right="session:write", on="n"), "on the node 'n': session \"n\" {"),
    (errors.AccessDenied("x", 403, "anonymous token lacks permission 'acl:read'", token_source=None), "lacks acl:read"),
    (errors.InvalidLockId(True, "an id is a str"), "True cannot be the id"),
    (errors.ConfigurationError("ttl", 1, "10 to 86400"), "ttl=1: 10 to 86400"),
]


@pytest.mark.parametrize(("error", "words"), ERRORS, ids=lambda value: type(value).__name__)
def test_copies_are_the_same(error: errors.ConsulLockerError, words: str) -> None:
    assert words in str(error)
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(again) is type(error)
        assert (str(again), repr(again)) == (str(error), repr(error))
        assert again.__dict__.keys() == error.__dict__.keys()
        assert repr(again.__dict__) == repr(error.__dict__)


def test_kinds() -> None:
    assert {type(error).__name__ for error, _ in ERRORS} | {"ConsulLockerError"} == set(errors.__all__)
    assert issubclass(errors.LockTimeout, TimeoutError)
    assert issubclass(errors.InvalidLockId, ValueError)
    assert issubclass(errors.ConfigurationError, ValueError)
    assert all(issubclass(getattr(errors, name), errors.ConsulLockerError) for name in errors.__all__)
