"""A real Consul agent that also answers HTTPS, and wants client certificates there."""

from __future__ import annotations

import pathlib

import trustme

from .real_consul import RealConsul, free_ports

__all__ = ["NAME", "Certificates", "TlsConsul"]

#: The only name in the agent's certificate.
NAME = "server.dc1.consul"

_CONFIGURATION = """
ports {{ https = {port} }}
ca_file = "{ca}"
cert_file = "{cert}"
key_file = "{key}"
verify_incoming = true
verify_outgoing = true
"""


class Certificates:
    """An authority, and certificates of it and of another one, as files in a folder."""

    def __init__(self, folder: pathlib.Path) -> None:
        self._folder = folder
        authority, another = trustme.CA(), trustme.CA()
        self.ca = self._file("ca", authority.cert_pem)
        self.other_ca = self._file("other-ca", another.cert_pem)
        self.server_cert, self.server_key = self._pair("server", authority.issue_cert(NAME, "127.0.0.1"))
        self.cert, self.key = self._pair("client", authority.issue_cert("client.example"))
        self.other_cert, self.other_key = self._pair("other", another.issue_cert("client.example"))

    def _file(self, name: str, pem: trustme.Blob) -> str:
        path = self._folder / f"{name}.pem"
        path.write_bytes(pem.bytes())
        return str(path)

    def _pair(self, name: str, issued: trustme.LeafCert) -> tuple[str, str]:
        return self._file(name, issued.cert_chain_pems[0]), self._file(f"{name}-key", issued.private_key_pem)


class TlsConsul(RealConsul):
    """One such agent. Its plain port answers, too.

    Attributes:
        https_port: where it wants TLS.
    """

    def __init__(self, binary: str, certificates: Certificates) -> None:
        (self.https_port,) = free_ports(1)
        configuration = _CONFIGURATION.format(
            port=self.https_port, ca=certificates.ca, cert=certificates.server_cert, key=certificates.server_key
        )
        super().__init__(binary, extra=("-hcl", configuration))
