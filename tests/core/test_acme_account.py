"""acme/account.py and acme/revocation.py: what is sent, and which refusals mean what."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from acmeistio.acme.account import (
    Binding,
    account_key,
    deactivate,
    look_up,
    register,
    roll_over,
)
from acmeistio.acme.revocation import RevocationReason, revoke, revoke_by_key
from acmeistio.acme.session import ProblemResponse, Session, Signer
from acmeistio.errors import Permanent
from acmeistio.model import KeyType
from acmeistio.pki import generate_key
from acmeistio.ports import HttpResponse
from tests.core.fake_ca import DIRECTORY, DIRECTORY_URL, FakeClock, FakeHttp, answer, refusal
from tests.core.sent import payload_of, protected_of

PEM = generate_key(KeyType.ECDSA_P256)
KEY, OTHER_KEY = account_key(PEM), account_key(generate_key(KeyType.ECDSA_P384))
URL = "https://ca.example/account/1"
SIGNER = Signer(KEY, URL)
EXTERNAL_REQUIRED = {**DIRECTORY, "meta": {"externalAccountRequired": True}}


def at(*answers: HttpResponse, directory: object = DIRECTORY) -> tuple[Session, FakeHttp]:
    """A session with a CA that gives these answers."""
    http = FakeHttp(*answers, directory=directory)
    return Session(http, FakeClock(), DIRECTORY_URL), http


async def test_an_external_account_is_bound() -> None:
    """Inner JWS: HS256, the customer's id, newAccount, the account's public key (§7.3.4)."""
    session, http = at(answer({}, 201, location=URL), directory=EXTERNAL_REQUIRED)
    assert await register(session, KEY, None, Binding("customer-1", "AAAA")) == SIGNER
    (body,) = http.bodies
    inner = payload_of(body)["externalAccountBinding"]
    inner_text = json.dumps(inner).encode()
    assert protected_of(inner_text) == {
        "alg": "HS256",
        "kid": "customer-1",
        "url": DIRECTORY["newAccount"],
    }
    assert payload_of(inner_text) == protected_of(body)["jwk"]
    assert payload_of(inner_text).keys() == {"kty", "crv", "x", "y"}, "and nothing private"
    assert "AAAA" not in repr(Binding("customer-1", "AAAA"))


async def test_an_external_account_that_is_missing() -> None:
    """No request is made that the CA would refuse."""
    session, http = at(directory=EXTERNAL_REQUIRED)
    with pytest.raises(Permanent) as caught:
        await register(session, KEY, None)
    assert caught.value.problem_type == "externalAccountRequired"
    assert not http.bodies


@pytest.mark.parametrize("mac_key", ["ä", "A"])
async def test_a_mac_key_that_is_no_base64url(mac_key: str) -> None:
    """It is the settings' mistake, not an error of ours."""
    session, _ = at()
    with pytest.raises(Permanent, match="not base64url"):
        await register(session, KEY, None, Binding("customer-1", mac_key))


async def test_a_rollover() -> None:
    """Outer by the old key, inner by the new one: same URL, no nonce (§7.3.5)."""
    session, http = at(answer())
    assert await roll_over(session, SIGNER, OTHER_KEY) == Signer(OTHER_KEY, URL)
    (body,) = http.bodies
    outer, inner = protected_of(body), json.dumps(payload_of(body)).encode()
    assert (outer["kid"], outer["url"], "jwk" in outer) == (URL, DIRECTORY["keyChange"], False)
    assert protected_of(inner).keys() == {"alg", "jwk", "url"}
    assert protected_of(inner)["url"] == DIRECTORY["keyChange"]
    assert protected_of(inner)["alg"] == "ES384"
    content = payload_of(inner)
    assert content["account"] == URL
    assert content["oldKey"].keys() == {"kty", "crv", "x", "y"}
    assert content["oldKey"] != protected_of(inner)["jwk"]


@pytest.mark.parametrize("refused", [refusal("malformed", 409), refusal("unauthorized", 403)])
async def test_a_rollover_that_is_refused(refused: HttpResponse) -> None:
    """409 where the new key has an account already (§7.3.5)."""
    session, _ = at(refused)
    with pytest.raises(ProblemResponse):
        await roll_over(session, SIGNER, OTHER_KEY)


async def test_a_look_up_makes_no_account() -> None:
    """OnlyReturnExisting; no account is no error, anything else is one (§7.3.1)."""
    session, http = at(
        answer({}, 200, location=URL),
        refusal("accountDoesNotExist", 400),
        refusal("unauthorized", 403),
    )
    assert await look_up(session, KEY) == SIGNER
    assert payload_of(http.bodies[0]) == {"onlyReturnExisting": True}
    assert await look_up(session, KEY) is None
    with pytest.raises(ProblemResponse):
        await look_up(session, KEY)


async def test_a_deactivation() -> None:
    """A POST to the account itself (§7.3.6)."""
    session, http = at(answer())
    await deactivate(session, SIGNER)
    assert http.asked[-1] == ("POST", URL)
    assert payload_of(http.bodies[0]) == {"status": "deactivated"}


async def test_a_revocation() -> None:
    """By the account (kid), or by the certificate's own key (jwk) (§7.6)."""
    session, http = at(answer(), answer())
    await revoke(session, b"der", RevocationReason.superseded, SIGNER)
    await revoke_by_key(session, b"der", RevocationReason.keyCompromise, OTHER_KEY)
    by_account, by_key = http.bodies
    assert payload_of(by_account) == {"certificate": "ZGVy", "reason": 4}
    assert payload_of(by_key) == {"certificate": "ZGVy", "reason": 1}
    assert protected_of(by_account)["kid"] == URL
    assert "kid" not in protected_of(by_key)
    assert protected_of(by_key)["jwk"] == OTHER_KEY.public_key().to_json()


async def test_revoked_is_revoked() -> None:
    """Whoever did it; other refusals are told."""
    session, _ = at(refusal("alreadyRevoked"), refusal("badRevocationReason"))
    await revoke(session, b"der", RevocationReason.unspecified, SIGNER)
    with pytest.raises(ProblemResponse):
        await revoke(session, b"der", RevocationReason.unspecified, SIGNER)


def test_the_reasons_are_spelt_as_rfc_5280_spells_them() -> None:
    """And are those that Let's Encrypt takes from a subscriber."""
    assert {reason.name: int(reason) for reason in RevocationReason} == {
        "unspecified": 0,
        "keyCompromise": 1,
        "affiliationChanged": 3,
        "superseded": 4,
        "cessationOfOperation": 5,
    }


def _encrypted() -> bytes:
    key: Any = load_pem_private_key(PEM, None)
    return bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
    )


def _ed25519() -> bytes:
    key = ed25519.Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.mark.parametrize("pem", [b"", b"no key", _encrypted(), _ed25519()])
def test_no_account_key(pem: bytes) -> None:
    """What can't sign for an account is a ValueError, whatever it is."""
    with pytest.raises(ValueError, match=r"[kK]ey|PEM"):
        account_key(pem)
