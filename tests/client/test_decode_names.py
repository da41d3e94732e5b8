"""client/decode: lists of names."""

from __future__ import annotations

from typing import Any

import pytest

from consul_locker.client.encode import HttpResponse
from consul_locker.core.requests import NamesRead

from .examples import ALL, answer, plain, unusable

NAMES = ALL[5]


def test_names() -> None:
    assert answer(NAMES, 200, ["writer/1/lock", "writer/é/lock"]) == NamesRead(("writer/1/lock", "writer/é/lock"), 9)
    assert answer(NAMES, 200, []) == NamesRead((), 9)


def test_no_names_are_none_or_hidden_ones() -> None:
    assert answer(NAMES, 404) == NamesRead((), 9)
    unusable(plain.encode(NAMES).decode(HttpResponse(404, {}, b"not Consul's")))


@pytest.mark.parametrize("body", [{}, {"Key": "a"}, "writer/1/lock", [5], [None], [["a"]], 0, "", None])
def test_what_are_no_names(body: Any) -> None:
    unusable(answer(NAMES, 200, body))
