"""Checks of arguments that many calls have."""

from __future__ import annotations

import math

from .errors import ConfigurationError

__all__ = [
    "seconds",
]


def seconds(option: str, value: float | None) -> float | None:
    """Check an argument that is a time limit: seconds, 0 or more, or None for no limit.

    Args:
        option: the argument's name, for the error.
        value: the argument.

    Returns:
        The limit in seconds; None for no limit (also for infinity).

    Raises:
        ConfigurationError: it is anything else.
    """
    if value is None or (type(value) is float and 0.0 <= value < math.inf):  # as most are
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value) or value < 0:
        raise ConfigurationError(option, value, "seconds, 0 or more, or None")
    return None if value == math.inf else float(value)
