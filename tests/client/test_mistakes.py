"""client/mistakes: what time alone does not mend, and the option that does."""

from __future__ import annotations

import datetime as dt
import socket
import ssl

import trustme

from .certificates import Certificates, secure
from .drivers import Make, failure
from .servers import PUT, Script, Server, answering, options, patient


def greeted(answer: bytes) -> Script:
    """A server's script: an answer to the beginning of a handshake."""

    def script(sock: socket.socket) -> None:
        sock.recv(65_536)
        sock.sendall(answer)

    return script


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
