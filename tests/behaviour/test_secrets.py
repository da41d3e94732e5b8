"""A token never appears in a log, a repr or an error; every error can be pickled."""

from __future__ import annotations

import copy
import io
import logging
import pickle
import traceback
from pathlib import Path
from typing import Any

import pytest

from consul_locker import AlreadyLocked, ConfigurationError, ConsulLockerError

from .faces import bare
from .tools import WAIT, Gate

TOKEN = "sentinel-5f0c9f5e-token"


@pytest.mark.parametrize("source", ["argument", "file", "callable"])
def test_the_token_stays_secret(
    face: Any,
    gate: Gate,
    name: str,
    source: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    texts: list[str] = []
    options: dict[str, Any] = {"argument": {"token": TOKEN}, "callable": {"token": lambda: TOKEN}, "file": {}}[source]
    if source == "file":
        (tmp_path / "token").write_text(TOKEN)
        monkeypatch.setenv("CONSUL_HTTP_TOKEN_FILE", str(tmp_path / "token"))
    with face.factory(gate.address, **options) as factory:
        locker = factory.create(name, retry_interval=lambda number: 0.05, max_retries=3, outage_timeout=0)
        # A real agent without ACLs takes any token; that it was sent is what the gate sees.
        future = locker.submit_lock("a")
        future.exception(WAIT)
        headers = [(key.lower(), value) for seen in gate.seen for key, value in seen.headers]
        assert ("x-consul-token", TOKEN) in headers
        gate.shut()
        for call in (locker.info, locker.release, locker.lock):
            try:
                call("b")
            except ConsulLockerError as error:
                texts += [str(error), repr(error), repr(vars(error)), "".join(traceback.format_exception(error))]
        texts += [repr(bare(factory)), repr(bare(locker)), repr(locker.held), repr(locker.stats())]
        texts += [repr(bare(factory)._client), str(vars(bare(factory))), str(vars(bare(locker)))]
        gate.open()
    try:
        face.factory(gate.address, token=TOKEN + "\n")
    except ConfigurationError as error:
        texts += [str(error), repr(error), repr(error.value)]
    else:
        raise AssertionError("a token with a line break is refused")
    formatter = logging.Formatter("%(message)s %(args)s")
    texts += [formatter.format(record) for record in caplog.records]
    assert texts
    assert not [text for text in texts if TOKEN in text]
    assert not any(TOKEN in seen.path for seen in gate.seen)


def test_errors_from_a_real_refusal_can_be_pickled(locker: Any, rival: Any) -> None:
    rival.lock("a")
    with pytest.raises(AlreadyLocked) as denied:
        locker.lock("a")
    for again in (pickle.loads(pickle.dumps(denied.value)), copy.deepcopy(denied.value)):
        assert type(again) is AlreadyLocked
        assert str(again) == str(denied.value)
        assert again.holder == denied.value.holder
    output = io.BytesIO()
    pickle.dump(denied.value, output)
    assert output.tell()
