"""probe/verdict.py: what hops mean, each meaning with the words that a user reads."""

from __future__ import annotations

import pytest

from acmeistio.model import GatewayAddress, ObjectRef
from acmeistio.names import DnsName
from acmeistio.probe.verdict import Answered, Asked, Broken, Hop, How, Outcome, judge, onward
from acmeistio.reasons import Reason, Severity
from tests.core.builders import REF

NAME = DnsName("www.example.com")
GATEWAY = GatewayAddress("gw.istio-system.svc", 8080, 8443)
OWNER = ObjectRef("VirtualService", "shop", "www")
PATH = "/.well-known/acme-challenge/t0ken"
EXPECTED = b"t0ken.thumbprint"
HTTP = Asked("http", 8080, PATH)
HTTPS = Asked("https", 8443, PATH)
BY_OWNER = "the host is routed by VirtualService shop/www"
SEEN = "seen through gw.istio-system.svc:8080"
SEEN_TLS = "seen through gw.istio-system.svc:8443"

REDIRECTED = Hop(HTTP, Answered(301, f"https://{NAME}{PATH}"))


def first(came: Answered | Broken) -> tuple[Hop, ...]:
    """The way ends at once."""
    return (Hop(HTTP, came),)


def second(came: Answered | Broken) -> tuple[Hop, ...]:
    """The way ends after the redirect to HTTPS."""
    return (REDIRECTED, Hop(HTTPS, came))


def words(hops: tuple[Hop, ...], owner: ObjectRef | None = None) -> str:
    """The sentence that an object is told."""
    found = judge(NAME, GATEWAY, hops, EXPECTED, owner).defect(REF)
    assert found is not None
    assert found.subject == REF
    assert found.remedy
    return found.sentence


@pytest.mark.parametrize("body", [EXPECTED, EXPECTED + b" \r\n"])
@pytest.mark.parametrize("way", [first, second])
def test_our_own_answer_is_reached(way: object, body: bytes) -> None:
    """Over HTTP or after a redirect; a CA overlooks white space at the end (RFC 8555 §8.3)."""
    assert callable(way)
    verdict = judge(NAME, GATEWAY, way(Answered(200, body=body)), EXPECTED)
    assert verdict.outcome is Outcome.REACHED
    assert verdict.reason is None
    assert verdict.defect(REF) is None


NOT_ANSWERING = (
    "no gateway answers at gw.istio-system.svc:8080, so the CA's request for www.example.com "
    "would meet nothing: {problem}"
)
CLOSED_PORT = f"www.example.com is redirected to HTTPS, where nothing listens, {SEEN_TLS}"
BROKEN_TLS = (
    "www.example.com is redirected to HTTPS, where the TLS handshake for it fails, "
    f"{SEEN_TLS}: closed"
)
NOT_ROUTED = (
    "the challenge path of www.example.com is answered 404 over {scheme}, {seen}: nothing there "
    f"leads to acmeistio; {BY_OWNER}"
)
ANOTHER = (
    "another backend than acmeistio answers the challenge path of www.example.com with {status} "
    f"over http, {SEEN}; {BY_OWNER}"
)
UNREACHABLE = (
    "the gateway routes the challenge path of www.example.com and can't reach what is behind it "
    f"({{status}} over http, {SEEN})"
)
LOOP = (
    "the challenge path of www.example.com is redirected again and again, at last to "
    f"https://www.example.com, {SEEN}; {BY_OWNER}"
)

ANOTHERS_ANSWERS = (
    Answered(200, body=b"<html>"),
    Answered(200, body=EXPECTED[:-1]),
    Answered(200, body=b" " + EXPECTED),
    Answered(204, body=EXPECTED),
    Answered(404, envoy=True, upstream=True),
    Answered(302),
    Answered(304, f"https://{NAME}{PATH}"),
    Answered(405),
    Answered(500, envoy=True),
    Answered(503, envoy=True, upstream=True),
    Answered(503, body=b"Maintenance"),
)
ENVOYS_ANSWERS = (
    Answered(503, envoy=True),
    Answered(503, body=b"no healthy upstream"),
    Answered(503, body=b"upstream connect error or disconnect/reset", upstream=True),
    Answered(502, envoy=True),
    Answered(504, body=b"upstream request timeout"),
)

