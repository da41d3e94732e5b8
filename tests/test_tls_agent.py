"""TLS with a real Consul: what works, and that each mistake is told at once, with the option that mends it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from consul_locker import ConsulUnavailable

from .behaviour.tools import WAIT
from .tls_agent import NAME, Certificates, TlsConsul

#: One worker has them all, so that the agent is started once.
pytestmark = pytest.mark.xdist_group("tls")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def agent(consul_binary: str, certificates: Certificates) -> Iterator[TlsConsul]:
    with TlsConsul(consul_binary, certificates) as agent:
        yield agent


def served(face: Any, address: str, **options: Any) -> None:
    with face.factory(address, **options) as factory:
        locker = factory.create("tls")
        lease = locker.lock("a")
        assert lease.valid
        assert locker.release("a")


def test_it_works(face: Any, agent: TlsConsul, certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = {"cert": certificates.cert, "key": certificates.key}
    address = f"https://127.0.0.1:{agent.https_port}"
    served(face, address, ca=certificates.ca, **pair)
    served(face, address, verify=False, **pair)
    monkeypatch.setenv("CONSUL_CACERT", certificates.ca)
    monkeypatch.setenv("CONSUL_CLIENT_CERT", certificates.cert)
    monkeypatch.setenv("CONSUL_CLIENT_KEY", certificates.key)
    monkeypatch.setenv("CONSUL_TLS_SERVER_NAME", NAME)
    served(face, address)


#: What is done wrong: the options (of the address 127.0.0.1 at the HTTPS port), the option that the error names, and
#: words of it.
MISTAKES: dict[str, tuple[dict[str, Any], str, str]] = {
    "no client certificate": ({"ca": "ca"}, "cert", "wants a client certificate .*; give one with cert= and key="),
    "a stranger's client certificate": (
        {"ca": "ca", "cert": "other_cert", "key": "other_key"},
        "cert",
        r"refuses the client certificate \S+other.pem",
    ),
    "no CA": ({"cert": "cert", "key": "key"}, "ca", "a CA that this system does not trust .* with ca="),
    "an unknown CA": ({"ca": "other_ca", "cert": "cert", "key": "key"}, "ca", "a CA that what ca= .* does not trust"),
    "a wrong name": (
        {"ca": "ca", "cert": "cert", "key": "key", "host": "localhost"},
        "host",
        r"has another name \(.*'localhost'.*CONSUL_TLS_SERVER_NAME",
    ),
    "plain HTTP to the HTTPS port": ({"secure": False}, "secure", "wants HTTPS, not plain HTTP; .*secure=True"),
    "HTTPS to the plain port": ({"ca": "ca", "port": 0}, "secure", "does not speak TLS; .*secure=False"),
}


@pytest.mark.parametrize("mistake", list(MISTAKES))
def test_a_mistake_is_told_at_once(face: Any, agent: TlsConsul, certificates: Certificates, mistake: str) -> None:
    options, option, words = MISTAKES[mistake]
    given = {name: getattr(certificates, value) if isinstance(value, str) and name != "host" else value
             for name, value in options.items()}  # fmt: skip
    host, port = given.pop("host", "127.0.0.1"), given.pop("port", agent.https_port) or agent.port
    given.setdefault("secure", True)
    with face.factory(host, port=port, **given) as factory:
        locker = factory.create("tls")
        calls = [locker.submit_lock("a"), locker.submit_lock("b", wait=None)]  # in the buffer
        for call in calls:
            with pytest.raises(ConsulUnavailable, match=words) as told:
                call.result(WAIT)
            assert told.value.option == option
            assert not told.value.sent
        with pytest.raises(ConsulUnavailable, match=words):  # and one that comes later
            locker.lock("a", wait=None)
        scheme = "https" if given["secure"] else "http"
        assert re.search(rf"{scheme}://{host}:{port}|status 400", str(told.value))
