"""client/tls: certificates and names, the server's and the client's."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme

from consul_locker.client import credentials
from consul_locker.client.tls import tls_context
from consul_locker.config.options import ClientOptions
from consul_locker.errors import ConfigurationError

from .certificates import Certificates, secure
from .drivers import Make, failure
from .servers import OK, PUT, Server, answering, patient, silent


def test_tls(make: Make, certificates: Certificates) -> None:
    with Server(patient, context=certificates.server("127.0.0.1")) as server:
        driver = make(secure(server.port, ca=[certificates.pem]))
        for _ in range(3):
            assert driver.send(PUT).status == 200
        assert server.accepted <= 2  # session tickets that come late may cost one connection
        assert make(secure(server.port, {"CONSUL_CACERT": str(certificates.file)})).send(PUT).status == 200


def test_a_handshake_that_is_not_answered_ends_in_time(make: Make) -> None:
    with Server(silent) as server:
        error = failure(make(secure(server.port)), PUT, 0.3)
        assert not error.sent


def test_certificates_that_cannot_be_used(certificates: Certificates, tmp_path: Path) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_text("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n")
    for kwargs in ({"ca": [broken.read_text()]}, {"environ": {"CONSUL_CACERT": str(broken)}}):
        with pytest.raises(ConfigurationError):
            tls_context(secure(1, **kwargs))
    with pytest.raises(ConfigurationError) as caught:
        tls_context(secure(1, cert=certificates.cert, key=broken))
    assert caught.value.option == "cert"
    assert "key=" not in str(caught.value)
    with pytest.raises(ConfigurationError, match=r"without a key .* the file must hold it as well") as caught:
        tls_context(secure(1, cert=certificates.file))
    assert caught.value.option == "cert"


# -------------------------------------------------------------------------------- files that change


def told(caplog: pytest.LogCaptureFixture) -> int:
    return caplog.text.count("the last ones are kept")


def test_files_that_have_changed_are_read_again_for_new_connections(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old, new = Certificates(tmp_path), trustme.CA()
    both = new.issue_cert("127.0.0.1")
    theirs = new.issue_cert("client.example")
    strict = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    both.configure_cert(strict)
    strict.verify_mode = ssl.CERT_REQUIRED
    new.configure_trust(strict)
    with Server(answering(OK), context=old.server("127.0.0.1", client=True)) as server:  # one answer each
        driver = make(
            secure(server.port, {"CONSUL_CACERT": str(old.file)}, cert=str(old.cert), key=str(old.key))
        )
        assert driver.send(PUT).status == 200
        server.context = strict
        assert failure(driver, PUT).option == "ca"
        new.cert_pem.write_to_path(str(old.file))
        old.cert.write_bytes(theirs.cert_chain_pems[0].bytes()[:200])  # half of it
        for _ in range(2):
            failure(driver, PUT)
        assert told(caplog) == 1
        theirs.cert_chain_pems[0].write_to_path(str(old.cert))  # whole; the key is another's yet
        failure(driver, PUT)
        assert told(caplog) == 1
        theirs.private_key_pem.write_to_path(str(old.key))
        assert driver.send(PUT).status == 200
        old.file.unlink()
        for _ in range(2):
            assert driver.send(PUT).status == 200
        assert told(caplog) == 2
        assert "PRIVATE" not in caplog.text


def test_files_that_have_not_changed_are_not_read_again(
    make: Make, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[ClientOptions] = []
    monkeypatch.setattr(credentials, "tls_context", lambda options: made.append(options) or tls_context(options))
    with Server(answering(OK), context=certificates.server("127.0.0.1")) as server:
        driver = make(secure(server.port, {"CONSUL_CACERT": str(certificates.file)}))
        for _ in range(3):
            assert driver.send(PUT).status == 200
    assert server.accepted == 3
    assert len(made) == 1
