"""The server's certificate: looked at before anything starts."""

from __future__ import annotations

import os
import ssl

from positronic.errors import PositronicError

NO_PASSWORD = ""  # OpenSSL would ask the terminal for it


def check_tls(certificate: str | None, key: str | None) -> ssl.SSLContext | None:
    """What encrypts, from files with a certificate chain and its private key, in PEM; None without them.

    Raises PositronicError when one of them is missing, cannot be read or is something else, or when they are no pair.
    """
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        typed, missing = ("tls_cert", "tls_key") if key is None else ("tls_key", "tls_cert")
        raise PositronicError(f"server.{typed} counts only with server.{missing}=<file>. Type both, or neither.")
    for name, path in (("tls_cert", certificate), ("tls_key", key)):
        if not (os.path.isfile(path) and os.access(path, os.R_OK)):
            raise PositronicError(f"server.{name}={path}: expected a file on this machine that can be read, in PEM.")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, lambda: NO_PASSWORD)
    except ssl.SSLError as error:
        raise PositronicError(
            f"server.tls_cert={certificate} and server.tls_key={key}: expected a certificate and its own private key, "
            f"in PEM and without a password, found something else ({error.reason or 'not PEM'})."
        ) from None
    return context
