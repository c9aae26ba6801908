"""The client's side of TLS: whom it trusts, and what a refusal means."""

from __future__ import annotations

import ssl

from positronic.errors import PositronicError

PLAIN = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST")  # what OpenSSL says when the other side answers without TLS


def trusting(tls: bool, ca_file: str | None) -> ssl.SSLContext | None:
    """For servers whose certificate this machine trusts, or only those whose certificate is in ``ca_file`` or signed by
    one that is. None without ``tls``.

    Raises PositronicError when the file cannot be read or holds no certificates, or when it comes without ``tls``.
    """
    if not tls:
        if ca_file is not None:
            raise PositronicError("policy.tls_ca counts only with policy.tls=true. Type that too, or leave it out.")
        return None
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        found = "something else" if isinstance(error, ssl.SSLError) else str(error.strerror)
        raise PositronicError(
            f"policy.tls_ca={ca_file}: expected a file with certificates in PEM, found: {found}. Take a copy of the "
            "server's server.tls_cert, or the certificate of the authority that has signed it."
        ) from None


def describe(error: ssl.SSLError) -> str:
    """Why no encrypted connection came about, and what to type."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"its certificate is not trusted here: {error.verify_message}. Type policy.tls_ca=<file with that "
            "certificate or its authority's>, and as policy.host a name that the certificate is for."
        )
    if error.reason in PLAIN:
        return "there is a server, but it speaks without TLS. Leave policy.tls out, or check policy.port."
    return f"no encrypted connection: {error.reason or error}. Check policy.tls and policy.port."
