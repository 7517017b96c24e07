"""What a client of the gateway sees, and what lies in the Secret, each as the names it is for."""

from __future__ import annotations

import base64
import socket
import ssl
from typing import Any

from cryptography import x509

from tests.cluster.bed import NAMESPACE, SECRET_NAME, Bed

TIMEOUT_SECONDS = 5.0


def names(bed: Bed, host: str) -> set[str]:
    """The names of the certificate that a host is served with, verified for it by the CA's root.

    Empty where it is not served, or with a placeholder.
    """
    trust = ssl.create_default_context(cafile=str(bed.root))
    place = (bed.gateway.address, bed.gateway.https_port)
    try:
        with (
            socket.create_connection(place, TIMEOUT_SECONDS) as plain,
            trust.wrap_socket(plain, server_hostname=host) as secure,
        ):
            certificate: dict[str, Any] = secure.getpeercert() or {}
    except OSError:
        return set()
    return {name for _, name in certificate["subjectAltName"]}


def stored_names(bed: Bed, name: str = SECRET_NAME) -> set[str]:
    """The names of the certificate of a CA in a Secret; empty for a placeholder."""
    secret = bed.api.find("Secret", NAMESPACE, name)
    if secret is None or "acmeistio.io/placeholder" in secret["metadata"].get("annotations", {}):
        return set()
    leaf = x509.load_pem_x509_certificate(base64.b64decode(secret["data"]["tls.crt"]))
    found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return set(found.value.get_values_for_type(x509.DNSName))