FAILURES = [
    (
        first(Broken(How.REFUSED, "gone")),
        Reason.GatewayNotAnswering,
        NOT_ANSWERING.format(problem="gone"),
    ),
    (second(Broken(How.REFUSED, "gone")), Reason.RedirectedToClosedPort, CLOSED_PORT),
    (second(Broken(How.TLS, "closed")), Reason.RedirectedToBrokenTLS, BROKEN_TLS),
    *(
        (first(came), Reason.ChallengeNotRouted, NOT_ROUTED.format(scheme="http", seen=SEEN))
        for came in (Answered(404), Answered(404, envoy=True))
    ),
    (
        second(Answered(404, envoy=True)),
        Reason.ChallengeNotRouted,
        NOT_ROUTED.format(scheme="https", seen=SEEN_TLS),
    ),
    *(
        (first(came), Reason.AnotherBackend, ANOTHER.format(status=came.status))
        for came in ANOTHERS_ANSWERS
    ),
    *(
        (first(came), Reason.AcmeistioUnreachable, UNREACHABLE.format(status=came.status))
        for came in ENVOYS_ANSWERS
    ),
    ((REDIRECTED,) * 11, Reason.RedirectLoop, LOOP),
]


@pytest.mark.parametrize(("hops", "reason", "sentence"), FAILURES)
def test_what_the_ca_would_meet_too_is_a_failure(
    hops: tuple[Hop, ...], reason: Reason, sentence: str
) -> None:
    """It has a reason of its own and may hold up an order (DESIGN §5, The probe)."""
    verdict = judge(NAME, GATEWAY, hops, EXPECTED, OWNER)
    assert verdict.outcome is Outcome.FAILED
    assert verdict.reason is reason
    assert reason.severity is Severity.ERROR
    assert words(hops, OWNER) == sentence


CANNOT_SEE = "acmeistio can't see whether the CA would reach www.example.com: "
NOT_UNDERSTOOD = (
    CANNOT_SEE + "what listens at gw.istio-system.svc:{port} does not talk to it as to a client "
    "from the internet ({problem})"
)
FORBIDDEN = (
    "the challenge path of www.example.com is answered {status} over {scheme}, seen through "
    "gw.istio-system.svc:{port}; if the CA is answered the same, there will be no certificate"
)
ELSEWHERE = (
    "the challenge path of www.example.com is redirected to {location}, "
    f"{SEEN}; the CA follows it to where acmeistio can't see; the host is routed by "
    "VirtualService shop/www"
)

UNKNOWNS = [
    (
        first(Broken(How.UNRESOLVED, "gone")),
        Reason.GatewayNotFound,
        CANNOT_SEE + "gw.istio-system.svc:8080, where it would ask the gateway itself, does not "
        "resolve",
    ),
    *(
        (
            first(Broken(how, "closed")),
            Reason.ProbeNotUnderstood,
            NOT_UNDERSTOOD.format(port=8080, problem="closed"),
        )
        for how in (How.RESET, How.NOT_HTTP)
    ),
    (
        second(Broken(How.RESET, "closed")),
        Reason.ProbeNotUnderstood,
        NOT_UNDERSTOOD.format(port=8443, problem="closed"),
    ),
    (
        first(Answered(400)),
        Reason.ProbeNotUnderstood,
        NOT_UNDERSTOOD.format(port=8080, problem="it answers 400"),
    ),
    (
        second(Answered(421, envoy=True)),
        Reason.ProbeNotUnderstood,
        NOT_UNDERSTOOD.format(port=8443, problem="it answers 421"),
    ),
    (
        first(Broken(How.TIMEOUT, "no answer in time")),
        Reason.ProbeTimedOut,
        CANNOT_SEE + "gw.istio-system.svc:8080 did not answer its own request over http in time",
    ),
    *(
        (
            first(Answered(status, envoy=True)),
            Reason.GatewayForbids,
            FORBIDDEN.format(status=status, scheme="http", port=8080),
        )
        for status in (401, 403, 429)
    ),
    (
        second(Answered(403, body=b"RBAC: access denied", envoy=True)),
        Reason.GatewayForbids,
        FORBIDDEN.format(status=403, scheme="https", port=8443),
    ),
    *(
        (first(Answered(302, to)), Reason.RedirectedElsewhere, ELSEWHERE.format(location=shown))
        for to, shown in (
            (f"https://example.com{PATH}", "https://example.com"),
            ("//login.example.org/?state=1", "http://login.example.org"),
            ("https://me:pass@login.example.org/", "https://login.example.org"),
            ("https://www.example.com:8000/x", "https://www.example.com:8000"),
            ("http://www.example.com:443/x", "http://www.example.com:443"),
            ("https://www.example.com.evil.example/", "https://www.example.com.evil.example"),
            ("mailto:root@example.com", "mailto:"),
            ("ftp://www.example.com/x", "ftp://www.example.com"),
            ("http://[::1", "http://[::1"),
            ("http://www.example.com:x/", "http://www.example.com:x"),
            ("/\udce4", "/ "),
        )
    ),
]


