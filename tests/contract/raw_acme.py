"""A client of the bare protocol, for judging CAs: it knows RFC 8555 and nothing of acmeistio.

Signs with acme.jws and josepy; does what it is told, wrong things too, and retries nothing.
"""

from __future__ import annotations

import hmac
import ipaddress
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from acme.jws import JWS
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from josepy.json_util import decode_b64jose, encode_b64jose
from josepy.jwa import ES256
from josepy.jwk import JWKEC

from acmeistio.ports import Http, HttpResponse

Key = ec.EllipticCurvePrivateKey

PROBLEM = "urn:ietf:params:acme:error:"
HEADERS = {"user-agent": "raw-acme/1 contract-suite", "content-type": "application/jose+json"}


@dataclass(frozen=True)
class Answer:
    """A reply of a CA, with what a client looks for in it."""

    response: HttpResponse

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.response.status

    @property
    def json(self) -> Any:
        """The body."""
        return json.loads(self.response.body)

    @property
    def problem(self) -> str:
        """The last part of the problem's type, "" where there is none."""
        kind = self.header("content-type").partition(";")[0]
        if kind != "application/problem+json":
            return ""
        return str(self.json["type"]).removeprefix(PROBLEM)

    @property
    def location(self) -> str:
        """The URL of what was made or found."""
        return self.header("location")

    @property
    def nonce(self) -> str:
        """The fresh nonce, "" where there is none."""
        return self.header("replay-nonce")

    def header(self, name: str) -> str:
        """A header, "" where it is absent."""
        return self.response.headers.get(name, "")


class RawClient:
    """One account key and the directory of one CA."""

    def __init__(self, http: Http, directory: Mapping[str, Any]) -> None:
        self.http = http
        self.directory = directory
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.account_url = ""
        self._nonce = ""

    @classmethod
    async def at(cls, http: Http, directory_url: str) -> Self:
        """A client with a new key, not yet known to the CA."""
        response = await http.request("GET", directory_url, headers=HEADERS)
        return cls(http, json.loads(response.body))

    async def get(self, url: str, *, method: str = "GET") -> Answer:
        """A request that nobody signed."""
        return Answer(await self.http.request(method, url, headers=HEADERS))

    async def fresh_nonce(self) -> str:
        """A nonce that was never used; nonces are not kept but for the last answer's."""
        nonce, self._nonce = self._nonce, ""
        return nonce or (await self.get(self.directory["newNonce"], method="HEAD")).nonce

    async def post(self, url: str, payload: object = None, **signing: Any) -> Answer:
        """A signed POST: of JSON, of bytes as they are, or POST-as-GET where there is nothing."""
        body = self.sign(url, payload, **({"nonce": await self.fresh_nonce()} | signing))
        return await self.send(url, body)

    async def send(self, url: str, body: bytes, headers: Mapping[str, str] = HEADERS) -> Answer:
        """A POST of anything."""
        answer = Answer(await self.http.request("POST", url, headers=headers, body=body))
        self._nonce = answer.nonce
        return answer

    def sign(
        self,
        url: str,
        payload: object = None,
        *,
        nonce: str | None,
        signed_url: str | None = None,
        kid: str | None = None,
        by_jwk: bool = False,
        key: Key | None = None,
    ) -> bytes:
        """A JWS of the account, or by its bare key, or another one (RFC 8555 §6.2)."""
        message: str = JWS.sign(
            _encoded(payload),
            key=JWKEC(key=key or self.key),
            alg=ES256,
            nonce=None if nonce is None else decode_b64jose(nonce),
            url=signed_url or url,
            kid=None if by_jwk else kid or self.account_url,
        ).json_dumps()
        return message.encode()

    async def new_account(self, **members: Any) -> Answer:
        """Open an account, or find it; its URL signs from now on."""
        payload = {"termsOfServiceAgreed": True} | members
        answer = await self.post(self.directory["newAccount"], payload, by_jwk=True)
        self.account_url = answer.location or self.account_url
        return answer

    async def new_order(self, *names: str, **members: Any) -> Answer:
        """Ask for a certificate."""
        identifiers = [{"type": _kind(name), "value": name} for name in names]
        return await self.post(self.directory["newOrder"], {"identifiers": identifiers} | members)

    async def change_key(self, new: Key, **inner: Any) -> Answer:
        """Ask for another key; members of the inner message may be wrong (RFC 8555 §7.3.5)."""
        url = self.directory["keyChange"]
        content = {"account": self.account_url, "oldKey": jwk(self.key)} | inner
        return await self.post(url, self.sign(url, content, nonce=None, by_jwk=True, key=new))

    async def revoke(self, leaf: x509.Certificate, reason: int = 0, **signing: Any) -> Answer:
        """Revoke a certificate (RFC 8555 §7.6)."""
        der = encode_b64jose(leaf.public_bytes(Encoding.DER))
        payload = {"certificate": der, "reason": reason}
        return await self.post(self.directory["revokeCert"], payload, **signing)

    def binding(self, key_id: str, mac_key: bytes, **protected: Any) -> dict[str, str]:
        """An external account binding (RFC 8555 §7.3.4)."""
        header = {"alg": "HS256", "kid": key_id, "url": self.directory["newAccount"]} | protected
        signed = [encode_b64jose(json.dumps(each).encode()) for each in (header, jwk(self.key))]
        mac = hmac.digest(mac_key, ".".join(signed).encode(), "sha256")
        return {"protected": signed[0], "payload": signed[1], "signature": encode_b64jose(mac)}

    def thumbprint(self) -> str:
        """The account key's name in key authorizations (RFC 8555 §8.1)."""
        return encode_b64jose(JWKEC(key=self.key).thumbprint())


def jwk(key: Key) -> dict[str, str]:
    """The public half of a key."""
    members: dict[str, str] = JWKEC(key=key).public_key().to_json()
    return members


def certificate_key() -> ec.EllipticCurvePrivateKey:
    """A new key for a certificate."""
    return ec.generate_private_key(ec.SECP256R1())


def csr(key: ec.EllipticCurvePrivateKey, *names: str) -> dict[str, str]:
    """The payload of finalize: a CSR for those names without a subject (RFC 8555 §7.4)."""
    general = [x509.IPAddress(a) if (a := _address(name)) else x509.DNSName(name) for name in names]
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .add_extension(x509.SubjectAlternativeName(general), critical=False)
        .sign(key, hashes.SHA256())
    )
    return {"csr": encode_b64jose(request.public_bytes(Encoding.DER))}


def forged_csr(key: ec.EllipticCurvePrivateKey, *names: str) -> dict[str, str]:
    """The same with a signature that is not the key's."""
    der = bytearray(decode_b64jose(csr(key, *names)["csr"]))
    der[-1] ^= 1
    return {"csr": encode_b64jose(bytes(der))}


def renewal_id(certificate: x509.Certificate) -> str:
    """The name of a certificate in renewal information (RFC 9773 §4.1)."""
    extension = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
    number = certificate.serial_number
    octets = number.to_bytes(number.bit_length() // 8 + 1)
    return f"{encode_b64jose(extension.value.key_identifier or b'')}.{encode_b64jose(octets)}"


def _kind(name: str) -> str:
    return "ip" if _address(name) else "dns"


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def _encoded(payload: object) -> bytes:
    if payload is None:
        return b""
    return payload if isinstance(payload, bytes) else json.dumps(payload).encode()
