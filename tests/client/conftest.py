"""Makers of transports: most tests run twice, over the blocking transport and over the one for asyncio."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .certificates import Certificates
from .drivers import Asyncio, Blocking, Make, makes


@pytest.fixture(params=[Blocking, Asyncio])
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    """Makes a transport to a server: ``make(server)`` or ``make(options)``."""
    with makes(request.param) as maker:
        yield maker


@pytest.fixture
def make_asyncio() -> Iterator[Make]:
    """The same, for what only the transport for asyncio has: fresh connections and lanes, which renewals need."""
    with makes(Asyncio) as maker:
        yield maker


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("tls"))