@pytest.mark.parametrize(("hops", "reason", "sentence"), UNKNOWNS)
def test_what_the_ca_may_be_spared_is_not_judged(
    hops: tuple[Hop, ...], reason: Reason, sentence: str
) -> None:
    """It is told, and holds up nothing (DESIGN §5, The probe)."""
    verdict = judge(NAME, GATEWAY, hops, EXPECTED, OWNER)
    assert verdict.outcome is Outcome.UNKNOWN
    assert verdict.reason is reason
    assert reason.severity is Severity.WARNING
    assert words(hops, OWNER) == sentence


@pytest.mark.parametrize("how", How)
@pytest.mark.parametrize("way", [first, second])
def test_every_way_to_end_has_words(way: object, how: How) -> None:
    """Nothing is left to an exception."""
    assert callable(way)
    assert words(way(Broken(how, "why")))


@pytest.mark.parametrize("status", range(100, 600))
def test_every_status_has_words(status: int) -> None:
    """None of them is success without our body."""
    assert words(first(Answered(status)))
    assert words(first(Answered(status, "/elsewhere", envoy=True)))


def test_a_host_that_nobody_routes_is_told_as_such() -> None:
    """The sentence stays one."""
    told = words(first(Answered(404)))
    assert told.endswith("the host is routed by no object that acmeistio sees")


def test_an_address_is_told_as_users_write_it() -> None:
    """IPv6 in brackets."""
    verdict = judge(NAME, GatewayAddress("::1", 8080), first(Answered(404)), EXPECTED)
    assert dict(verdict.facts)["address"] == "[::1]:8080"


def test_facts_are_plain() -> None:
    """What a gateway sends comes neither long nor with control characters into an Event."""
    told = words(first(Answered(302, "https://a.example\x1b[2J" + "x" * 1000)))
    assert "\x1b" not in told
    assert len(told) < 1000


def test_a_body_is_not_shown() -> None:
    """It may be a key authorization."""
    assert "t0ken.thumbprint" not in repr(Answered(200, body=EXPECTED))


@pytest.mark.parametrize(
    ("location", "to"),
    [
        (f"https://www.example.com{PATH}", HTTPS),
        (f"HTTPS://WWW.Example.COM:443{PATH}", HTTPS),
        (f"https://www.example.com:8443{PATH}", HTTPS),
        (f"http://www.example.com:80{PATH}", HTTP),
        (f"//www.example.com:8080{PATH}#here", HTTP),
        ("https://www.example.com", Asked("https", 8443, "/")),
        ("/a?b=c&d", Asked("http", 8080, "/a?b=c&d")),
        ("?acmeistio-pass", Asked("http", 8080, f"{PATH}?acmeistio-pass")),
        ("https://example.com/", None),
        ("https://127.0.0.1/", None),
        ("https://www.example.com:80/", None),
    ],
)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_the_same_host_leads_on(status: int, location: str, to: Asked | None) -> None:
    """At the gateway's own ports, to which no redirect can add."""
    assert onward(NAME, GATEWAY, Hop(HTTP, Answered(status, location))) == to


@pytest.mark.parametrize(
    ("name", "location", "to"),
    [
        ("2001:db8::7", f"https://[2001:db8::7]{PATH}", HTTPS),
        ("2001:db8::7", f"https://[2001:DB8::7]:443{PATH}", HTTPS),
        ("2001:db8::7", "/a", Asked("http", 8080, "/a")),
        ("2001:db8::7", "https://[2001:db8::8]/", None),
        ("2001:db8::7", "https://2001:db8::7/", None),
        ("203.0.113.7", f"https://203.0.113.7{PATH}", HTTPS),
        ("203.0.113.7", "https://203.0.113.8/", None),
    ],
)
def test_a_redirect_to_the_same_address_leads_on(
    name: str, location: str, to: Asked | None
) -> None:
    """An address is a host like others, an IPv6 one in brackets (RFC 3986 §3.2.2, RFC 8738)."""
    assert onward(DnsName(name), GATEWAY, Hop(HTTP, Answered(302, location))) == to


@pytest.mark.parametrize(
    "came",
    [Answered(200, "/a"), Answered(304, "/a"), Answered(302), Broken(How.RESET, "closed")],
)
def test_other_answers_lead_nowhere(came: Answered | Broken) -> None:
    """Only a redirect with a Location does."""
    assert onward(NAME, GATEWAY, Hop(HTTP, came)) is None
