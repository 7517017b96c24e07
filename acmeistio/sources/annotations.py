"""The annotations of acmeistio: the same words on every kind of object.

Owns their spelling, their values and what is said about a wrong one. Values are exact: nothing
is guessed, because a guess that is wrong shows only when the certificate does.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from acmeistio.model import Installation, KeyType, ObjectRef
from acmeistio.names import DnsName, InvalidName, is_ip_address, parse_name
from acmeistio.reasons import Defect, Reason, defect

PREFIX = "acmeistio.io/"
TLS = PREFIX + "tls"
DOMAINS = PREFIX + "domains"
SECRET_NAME = PREFIX + "secret-name"
ISSUER = PREFIX + "issuer"
KEY_TYPE = PREFIX + "key-type"
PROFILE = PREFIX + "profile"
KNOWN = (TLS, DOMAINS, SECRET_NAME, ISSUER, KEY_TYPE, PROFILE)

TLS_ACME = "kubernetes.io/tls-acme"
"""The field's older word; counts only where the installation honours it."""
CERT_MANAGER_PREFIX = "cert-manager.io/"

_SECRET_NAME = re.compile(
    r"(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
)
_SEPARATOR = re.compile(r"[,\s]+")
_POSSIBLE_KEY_TYPES = f"{', '.join(KeyType)}; of each kind one, as in rsa-4096,ecdsa-p384"
_COMMA = re.compile(r", ?")
_PROFILE = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True, slots=True)
class Wish:
    """What the annotations of one object ask for; None is no opinion.

    `domains` None: the hosts that the object names itself. `second_key_type` is of the other kind,
    RSA or ECDSA, than `key_type`, for the other Secret of a pair.
    """

    domains: tuple[DnsName, ...] | None = None
    secret_name: str | None = None
    issuer: str | None = None
    key_type: KeyType | None = None
    profile: str | None = None
    second_key_type: KeyType | None = None


def read_wish(
    ref: ObjectRef, annotations: Mapping[str, str], installation: Installation
) -> tuple[Wish | None, tuple[Defect, ...]]:
    """The wish of an object and the Defects of its annotations.

    The wish is None when the object asks for nothing, or when one of its parameters is wrong:
    a certificate other than the one asked for is no help.
    """
    if refuses(annotations):
        return None, ()
    unknown = _unknown(ref, annotations)
    if not asks(annotations, installation):
        return None, unknown
    wrong = _wrong_values(ref, annotations, installation)
    domains, wrong_names = _domains(ref, annotations)
    defects = unknown + wrong + wrong_names
    if wrong:
        return None, defects
    if domains == ():
        return None, defects if wrong_names else (*defects, defect(Reason.NoNames, ref))
    key_type, second_key_type = _key_types(annotations.get(KEY_TYPE, "")) or (None, None)
    wish = Wish(
        domains=domains,
        secret_name=annotations.get(SECRET_NAME),
        issuer=annotations.get(ISSUER),
        key_type=key_type,
        profile=annotations.get(PROFILE),
        second_key_type=second_key_type,
    )
    return wish, defects


def refuses(annotations: Mapping[str, str]) -> bool:
    """Whether an object says that nothing of it shall have a certificate."""
    return annotations.get(TLS) == "false"


def parse_names(
    ref: ObjectRef, texts: Iterable[str]
) -> tuple[tuple[DnsName, ...], tuple[Defect, ...]]:
    """The names in `texts`, each once, in their order, and a Defect for each text that is none.

    They may be IP addresses.
    """
    names: dict[DnsName, None] = {}
    defects: list[Defect] = []
    for text in texts:
        try:
            names[parse_name(text)] = None
        except InvalidName as error:
            defects.append(defect(Reason.InvalidName, ref, name=text or '""', why=error))
    return tuple(names), tuple(dict.fromkeys(defects))


