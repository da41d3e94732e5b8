"""What TLS needs. Python's ``ssl`` is imported only where it is used: that takes 10 ms."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..config.options import ClientOptions
from ..errors import ConfigurationError

if TYPE_CHECKING:
    import ssl

__all__ = ["closed_in_handshake", "is_alert", "server_name", "tls_context"]


def tls_context(options: ClientOptions) -> ssl.SSLContext | None:
    """What TLS needs, or None if no address has it. Reads the certificates' files.

    Raises:
        ConfigurationError: a certificate or key cannot be used.
    """
    if all(one.scheme != "https" for one in options.each):
        return None
    import ssl

    try:
        context = ssl.create_default_context(
            cafile=options.cafile, capath=options.capath, cadata="\n".join(options.ca) or None
        )
    except (ssl.SSLError, ValueError) as error:
        source, value = ("ca", "(PEM)") if options.ca else ("CONSUL_CACERT", options.cafile)
        raise ConfigurationError(source, value, f"these certificates cannot be used: {error}") from error
    if options.cert is not None:
        try:
            context.load_cert_chain(options.cert, options.key)
        except (OSError, ValueError) as error:
            hint = "" if options.key else "; without a key (key=, CONSUL_CLIENT_KEY) the file must hold it as well"
            raise ConfigurationError(
                "cert", options.cert, f"this certificate and its key cannot be used: {error}{hint}"
            ) from error
    if not options.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])  # else a server may choose HTTP/2
    return context


def server_name(options: ClientOptions) -> str:
    """The name that the server's certificate must have."""
    return options.server_name or options.host.partition("%")[0]


def closed_in_handshake(error: Exception) -> bool:
    """Whether a connection failed because the server closed it before the handshake was over."""
    import ssl

    return isinstance(error, (ConnectionResetError, ssl.SSLEOFError))


def is_alert(error: Exception) -> bool:
    """Whether the peer said, in TLS's way, why it closed the connection."""
    return "ALERT" in (getattr(error, "reason", None) or "")
