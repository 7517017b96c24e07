"""What a client relies on in a CA: RFC 8555 as Let's Encrypt and Pebble keep it.

Runs on the simulated CA and on real Pebble; what passes here may be believed in simulations.
Where the two legitimately differ is the table `Habits` in ca_subjects.py, and nowhere else.
The other client, acmeistio's own, takes no part: raw_acme.py says what is said.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from tests.contract.ca_subjects import BLOCKED, PROFILE, RETRY_AFTER_SECONDS, Subject
from tests.contract.raw_acme import HEADERS, RawClient, certificate_key, csr, forged_csr
from tests.contract.raw_flow import (
    authorization_of,
    authorizations_of,
    certificate,
    finish,
    http_01,
    poll,
    ready_order,
    serve,
    wait_seconds,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")
pytest_plugins = ("tests.contract.ca_fixtures",)

# ── directory and nonces (RFC 8555 §7.1.1, §7.2, §6.5) ────────────────────────────────────────────


async def test_directory_says_where_everything_is(ca: Subject, stranger: RawClient) -> None:
    """GET of the directory needs no account; its meta has terms and profiles (§7.1.1)."""
    answer = await stranger.get(ca.directory_url)
    assert answer.status == 200
    assert {"newNonce", "newAccount", "newOrder", "meta"} <= answer.json.keys()
    assert answer.json["meta"]["termsOfService"]
    assert PROFILE in answer.json["meta"]["profiles"]


async def test_new_nonce(stranger: RawClient) -> None:
    """HEAD gives 200, GET 204, each with a nonce of its own that must not be cached (§7.2)."""
    url = stranger.directory["newNonce"]
    head, get = await stranger.get(url, method="HEAD"), await stranger.get(url)
    assert (head.status, get.status) == (200, 204)
    assert head.nonce != get.nonce
    assert "no-" in get.header("cache-control")


async def test_every_post_is_answered_with_a_nonce(client: RawClient) -> None:
    """Successes, problems and unreadable requests alike: no client needs newNonce twice (§6.5)."""
    answers = [
        await client.post(client.account_url),
        await client.post(client.directory["newOrder"], {"identifiers": []}),
        await client.send(client.directory["newOrder"], b"no JWS"),
    ]
    assert [answer.status for answer in answers] == [200, 400, 400]
    assert all(answer.nonce for answer in answers)


async def test_nonce_is_good_once(client: RawClient) -> None:
    """The second use is badNonce, and that answer's nonce is good (§6.5)."""
    nonce = await client.fresh_nonce()
    assert (await client.post(client.account_url, nonce=nonce)).status == 200
    second = await client.post(client.account_url, nonce=nonce)
    assert (second.status, second.problem) == (400, "badNonce")
    assert (await client.post(client.account_url, nonce=second.nonce)).status == 200


async def test_nonce_that_the_ca_never_gave(client: RawClient) -> None:
    """Such a nonce, from before the CA's restart for example, is badNonce (§6.5)."""
    answer = await client.post(client.account_url, nonce="dGhlIENBIG5ldmVyIGdhdmU")
    assert (answer.status, answer.problem) == (400, "badNonce")


# ── requests (RFC 8555 §6.1 to §6.4) ──────────────────────────────────────────────────────────────


async def test_url_header_is_the_url_of_the_request(client: RawClient) -> None:
    """A JWS that was signed for another URL is refused (§6.4)."""
    answer = await client.post(client.account_url, signed_url=client.account_url + "/")
    assert (answer.status, answer.problem) == (400, "malformed")


async def test_signature_is_checked(client: RawClient) -> None:
    """A JWS by another key than the account's is refused (§6.2)."""
    client.key = certificate_key()
    answer = await client.post(client.account_url)
    assert (answer.status, answer.problem) == (400, "malformed")


