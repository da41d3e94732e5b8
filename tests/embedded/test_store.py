"""The store by itself."""

from __future__ import annotations

from consul_locker.embedded.store import Store


def test_the_store_needs_nobody_to_tell_the_time_but_its_caller() -> None:
    ids = iter(["00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002"])
    store = Store(node="here", new_id=lambda: next(ids))
    first = store.create_session(0.0, ttl=10.0)
    second = store.create_session(5.0, ttl=10.0)
    assert store.next_expiry() == 20.0
    store.renew_session(first, 6.0)
    assert store.next_expiry() == 25.0
    assert store.expire(24.9) == 0
    assert store.expire(1000.0) == 2
    assert store.next_expiry() is None
    assert store.find_session(second.id) is None
    changes = store.take_changes()
    assert changes is not None
    assert changes.sessions == {first.id, second.id}
    assert store.take_changes() is None
