"""The proxy of these tests: a plan of rules decides over each request, the same way in every run."""

from __future__ import annotations

import pytest

from ..behaviour.tools import Consul
from .conftest import embedded_only
from .proxy import NO_LEADER, OVER_READ_RATE, Fate, Proxy, to

pytestmark = embedded_only

READ = to("GET", "/v1/kv/")


def test_so_many_of_so_many_evenly_spread(proxy: Proxy) -> None:
    rule = proxy.arrange(Fate.REFUSED, READ, forged=OVER_READ_RATE, of=(3, 5))
    consul = Consul(proxy.address)
    statuses = [consul.call("GET", "/v1/kv/missing")[0] for _ in range(10)]
    assert statuses == [404, 429, 404, 429, 429, 404, 429, 404, 429, 429]
    assert (rule.met, rule.passed) == (6, 4)


def test_rules_in_a_row_are_a_script(proxy: Proxy) -> None:
    proxy.arrange(Fate.REFUSED, READ, 2, NO_LEADER)
    dropped = proxy.arrange(Fate.NEVER, READ, 1)
    proxy.arrange(Fate.REFUSED, READ, 1, OVER_READ_RATE)
    consul = Consul(proxy.address)
    assert [consul.call("GET", "/v1/kv/missing") for _ in range(2)] == [(500, "No cluster leader")] * 2
    with pytest.raises(ConnectionError):
        consul.call("GET", "/v1/kv/missing")
    dropped.wait()
    assert [consul.call("GET", "/v1/kv/missing")[0] for _ in range(2)] == [429, 404]