async def test_jwk_is_for_new_accounts_only(client: RawClient) -> None:
    """All else names the account by its URL (§6.2)."""
    payload = {"identifiers": [{"type": "dns", "value": "a.contract.example"}]}
    answer = await client.post(client.directory["newOrder"], payload, by_jwk=True)
    assert (answer.status, answer.problem) == (400, "malformed")


async def test_kid_is_not_for_new_accounts(client: RawClient) -> None:
    """NewAccount takes the key itself (§6.2)."""
    answer = await client.post(client.directory["newAccount"], {"termsOfServiceAgreed": True})
    assert (answer.status, answer.problem) == (400, "malformed")


async def test_content_type_is_jose_json(client: RawClient) -> None:
    """Any other Content-Type is 415 (§6.2)."""
    body = client.sign(client.account_url, nonce=await client.fresh_nonce())
    headers = HEADERS | {"content-type": "application/json"}
    assert (await client.send(client.account_url, body, headers)).status == 415


async def test_user_agent_is_required(client: RawClient) -> None:
    """A request without User-Agent is refused (§6.1)."""
    body = client.sign(client.account_url, nonce=await client.fresh_nonce())
    answer = await client.send(client.account_url, body, HEADERS | {"user-agent": ""})
    assert (answer.status, answer.problem) == (400, "malformed")


async def test_resources_are_not_for_get(client: RawClient, names: Iterator[str]) -> None:
    """An order is read by POST-as-GET, for it is nobody else's business (§6.3)."""
    order = await client.new_order(next(names), profile=PROFILE)
    for method in ("GET", "PUT"):
        assert (await client.get(order.location, method=method)).status == 405
    assert (await client.post(order.location)).status == 200


async def test_post_as_get_has_an_empty_payload(client: RawClient, names: Iterator[str]) -> None:
    """The payload of a POST-as-GET is nothing at all, not even {} (§6.3)."""
    order = await client.new_order(next(names), profile=PROFILE)
    answer = await client.post(order.location, {})
    assert (answer.status, answer.problem) == (400, "malformed")


# ── accounts (RFC 8555 §7.3) ──────────────────────────────────────────────────────────────────────


async def test_account_is_opened_once_and_found_again(stranger: RawClient) -> None:
    """201 with its URL; later 200 with the same URL, whether looked up or not (§7.3.1)."""
    opened = await stranger.new_account()
    again = await stranger.new_account()
    found = await stranger.new_account(onlyReturnExisting=True)
    assert [opened.status, again.status, found.status] == [201, 200, 200]
    assert opened.json["status"] == "valid"
    assert opened.location == again.location == found.location != ""


async def test_looking_up_an_account_opens_none(stranger: RawClient) -> None:
    """A strange key with onlyReturnExisting is accountDoesNotExist (§7.3.1)."""
    answer = await stranger.new_account(onlyReturnExisting=True)
    assert (answer.status, answer.problem) == (400, "accountDoesNotExist")


async def test_terms_of_service_must_be_agreed_to(stranger: RawClient) -> None:
    """Else it is userActionRequired, with a link to the terms (§7.3.3)."""
    answer = await stranger.new_account(termsOfServiceAgreed=False)
    assert (answer.status, answer.problem) == (403, "userActionRequired")
    assert 'rel="terms-of-service"' in answer.header("link")


async def test_account_that_the_ca_does_not_know(client: RawClient) -> None:
    """A CA that has forgotten an account says so: accountDoesNotExist (§6.7)."""
    answer = await client.new_order("a.contract.example", profile=PROFILE)
    assert answer.status == 201
    client.account_url += "f00d"
    answer = await client.new_order("a.contract.example", profile=PROFILE)
    assert (answer.status, answer.problem) == (400, "accountDoesNotExist")


# ── orders (RFC 8555 §7.4) ────────────────────────────────────────────────────────────────────────


