"""client/debug: the log of requests."""

from __future__ import annotations

import logging
import re
from typing import Any

import pytest

from ..behaviour.tools import WAIT
from .servers import Server, answering


def test_requests_are_logged_without_secrets(
    face: Any, agent: Any, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    def lines() -> list[str]:
        return [record.getMessage() for record in caplog.records if record.name == "consul_locker.http"]

    caplog.set_level(logging.INFO, "consul_locker.http")
    with face.factory(agent.address, token="very-secret") as factory:
        factory.create(name).lock("a")
    assert lines() == []
    caplog.set_level(logging.DEBUG, "consul_locker.http")
    with face.factory(agent.address, token="very-secret") as factory:
        locker = factory.create(name, value={"password": "in-the-value"})
        locker.lock("a")
        locker.holder("a")
    told = "\n".join(lines())
    for words in (
        r"^session create: PUT /v1/session/create: 200, \d+ bytes; \d+\.\d ms$",
        r"^transaction: PUT /v1/txn: 200, \d+ bytes; \d+\.\d ms$",
        r"^kv get: PUT /v1/txn\?consistent=1: 200, ",
        r"^session destroy: PUT /v1/session/destroy/[0-9a-f-]+: 200, ",
    ):
        assert re.search(words, told, re.MULTILINE), (words, told)
    assert "very-secret" not in told
    assert "in-the-value" not in told


def test_a_failure_is_logged(face: Any, name: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "consul_locker.http")
    with Server(answering()) as server, face.factory(f"127.0.0.1:{server.port}") as factory:
        assert factory.create(name).wait_for_state("paused", WAIT)
    told = [record.getMessage() for record in caplog.records if record.name == "consul_locker.http"]
    assert any("session create: no answer from Consul at http" in line for line in told), told


def test_a_handler_that_raises_harms_nobody(face: Any, agent: Any, name: str) -> None:
    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise ValueError("the disk is full")

    logger, broken = logging.getLogger("consul_locker.http"), Broken()
    logger.addHandler(broken)
    logger.setLevel(logging.DEBUG)
    try:
        with face.factory(agent.address) as factory:
            assert factory.create(name).lock("a").valid
    finally:
        logger.setLevel(logging.NOTSET)
        logger.removeHandler(broken)
