"""What Consul refused before doing it leaves no doubt: nothing is looked at for it afterwards."""

from __future__ import annotations

import json
from typing import Any

import pytest

from consul_locker import ConsulUnavailable

from .proxy import ACQUIRE, Answer, Fate, Proxy, Request

pytestmark = pytest.mark.usefixtures("soon")

CALLS = 20
WORDS = [
    (429, b"rate limit exceeded, try again later or against a different server"),
    (503, b"rate limit exceeded for operation that can only be performed by the leader, try again later"),
    (500, b"No cluster leader"),
    (500, b"rpc error making call: No cluster leader"),
    (500, b"rpc error getting client: failed to get conn: dial tcp 127.0.0.1:8300: connect: connection refused"),
]


@pytest.mark.parametrize(("status", "words"), WORDS)
def test_only_what_went_unanswered_is_looked_at(face: Any, proxy: Proxy, name: str, status: int, words: bytes) -> None:
    looks: list[Request] = []

    def look(request: Request) -> bool:
        if request.path.startswith("/v1/txn?consistent"):
            looks.append(request)
            return True
        return False

    with face.factory(proxy.address) as factory:
        locker = factory.create(name, outage_timeout=0)  # so each call has one request
        assert locker.wait_for_state("ready", 30)
        proxy.arrange(Fate.FORGED, ACQUIRE, forged=Answer(status, (), words)).let_go()
        for number in range(CALLS):
            with pytest.raises(ConsulUnavailable, match="has done nothing") as refused:
                locker.lock(number)
            assert not refused.value.sent
        proxy.clear()
        seen = proxy.arrange(Fate.SLOW, look, 1)
        seen.let_go()
        proxy.arrange(Fate.ANSWER_LOST, ACQUIRE, 1)
        with pytest.raises(ConsulUnavailable) as unknown:
            locker.lock("unanswered")
        assert unknown.value.sent
        seen.wait()
    assert [operation["KV"]["Key"] for operation in json.loads(looks[0].body)] == [f"{name}/unanswered/lock"]