async def test_new_order(ca: Subject, client: RawClient, names: Iterator[str]) -> None:
    """201 with the order's URL; names in lower case, one authorization each, in any order."""
    wanted = {next(names), next(names), next(names)}
    answer = await client.new_order(*map(str.upper, wanted), profile=PROFILE)
    order = answer.json
    assert (answer.status, order["status"], order["profile"]) == (201, "pending", PROFILE)
    assert {identifier["value"] for identifier in order["identifiers"]} == wanted
    assert (await authorizations_of(client, order)).keys() == wanted
    assert (await client.post(answer.location)).json["finalize"] == order["finalize"]
    left = datetime.fromisoformat(order["expires"]) - datetime.now(UTC)
    assert timedelta(0) < left <= timedelta(days=ca.habits.order_lasts_days)


async def test_same_names_again(ca: Subject, client: RawClient, names: Iterator[str]) -> None:
    """A second newOrder may be answered by the pending order there is; 201 all the same."""
    name = next(names)
    first = await client.new_order(name, profile=PROFILE)
    second = await client.new_order(name, profile=PROFILE)
    assert (first.status, second.status) == (201, 201)
    assert (first.location == second.location) is ca.habits.gives_open_order_again


async def test_pending_authorization(ca: Subject, client: RawClient, names: Iterator[str]) -> None:
    """It offers http-01 among others, each with a token of base64url (§7.1.4, §8.3)."""
    order = await client.new_order(next(names), profile=PROFILE)
    authorization = await authorization_of(client, order.json)
    offered = {each["type"]: each for each in authorization["challenges"]}
    assert authorization["status"] == "pending"
    assert {"http-01", "dns-01"} <= offered.keys()
    assert {offered["http-01"]["status"]} == {"pending"}
    tokens = {offered[kind]["token"] for kind in ("http-01", "dns-01")}
    assert (len(tokens) == 1) is ca.habits.one_token_per_authorization
    assert "wildcard" not in authorization


async def test_wildcard(client: RawClient, names: Iterator[str]) -> None:
    """Its authorization names the domain without `*.`, and only DNS proves it (§7.1.3, §7.1.4)."""
    name = next(names)
    order = await client.new_order(f"*.{name}", profile=PROFILE)
    authorization = await authorization_of(client, order.json)
    assert order.json["identifiers"] == [{"type": "dns", "value": f"*.{name}"}]
    assert authorization["identifier"]["value"] == name
    assert authorization["wildcard"] is True
    assert all(each["type"].startswith("dns-") for each in authorization["challenges"])


async def test_address(ca: Subject, client: RawClient) -> None:
    """An IP address is an identifier of its own type, and DNS does not prove it (RFC 8738)."""
    address = "127.0.0.1"
    order = await client.new_order(address, profile=PROFILE)
    assert order.json["identifiers"] == [{"type": "ip", "value": address}]
    authorization = await authorization_of(client, order.json)
    assert authorization["identifier"] == {"type": "ip", "value": address}
    offered = {each["type"] for each in authorization["challenges"]}
    assert "http-01" in offered
    assert not any(kind.startswith("dns-") for kind in offered)
    leaf = await certificate(ca.served, client, PROFILE, address)
    extension = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert [str(name) for name in extension.value.get_values_for_type(x509.IPAddress)] == [address]


async def test_one_rejected_name(ca: Subject, client: RawClient, names: Iterator[str]) -> None:
    """RejectedIdentifier; which name it was is in the subproblem, or only in the detail."""
    answer = await client.new_order(next(names), f"www.{BLOCKED}", profile=PROFILE)
    assert (answer.status, answer.problem) == (400, "rejectedIdentifier")
    assert f"www.{BLOCKED}" in answer.json["detail"]
    subproblems = answer.json.get("subproblems", [])
    assert len(subproblems) == ca.habits.subproblems_for_one_name
    assert _names_in(subproblems) <= {f"www.{BLOCKED}"}


