"""arguments: times that callers give."""

from __future__ import annotations

import math
from typing import Any

import pytest

from consul_locker.arguments import seconds
from consul_locker.errors import ConfigurationError


@pytest.mark.parametrize(("given", "limit"), [(None, None), (math.inf, None), (0, 0.0), (1, 1.0), (2.5, 2.5)])
def test_seconds(given: Any, limit: float | None) -> None:
    assert seconds("wait", given) == limit


@pytest.mark.parametrize("given", [-1, -0.1, math.nan, True, "1", b"1", -math.inf])
def test_no_seconds(given: Any) -> None:
    with pytest.raises(ConfigurationError) as refused:
        seconds("wait", given)
    assert refused.value.option == "wait"
