"""What is checked of a Locker's options that are neither numbers nor names: checks, strategy, value."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import ConfigurationError
from ..strategies import Strategy

__all__ = ["check_ids", "check_strategy", "json_mapping"]

#: The entries that the Locker itself writes into a lock's value: its holder, and the number of the tenure
#: (docs/safety.rst, rule 4). A user's entry of the same name would replace it, and the value would be wrong.
OWN_ENTRIES = ("pid", "host", "name", "tenure")

#: The largest value of a lock, in bytes of JSON. A transaction carries about 512 KB, a third more than
#: its values because of base64, and each batch is limited to this much.
MAX_VALUE_BYTES = 256 * 1024


def check_ids(checks: object) -> tuple[str, ...]:
    """The ids of health checks, as a tuple."""
    if isinstance(checks, (str, bytes, Mapping)) or not isinstance(checks, Iterable):
        raise ConfigurationError("checks", checks, "a list of the ids of health checks, or None")
    ids = tuple(checks)
    if not all(isinstance(id, str) and id for id in ids):
        raise ConfigurationError("checks", checks, "a list of the ids of health checks, each a str that is not empty")
    return ids


def check_strategy(strategy: Strategy) -> Strategy:
    """The strategy, when it has what one must have."""
    wanted = ("keeps", "serves")
    if (
        isinstance(strategy, type)
        or not all(callable(getattr(strategy, name, None)) for name in wanted)
        or not hasattr(strategy, "shares_in_flight")
    ):
        raise ConfigurationError(
            "strategy", strategy, "an object with keeps(lease), serves(lease, now) and shares_in_flight, or None"
        )
    return strategy


def json_mapping(value: object) -> dict[str, Any]:
    """A copy of the mapping as JSON keeps it, so that later changes of the original do nothing."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ConfigurationError("value", value, "a mapping with str keys, or None")
    try:
        text = json.dumps(dict(value), allow_nan=False)
        copy: dict[str, Any] = json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigurationError("value", value, f"a mapping that JSON can carry: {error}") from None
    for entry in OWN_ENTRIES:
        if entry in copy:
            raise ConfigurationError("value", f"({entry!r} in it)", f"a mapping without {', '.join(OWN_ENTRIES)}")
    if len(text) > MAX_VALUE_BYTES:
        raise ConfigurationError("value", f"({len(text)} bytes)", f"at most {MAX_VALUE_BYTES} bytes of JSON")
    return copy