async def test_several_rejected_names(ca: Subject, client: RawClient, names: Iterator[str]) -> None:
    """Each subproblem has a type and the identifier it is about (§6.7.1)."""
    rejected = {f"a.{BLOCKED}", f"b.{BLOCKED}"}
    answer = await client.new_order(next(names), *rejected, profile=PROFILE)
    assert (answer.status, answer.problem) == (400, "rejectedIdentifier")
    subproblems = answer.json["subproblems"]
    assert len(subproblems) == ca.habits.subproblems_for_two_names
    assert all(each["type"].endswith(":rejectedIdentifier") for each in subproblems)
    assert _names_in(subproblems) <= rejected
    assert "identifier" not in answer.json


async def test_unknown_profile(client: RawClient, names: Iterator[str]) -> None:
    """A profile that the directory does not list is invalidProfile."""
    answer = await client.new_order(next(names), profile="no-such-profile")
    assert (answer.status, answer.problem) == (400, "invalidProfile")


async def test_order_that_is_not_there(client: RawClient, names: Iterator[str]) -> None:
    """404, as after a restart of a CA that forgets."""
    order = await client.new_order(next(names), profile=PROFILE)
    assert (await client.post(order.location + "f00d")).status == 404


async def test_order_of_somebody_else(ca: Subject, client: RawClient, names: Iterator[str]) -> None:
    """Its URL is not enough to read it: unauthorized (§10.5)."""
    order = await client.new_order(next(names), profile=PROFILE)
    other = await RawClient.at(ca.http, ca.directory_url)
    await other.new_account()
    answer = await other.post(order.location)
    assert (answer.status, answer.problem) == (403, "unauthorized")


# ── challenges (RFC 8555 §7.5.1, §8.3) ────────────────────────────────────────────────────────────


async def test_challenge_is_answered_with_an_empty_object(
    client: RawClient, names: Iterator[str]
) -> None:
    """Any other payload is refused and begins no validation (§7.5.1)."""
    order = await client.new_order(next(names), profile=PROFILE)
    authorization = await authorization_of(client, order.json)
    challenge = http_01(authorization)
    answer = await client.post(challenge["url"], {"keyAuthorization": "as in drafts"})
    assert (answer.status, answer.problem) == (400, "malformed")
    assert (await client.post(challenge["url"])).json["status"] == "pending"


async def test_answered_challenge(ca: Subject, client: RawClient, names: Iterator[str]) -> None:
    """It is validated beside the requests; the reply links to its authorization (§7.5.1)."""
    order = await client.new_order(next(names), profile=PROFILE)
    authorization = await authorization_of(client, order.json)
    challenge = serve(ca.served, client, authorization)
    answer = await client.post(challenge["url"], {})
    assert answer.status == 200
    assert answer.json["status"] in {ca.habits.status_while_validated, "valid"}
    assert f'<{order.json["authorizations"][0]}>;rel="up"' in answer.header("link")
    assert (await poll(client, order.location, "pending"))["status"] == "ready"


async def test_valid_authorization_shows_what_proved_it(
    ca: Subject, client: RawClient, names: Iterator[str]
) -> None:
    """Once it is valid, only the challenge that was used is left, and it is valid (§7.1.4)."""
    order = await ready_order(ca.served, client, PROFILE, next(names))
    authorization = await authorization_of(client, order.json)
    assert authorization["status"] == "valid"
    assert [each["type"] for each in authorization["challenges"]] == ["http-01"]
    assert authorization["challenges"][0]["validated"]


async def test_valid_authorization_serves_again(
    ca: Subject, client: RawClient, names: Iterator[str]
) -> None:
    """Another order with that name finds it valid; only the new name is left to prove (§7.1.3)."""
    old, new = next(names), next(names)
    await ready_order(ca.served, client, PROFILE, old)
    order = await client.new_order(old, new, profile=PROFILE)
    authorizations = await authorizations_of(client, order.json)
    assert authorizations[old]["status"] == "valid"
    assert authorizations[new]["status"] == "pending"
    assert order.json["status"] == "pending"


