"""What time alone does not mend when a connection fails: TLS on one side only, or a certificate that a side refuses."""

from __future__ import annotations

import sys
from typing import NamedTuple

from ..config.options import ClientOptions
from .words import NO_TLS

__all__ = ["Mistake", "mistake_in"]

#: How OpenSSL names an answer that is no TLS, of which a plain HTTP server's is one.
_PLAIN = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG", "HTTP_REQUEST")

#: OpenSSL's numbers for a certificate whose signer is not trusted (X509_V_ERR_...): of unknown issuer, self-signed.
_UNKNOWN_SIGNER = (2, 18, 19, 20, 21)
#: And for one that has another name, or another IP address.
_OTHER_NAME = (62, 64)


class Mistake(NamedTuple):
    """What is wrong, and the option that is about it."""

    option: str
    words: str


def mistake_in(options: ClientOptions, error: BaseException | None) -> Mistake | None:
    """The mistake for which a connection failed; None for a failure that may pass.

    Args:
        options: where to, and how.
        error: how it failed.
    """
    ssl = sys.modules.get("ssl")  # not imported: then there was no TLS
    if ssl is None or not isinstance(error, ssl.SSLError):
        return None
    if isinstance(error, ssl.SSLCertVerificationError):
        return _refused_here(options, error.verify_code, error.verify_message)
    reason = error.reason or ""
    if reason.endswith(_PLAIN):
        return Mistake("secure", NO_TLS)
    # What the server said: an alert about the client's certificate (Go's says "bad" for one that is missing, newer ones
    # "required"; OpenSSL's of before TLS 1.3 says no more than that the handshake failed).
    missing = options.cert is None and "HANDSHAKE_FAILURE" in reason
    if "ALERT" in reason and ("CERTIFICATE" in reason or "UNKNOWN_CA" in reason or missing):
        said = reason.rpartition("ALERT_")[2].replace("_", " ").lower()
        if options.cert is None:
            wanted = "give one with cert= and key= (CONSUL_CLIENT_CERT, CONSUL_CLIENT_KEY)"
            return Mistake("cert", f"it wants a client certificate ({said}); {wanted}")
        wanted = "give one that is valid and signed by the CA that Consul trusts (its ca_file)"
        return Mistake("cert", f"it refuses the client certificate {options.cert} ({said}); {wanted}")
    return None


def _refused_here(options: ClientOptions, code: int, said: str) -> Mistake:
    """The mistake when the server's certificate was refused on this side."""
    said = said.rstrip(".")
    if code in _OTHER_NAME:
        return Mistake(
            "host",
            f"its certificate has another name ({said}); give the host as the certificate names it, or that name as "
            f"CONSUL_TLS_SERVER_NAME",
        )
    if code in _UNKNOWN_SIGNER:
        given = options.ca or options.cafile or options.capath
        trusted = "what ca= or CONSUL_CACERT gives does not trust" if given else "this system does not trust"
        return Mistake("ca", f"its certificate is signed by a CA that {trusted} ({said}); give Consul's CA with ca=")
    return Mistake("verify", f"its certificate is not valid ({said}); give Consul another one, or set this clock right")
