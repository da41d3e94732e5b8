"""UUIDs as ids, the date of a grant, a repr that is never long, certificates by the path of their file."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from consul_locker import AlreadyLocked, ConfigurationError, InvalidLockId, LockerFactory, LockInfo, SessionInfo
from consul_locker.config.options import ClientOptions
from consul_locker.keys import check_id
from consul_locker.lease import BaseLease, SessionLife
from consul_locker.models import FACT_SHOWN

ORDER = UUID("12345678-1234-5678-1234-567812345678")
PEM = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"


@pytest.fixture
def factory() -> Iterator[LockerFactory]:
    with LockerFactory.embedded() as factory:
        yield factory


def test_a_uuid_and_its_text_are_one_lock(factory: LockerFactory) -> None:
    locker = factory.create("orders", default_timeout=30)
    lease = locker.lock(ORDER)
    assert lease.id == str(ORDER) == "12345678-1234-5678-1234-567812345678"
    assert locker.lock(str(ORDER)) is lease
    assert locker.info(ORDER) is not None
    assert locker.release(ORDER)
    with locker.hold(ORDER), pytest.raises(AlreadyLocked):
        locker.lock(str(ORDER))
    with locker.hold_many([ORDER, 7]) as leases:
        assert [one.id for one in leases] == [str(ORDER), "7"]


class Text(str):
    """A text of a user's own, which prints as another."""

    def __str__(self) -> str:
        return "text"


class Number(int):
    """A number that prints as its name."""

    def __str__(self) -> str:
        return "seven"


@pytest.mark.parametrize(("id", "text"), [(ORDER, str(ORDER)), (Text("a"), "text"), (Number(7), "7"), (7, "7")])
def test_ids_as_text(id: Any, text: str) -> None:
    assert check_id(id) == text


@pytest.mark.parametrize("id", [True, ORDER.bytes, None, 1.0])
def test_no_ids(id: Any) -> None:
    with pytest.raises(InvalidLockId, match="a str or an int, or a UUID"):
        check_id(id)


def test_the_date_of_a_grant_is_as_long_ago_as_the_lockers_clock_says() -> None:
    lease = BaseLease("a", SessionLife(1, "5e55", 2000.0, "n", lambda: 1060.0), 7, 1000.0, False)
    before = datetime.now(timezone.utc)
    found = lease.acquired_time
    after = datetime.now(timezone.utc)
    assert before <= found + timedelta(seconds=60) <= after
    assert found.tzinfo is timezone.utc


def test_a_repr_is_short_whatever_a_stranger_wrote() -> None:
    value = "x" * 500_000
    session = SessionInfo("5e55", value, "node", None, 0.0, "release", (), 1)
    info = LockInfo("a", "n/a/lock", None, value, 7, 1, 0, session)
    assert len(repr(info)) < 4 * FACT_SHOWN
    assert f"value='{value[: FACT_SHOWN - 1]}… (499490 characters more), fence=7" in repr(info)
    assert info.value == value
    plain = LockInfo("a", "n/a/lock", "5e55", {"pid": 1}, 7, 1)
    assert repr(plain) == (
        "LockInfo(id='a', key='n/a/lock', session_id='5e55', value={'pid': 1}, fence=7, lock_index=1, flags=0, "
        "session=None)"
    )


@pytest.mark.parametrize("kind", [str, Path])
def test_ca_by_its_path(tmp_path: Path, kind: Any) -> None:
    file = tmp_path / "ca.pem"
    file.write_text(PEM)
    options = ClientOptions.build(ca=kind(file), environ={"CONSUL_CACERT": "/other", "CONSUL_CAPATH": "/others"})
    assert (options.ca, options.cafile, options.capath) == ((), str(file), None)


class BytesPath:
    """A path in bytes, which nothing else here takes."""

    def __fspath__(self) -> bytes:
        return b"/"


@pytest.mark.parametrize("ca", ["/no/such/ca.pem", Path("/no/such/ca.pem"), Path("/"), "a\0b", BytesPath()])
def test_a_path_without_a_file(ca: Any) -> None:
    with pytest.raises(ConfigurationError, match="no such file") as refused:
        ClientOptions.build(ca=ca, environ={})
    assert refused.value.option == "ca"