async def test_failed_validation(ca: Subject, client: RawClient, names: Iterator[str]) -> None:
    """Authorization and order are invalid for good, for the challenge's error (§7.1.6)."""
    good, bad = next(names), next(names)
    order = await client.new_order(good, bad, profile=PROFILE)
    authorizations = await authorizations_of(client, order.json)
    await client.post(http_01(authorizations[bad])["url"], {})
    final = await poll(client, order.location, "pending")
    assert final["status"] == "invalid"
    assert ("error" in final) is ca.habits.order_has_error_of_authorization
    after = await authorizations_of(client, final)
    assert after[bad]["status"] == "invalid"
    (challenge,) = after[bad]["challenges"]
    assert (challenge["type"], challenge["status"]) == ("http-01", "invalid")
    assert challenge["error"]["type"].endswith(":unauthorized")
    assert after[good]["status"] == "pending"


async def test_wrong_key_authorization(
    ca: Subject, client: RawClient, names: Iterator[str]
) -> None:
    """The body must be token.thumbprint of this account's key (§8.1, §8.3)."""
    order = await client.new_order(next(names), profile=PROFILE)
    authorization = await authorization_of(client, order.json)
    challenge = http_01(authorization)
    ca.served[challenge["token"]] = f"{challenge['token']}.{'A' * 43}"
    await client.post(challenge["url"], {})
    assert (await poll(client, order.location, "pending"))["status"] == "invalid"


async def test_key_authorization_comes_with_200(
    ca: Subject, client: RawClient, names: Iterator[str]
) -> None:
    """The right body with any other status proves nothing (§8.3; Boulder and Pebble: exactly)."""
    order = await client.new_order(next(names), profile=PROFILE)
    authorization = await authorization_of(client, order.json)
    challenge = serve(ca.served, client, authorization)
    ca.statuses[challenge["token"]] = 203
    await client.post(challenge["url"], {})
    assert (await poll(client, order.location, "pending"))["status"] == "invalid"


async def test_white_space_after_the_key_authorization(
    ca: Subject, client: RawClient, names: Iterator[str]
) -> None:
    """A line's end is forgiven (§8.3)."""
    order = await client.new_order(next(names), profile=PROFILE)
    authorization = await authorization_of(client, order.json)
    challenge = serve(ca.served, client, authorization)
    ca.served[challenge["token"]] += "\r\n"
    await client.post(challenge["url"], {})
    assert (await poll(client, order.location, "pending"))["status"] == "ready"


# ── finalization and certificate (RFC 8555 §7.4, §7.4.2) ──────────────────────────────────────────


async def test_from_order_to_certificate(
    ca: Subject, client: RawClient, names: Iterator[str]
) -> None:
    """The leaf has exactly the names and the CSR's key, its chain leads to the root (§7.4.2)."""
    wanted = (next(names), next(names), next(names))
    key = certificate_key()
    order = await ready_order(ca.served, client, PROFILE, *wanted)
    finalized = await client.post(order.json["finalize"], csr(key, *wanted))
    assert finalized.status == 200
    final = await finish(client, order, finalized)
    answer = await client.post(final["certificate"])
    assert answer.header("content-type").startswith("application/pem-certificate-chain")
    _check_chain(ca, answer.response.body, wanted, key)
    if ca.simulated:
        assert ca.simulated.certificates[-1].names == set(wanted)


async def test_processing_order_says_when_to_ask_again(
    ca: Subject, client: RawClient, names: Iterator[str]
) -> None:
    """Retry-After, as seconds or as a date, where the CA is configured so (§7.4)."""
    name = next(names)
    order = await ready_order(ca.served, client, PROFILE, name)
    finalized = await client.post(order.json["finalize"], csr(certificate_key(), name))
    assert finalized.json["status"] == "processing"
    assert 0 < wait_seconds(finalized) <= RETRY_AFTER_SECONDS
    await finish(client, order, finalized)


async def test_finalize_too_early(client: RawClient, names: Iterator[str]) -> None:
    """OrderNotReady, and the order is as it was (§7.4)."""
    name = next(names)
    order = await client.new_order(name, profile=PROFILE)
    answer = await client.post(order.json["finalize"], csr(certificate_key(), name))
    assert (answer.status, answer.problem) == (403, "orderNotReady")
    assert (await client.post(order.location)).json["status"] == "pending"


