"""client/tls: certificates and names, the server's and the client's."""

from __future__ import annotations

import datetime as dt
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme

from consul_locker.client import credentials
from consul_locker.client.tls import tls_context
from consul_locker.config.options import ClientOptions
from consul_locker.errors import ConfigurationError

from .drivers import Make, failure
from .servers import OK, PUT, Script, Server, answering, options, patient, silent


class Certificates:
    """An authority, a server's context and a client's files, all made for one test run."""

    def __init__(self, folder: Path) -> None:
        self.ca = trustme.CA()
        self.pem = self.ca.cert_pem.bytes().decode()
        self.file = folder / "ca.pem"
        self.file.write_text(self.pem)
        client = self.ca.issue_cert("client.example")
        self.cert, self.key = folder / "cert.pem", folder / "key.pem"
        self.cert.write_bytes(client.cert_chain_pems[0].bytes())
        self.key.write_bytes(client.private_key_pem.bytes())

    def server(self, *names: str, client: bool = False) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ca.issue_cert(*names).configure_cert(context)
        if client:
            context.verify_mode = ssl.CERT_REQUIRED
            self.ca.configure_trust(context)
        return context


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("tls"))


def secure(port: int | None, environ: dict[str, str] | None = None, **changes: Any) -> ClientOptions:
    return ClientOptions.build("127.0.0.1", port, True, environ=environ or {}, **changes)


def greeted(answer: bytes) -> Script:
    """A server's script: an answer to the beginning of a handshake."""

    def script(sock: socket.socket) -> None:
        sock.recv(65_536)
        sock.sendall(answer)

    return script


def test_tls(make: Make, certificates: Certificates) -> None:
    with Server(patient, context=certificates.server("127.0.0.1")) as server:
        driver = make(secure(server.port, ca=[certificates.pem]))
        for _ in range(3):
            assert driver.send(PUT).status == 200
        assert server.accepted <= 2  # session tickets that come late may cost one connection
        assert make(secure(server.port, {"CONSUL_CACERT": str(certificates.file)})).send(PUT).status == 200


def test_tls_trusts_nobody_else(make: Make, certificates: Certificates) -> None:
    with Server(patient, context=certificates.server("127.0.0.1")) as server:
        ours, other = make(secure(server.port)), make(secure(server.port, ca=trustme.CA().cert_pem.bytes().decode()))
        for driver, words in ((ours, "this system does"), (other, "what ca= or CONSUL_CACERT gives")):
            error = failure(driver, PUT)
            assert not error.sent
            assert error.option == "ca"
            assert f"signed by a CA that {words}" in str(error)
        unchecked = secure(server.port, {"CONSUL_HTTP_SSL_VERIFY": "false"})
        assert make(unchecked).send(PUT).status == 200


def test_tls_wants_the_right_name(make: Make, certificates: Certificates) -> None:
    with Server(patient, context=certificates.server("server.dc1.consul")) as server:
        error = failure(make(secure(server.port, ca=[certificates.pem])), PUT)
        assert (error.option, error.sent) == ("host", False)
        assert "CONSUL_TLS_SERVER_NAME" in str(error)
        named = secure(server.port, {"CONSUL_TLS_SERVER_NAME": "server.dc1.consul"}, ca=[certificates.pem])
        assert make(named).send(PUT).status == 200


def test_tls_with_a_client_certificate(make: Make, certificates: Certificates) -> None:
    with Server(patient, context=certificates.server("127.0.0.1", client=True)) as server:
        driver = make(secure(server.port, ca=[certificates.pem], cert=certificates.cert, key=certificates.key))
        assert driver.send(PUT).status == 200
        error = failure(make(secure(server.port, ca=[certificates.pem])), PUT)
        assert (error.option, error.sent) == ("cert", False)
        assert "wants a client certificate" in str(error)
        cert = certificates.file.with_name("other.pem")
        cert.write_bytes(trustme.CA().issue_cert("client.example").private_key_and_cert_chain_pem.bytes())
        error = failure(make(secure(server.port, ca=[certificates.pem], cert=cert)), PUT)
        assert (error.option, error.sent) == ("cert", False)
        assert f"refuses the client certificate {cert}" in str(error)


def test_a_client_certificate_is_wanted_before_tls_1_3(make: Make, certificates: Certificates) -> None:
    context = certificates.server("127.0.0.1", client=True)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with Server(patient, context=context) as server:
        error = failure(make(secure(server.port, ca=[certificates.pem])), PUT)
        assert (error.option, error.sent) == ("cert", False)


def test_a_certificate_that_is_over(make: Make, certificates: Certificates) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    long_ago = dt.datetime(2000, 1, 1, tzinfo=dt.timezone.utc)
    certificates.ca.issue_cert("127.0.0.1", not_after=long_ago, not_before=long_ago).configure_cert(context)
    with Server(patient, context=context) as server:
        error = failure(make(secure(server.port, ca=[certificates.pem])), PUT)
        assert (error.option, error.sent) == ("verify", False)
        assert "certificate has expired" in str(error)


def test_tls_to_a_server_without_it(make: Make, certificates: Certificates) -> None:
    with Server(greeted(b"HTTP/1.0 400 Bad Request\r\n\r\n")) as server:
        error = failure(make(secure(server.port, ca=[certificates.pem])), PUT)
        assert (error.option, error.sent) == ("secure", False)
        assert "does not speak TLS" in str(error)


def test_what_is_no_mistake_of_the_user(make: Make, certificates: Certificates) -> None:
    """A handshake that fails without a reason that says whose fault it is."""
    with Server(greeted(b"\x15\x03\x03\x00\x02\x02\x50")) as server:  # the alert "internal error"
        error = failure(make(secure(server.port, ca=[certificates.pem])), PUT)
        assert error.option is None
        assert "no connection to Consul" in str(error)


def test_plain_http_to_tls_that_answers_with_an_alert(make: Make) -> None:
    with Server(answering(b"\x15\x03\x03\x00\x02\x02\x46")) as server:
        error = failure(make(server), PUT)
        assert error.option == "secure"
        assert "it wants HTTPS" in str(error)


def test_an_address_where_nobody_listens(make: Make) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        error = failure(make(options(port)), PUT)
    assert error.option is None
    assert str(error).startswith(f"transaction: connection refused at http://127.0.0.1:{port} (is an agent listening")


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
