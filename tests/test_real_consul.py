"""How a real agent is started: which options it is given by its version."""

from __future__ import annotations

import pathlib
import stat

import pytest

from .real_consul import ports_off, version_of


def binary(folder: pathlib.Path, says: str) -> str:
    """A program that says which Consul it is, and does nothing else."""
    path = folder / "consul"
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


@pytest.mark.parametrize(
    ("says", "version", "more"),
    [
        ("Consul v1.8.7", "1.8.7", []),
        ("Consul 1.8.7", "1.8.7", []),
        ("Consul v1.13.9", "1.13.9", []),
        ("Consul v1.14.0", "1.14.0", ["-grpc-tls-port", "-1"]),
        ("Consul v1.23.0-dev", "1.23.0-dev", ["-grpc-tls-port", "-1"]),
        ("Consul v2.0.0", "2.0.0", ["-grpc-tls-port", "-1"]),
    ],
)
def test_the_port_for_grpc_over_tls_is_turned_off_where_it_is_known(
    tmp_path: pathlib.Path, says: str, version: str, more: list[str]
) -> None:
    path = binary(tmp_path, says)
    assert version_of(path) == version
    assert ports_off(path) == ["-dns-port", "-1", "-grpc-port", "-1", *more]


def test_a_program_that_does_not_say_what_it_is(tmp_path: pathlib.Path) -> None:
    with pytest.raises(RuntimeError, match="which version"):
        version_of(binary(tmp_path, "something else"))