async def test_finalize_twice(ca: Subject, client: RawClient, names: Iterator[str]) -> None:
    """After a lost reply: orderNotReady, and the order tells how far it is (§7.4)."""
    name = next(names)
    order = await ready_order(ca.served, client, PROFILE, name)
    request = csr(certificate_key(), name)
    finalized = await client.post(order.json["finalize"], request)
    await finish(client, order, finalized)
    again = await client.post(order.json["finalize"], request)
    assert (again.status, again.problem) == (403, "orderNotReady")
    assert (await client.post(order.location)).json["status"] == "valid"


async def test_csr_with_other_names(ca: Subject, client: RawClient, names: Iterator[str]) -> None:
    """Refused (both: unauthorized, where §7.4 has badCSR); the order stays ready (§7.4)."""
    name, other = next(names), next(names)
    order = await ready_order(ca.served, client, PROFILE, name)
    for wrong in ((name, other), (other,)):
        answer = await client.post(order.json["finalize"], csr(certificate_key(), *wrong))
        assert (answer.status, answer.problem) == (403, "unauthorized")
    assert (await client.post(order.location)).json["status"] == "ready"


async def test_csr_with_the_account_key(
    ca: Subject, client: RawClient, names: Iterator[str]
) -> None:
    """Refused as badCSR (§11.1); the order stays ready, and a good CSR finishes it (§7.4)."""
    name = next(names)
    order = await ready_order(ca.served, client, PROFILE, name)
    answer = await client.post(order.json["finalize"], csr(client.key, name))
    assert (answer.status, answer.problem) == (400, "badCSR")
    assert (await client.post(order.location)).json["status"] == "ready"
    finalized = await client.post(order.json["finalize"], csr(certificate_key(), name))
    assert (await finish(client, order, finalized))["status"] == "valid"


async def test_csr_that_nobody_signed(ca: Subject, client: RawClient, names: Iterator[str]) -> None:
    """Its signature proves that the key is the client's: badCSR, and the order stays ready."""
    name = next(names)
    order = await ready_order(ca.served, client, PROFILE, name)
    request = forged_csr(certificate_key(), name)
    answer = await client.post(order.json["finalize"], request)
    assert (answer.status, answer.problem) == (400, "badCSR")
    assert (await client.post(order.location)).json["status"] == "ready"


async def test_csr_that_is_none(ca: Subject, client: RawClient, names: Iterator[str]) -> None:
    """Refused, and the order stays ready (§7.4)."""
    order = await ready_order(ca.served, client, PROFILE, next(names))
    answer = await client.post(order.json["finalize"], {"csr": "bm8gQ1NS"})
    assert (answer.status, answer.problem) == (400, ca.habits.unreadable_csr)
    assert (await client.post(order.location)).json["status"] == "ready"


def _names_in(subproblems: list[dict[str, Any]]) -> set[str]:
    return {each["identifier"]["value"] for each in subproblems}


def _check_chain(
    ca: Subject, pem: bytes, names: tuple[str, ...], key: ec.EllipticCurvePrivateKey
) -> None:
    """Leaf first, each issued by the next, the last one by the root, which is not sent."""
    chain = x509.load_pem_x509_certificates(pem)
    leaf = chain[0]
    extension = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert sorted(extension.value.get_values_for_type(x509.DNSName)) == sorted(names)
    assert leaf.public_key() == key.public_key()
    now = datetime.now(UTC)
    assert leaf.not_valid_before_utc <= now < leaf.not_valid_after_utc
    assert len(chain) > 1
    for issued, issuer in itertools.pairwise([*chain, ca.root]):
        issued.verify_directly_issued_by(issuer)
    authority = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    subject_id = chain[1].extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert authority.key_identifier == subject_id.digest