def parse_hosts(
    ref: ObjectRef, texts: Iterable[str]
) -> tuple[tuple[DnsName, ...], tuple[Defect, ...]]:
    """The same for hosts of an object, none of which can be an IP address."""
    names, defects = parse_names(ref, texts)
    addresses = tuple(
        defect(
            Reason.IPAddressUnsupported,
            ref,
            name=name,
            why="which no host of an Ingress, Gateway or route can be",
            advice=f"Write it in {DOMAINS}, with a {PROFILE} that has IP addresses "
            "(of Let's Encrypt: shortlived).",
        )
        for name in names
        if is_ip_address(name)
    )
    return tuple(name for name in names if not is_ip_address(name)), addresses + defects


def is_secret_name(text: str) -> bool:
    """Whether Kubernetes takes `text` as the name of a Secret (a DNS subdomain)."""
    return _SECRET_NAME.fullmatch(text) is not None


def is_reserved(secret_name: str) -> bool:
    """Whether a Secret of this name could be mistaken for acmeistio's own objects or files."""
    return secret_name.startswith("acmeistio-") or secret_name.endswith((".yaml", ".json"))


def asks(annotations: Mapping[str, str], installation: Installation) -> bool:
    """Whether the annotations of an object ask for a certificate."""
    if refuses(annotations):
        return False
    if TLS in annotations or DOMAINS in annotations:
        return True
    beside_cert_manager = any(key.startswith(CERT_MANAGER_PREFIX) for key in annotations)
    older_word = annotations.get(TLS_ACME) == "true" and installation.honours_tls_acme
    return older_word and not beside_cert_manager


def _unknown(ref: ObjectRef, annotations: Mapping[str, str]) -> tuple[Defect, ...]:
    return tuple(
        defect(Reason.UnknownAnnotation, ref, annotation=key, advice=_advice(key))
        for key in sorted(annotations)
        if key.startswith(PREFIX) and key not in KNOWN
    )


def _advice(key: str) -> str:
    words = [known.removeprefix(PREFIX) for known in KNOWN]
    close = difflib.get_close_matches(key.removeprefix(PREFIX).lower(), words, n=1)
    return f"Did you mean {PREFIX}{close[0]}?" if close else f"Known are: {', '.join(KNOWN)}."


def _wrong_values(
    ref: ObjectRef, annotations: Mapping[str, str], installation: Installation
) -> tuple[Defect, ...]:
    """One Defect for each parameter whose value is not one of those possible."""
    defects: list[Defect] = []

    def check(key: str, good: bool, possible: str) -> None:
        if key in annotations and not good:
            value = f'"{annotations[key]}"'
            defects.append(
                defect(
                    Reason.InvalidAnnotation, ref, annotation=key, value=value, possible=possible
                )
            )

    value = annotations.get
    check(TLS, value(TLS) in ("true", "false"), '"true", "false"')
    check(KEY_TYPE, _key_types(value(KEY_TYPE, "")) is not None, _POSSIBLE_KEY_TYPES)
    check(PROFILE, bool(_PROFILE.fullmatch(value(PROFILE, ""))), "the name of a profile of the CA")
    if SECRET_NAME in annotations and not is_secret_name(annotations[SECRET_NAME]):
        defects.append(defect(Reason.InvalidSecretName, ref, name=f'"{annotations[SECRET_NAME]}"'))
    if ISSUER in annotations and annotations[ISSUER] not in installation.issuers:
        known = ", ".join(sorted(installation.issuers))
        defects.append(
            defect(Reason.UnknownIssuer, ref, issuer=f'"{annotations[ISSUER]}"', known=known)
        )
    return tuple(defects)


def _key_types(text: str) -> tuple[KeyType, KeyType | None] | None:
    """One key type, or one of each kind with a comma between; None for anything else."""
    try:
        first, *others = map(KeyType, _COMMA.split(text))
    except ValueError:
        return None
    if not others:
        return first, None
    is_pair = len(others) == 1 and first.is_rsa != others[0].is_rsa
    return (first, others[0]) if is_pair else None


def _domains(
    ref: ObjectRef, annotations: Mapping[str, str]
) -> tuple[tuple[DnsName, ...] | None, tuple[Defect, ...]]:
    if DOMAINS not in annotations:
        return None, ()
    return parse_names(ref, _SEPARATOR.sub(" ", annotations[DOMAINS]).split())
