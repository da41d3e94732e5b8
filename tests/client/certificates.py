"""Certificates for the tests of TLS, and options that use them."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import trustme

from consul_locker.config.options import ClientOptions


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


def secure(port: int | None, environ: dict[str, str] | None = None, **changes: Any) -> ClientOptions:
    return ClientOptions.build("127.0.0.1", port, True, environ=environ or {}, **changes)
