"""Options as their tests look at them."""

from __future__ import annotations

from typing import Any

import pytest

from consul_locker.config.options import ClientOptions
from consul_locker.errors import ConfigurationError

PEM = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"


def client(*args: Any, env: dict[str, str] | None = None, **options: Any) -> ClientOptions:
    return ClientOptions.build(*args, environ=env or {}, **options)


def place(options: ClientOptions) -> tuple[Any, ...]:
    if options.unix_path is not None:
        return (options.unix_path,)
    return options.scheme, options.host, options.port


def refused(option: str, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        client(*args, **kwargs)
    assert caught.value.option == option
    assert option in str(caught.value)
    return str(caught.value)
