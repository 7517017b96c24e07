"""The certificate chain that a CA gives, and the choice among several (RFC 8555 §7.4.2).

Owns which of the chains on offer is taken. Whether it may be stored is checked by the caller.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.x509.oid import NameOID

from acmeistio.acme.session import Post, Reply
from acmeistio.errors import AcmeistioError

MAX_ALTERNATES = 5
"""Let's Encrypt offers three at most; each costs a request."""


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain (PEM, leaf first) as the CA gave it.

    `is_preferred` is false where another was wanted and the CA offers none such.
    """

    pem: bytes = field(repr=False)
    is_preferred: bool


async def download(post: Post, url: str, preferred: str | None) -> Chain:
    """The chain whose topmost certificate was issued by the common name `preferred`.

    Else, and without a preference, the CA's default.
    """
    default = await post(url, None)
    if preferred is None or _leads_to(default.body, preferred):
        return Chain(default.body, is_preferred=True)
    async for pem in _alternates(post, default):
        if _leads_to(pem, preferred) and _leaf(pem) == _leaf(default.body):
            return Chain(pem, is_preferred=True)
    return Chain(default.body, is_preferred=False)


async def _alternates(post: Post, default: Reply) -> AsyncIterator[bytes]:
    """The other chains. One that can't be got is not on offer: the default is in hand."""
    for url in default.links.get("alternate", ())[:MAX_ALTERNATES]:
        try:
            reply = await post(url, None)
        except AcmeistioError:
            continue
        yield reply.body


def _leads_to(pem: bytes, name: str) -> bool:
    for topmost in _certificates(pem)[-1:]:
        names = topmost.issuer.get_attributes_for_oid(NameOID.COMMON_NAME)
        return name in [each.value for each in names]
    return False


def _leaf(pem: bytes) -> x509.Certificate | None:
    return next(iter(_certificates(pem)), None)


def _certificates(pem: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        return []
