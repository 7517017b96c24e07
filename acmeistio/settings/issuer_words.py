"""The words of the file of issuers, each with the values that it may have.

Owns how an Issuer is made of them; knows nothing of files, nor of what is said about a wrong one
(settings/issuers.py).
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from acmeistio.issuer import BUILT_IN, ExternalAccount, Issuer, Limit, Limits, Profile

OWN_PREFIX = "acmeistio-"
EAB_SECRET = OWN_PREFIX + "eab-{}"
"""The Secret that an external account's MAC key is looked for in, unless the file names one."""
_WRITTEN_PREFIXES = (OWN_PREFIX + "account-", OWN_PREFIX + "pending-")
"""Names of Secrets that acmeistio writes itself."""

LONGEST = timedelta(days=3653)
"""No limit counts over more than ten years: an instant beyond that would be out of range."""

_DURATION = re.compile(r"([0-9]{1,9})(ms|s|m|h|d)")
_UNITS = {
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
}


def _matching(pattern: str, meaning: str) -> AfterValidator:
    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"{text!r} is not {meaning}")
        return text

    return AfterValidator(check)


def _duration(value: object) -> timedelta:
    """`36s` as a timedelta."""
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None or not int(match[1]):
        raise ValueError(f"{value!r} is no duration such as 5ms, 36s, 202m, 1h or 7d")
    return int(match[1]) * _UNITS[match[2]]


def _own_secret(name: str) -> str:
    if not name.startswith(OWN_PREFIX) or name.startswith(_WRITTEN_PREFIXES):
        raise ValueError(
            f"{name!r} must begin with {OWN_PREFIX}, and not as the accounts and pending keys do, "
            f"for example {EAB_SECRET.format('NAME')}"
        )
    return name


IssuerName = Annotated[
    str,
    _matching(
        r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?",
        "a name of lower-case letters, digits and '-', at most 63",
    ),
]
HttpsUrl = Annotated[
    str,
    _matching(r"https://[^\s/].*", "a CA's directory, which is an https:// URL (RFC 8555 §6.1)"),
]
ProfileName = Annotated[
    str, _matching(r"[A-Za-z0-9._-]{1,64}", "the name of a profile: letters, digits, '.', '_', '-'")
]
_SecretName = Annotated[
    str,
    _matching(
        r"(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*",
        "a name that a Secret can have",
    ),
    AfterValidator(_own_secret),
]
_Text = Annotated[str, Field(min_length=1)]
_Count = Annotated[int, Field(ge=1, le=1_000_000)]


class Words(BaseModel):
    """What a mapping of the file may say, in camelCase."""

    model_config = ConfigDict(
        extra="forbid", alias_generator=to_camel, validate_by_name=True, frozen=True
    )

    @property
    def said(self) -> dict[str, Any]:
        """The values that the file has, without defaults."""
        return {field: getattr(self, field) for field in self.model_fields_set}


class LimitWords(Words):
    """So many at once, then another one each time that `every` has passed."""

    burst: _Count
    every: Annotated[timedelta, BeforeValidator(_duration)]

    @model_validator(mode="after")
    def _bounded(self) -> LimitWords:
        if self.every > LONGEST / self.burst:
            raise ValueError("burst times every is longer than ten years")
        return self

    @property
    def limit(self) -> Limit:
        """The Limit that it says."""
        return Limit(self.burst, self.every)


class LimitsWords(Words):
    """What the CA lets one client do; null where it has no limit."""

    orders: LimitWords | None = None
    certificates_per_domain: LimitWords | None = None
    certificates_per_set: LimitWords | None = None
    failures: LimitWords | None = None
    failures_in_a_row: LimitWords | None = None
    requests: LimitWords | None = None
    nonces: LimitWords | None = None
    exempts_renewals: bool = True

    def over(self, base: Limits) -> Limits:
        """The limits of `base`, with those that it says itself."""
        said: dict[str, Any] = {
            word: value.limit if isinstance(value, LimitWords) else value
            for word, value in self.said.items()
        }
        return replace(base, **said)


class ExternalAccountWords(Words):
    """The account that the CA's customer has elsewhere; its MAC key lies in a Secret."""

    key_id: _Text
    secret_name: _SecretName | None = None


class ProfileWords(Words):
    """What a certificate of a profile has room for."""

    max_names: _Count
    ip_addresses: bool = False


class IssuerEntry(Words):
    """One item of the file; what it leaves out is the built-in issuer's, or a default."""

    name: IssuerName
    directory: HttpsUrl | None = None
    email: _Text | None = None
    external_account: ExternalAccountWords | None = None
    ca_bundle: _Text | None = None
    preferred_chain: _Text | None = None
    profile: ProfileName | None = None
    profiles: dict[ProfileName, ProfileWords] = {}
    fallback: IssuerName | None = None
    trusted: bool = True
    max_names: _Count = 100
    ip_addresses: bool = False
    limits: LimitsWords = LimitsWords()

    @property
    def issuer(self) -> Issuer:
        """The issuer that it describes. Raises ValueError where nothing says where that is."""
        base = _at(self.name, self.directory)
        plain = ("email", "ca_bundle", "preferred_chain", "profile", "fallback", "trusted")
        changes = {word: self.said[word] for word in (*plain, "max_names") if word in self.said}
        return replace(
            base,
            **changes,
            profiles={**base.profiles, **self._profiles},
            limits=self.limits.over(base.limits),
            external_account=self._external_account,
        )

    @property
    def _profiles(self) -> dict[str, Profile]:
        """The profiles it says; a certificate without one is of the profile "" (issuer.py)."""
        unnamed = {"": Profile(self.max_names, ip_addresses=True)} if self.ip_addresses else {}
        named = {name: Profile(**words.model_dump()) for name, words in self.profiles.items()}
        return {**unnamed, **named}

    @property
    def _external_account(self) -> ExternalAccount | None:
        words = self.external_account
        if words is None:
            return None
        return ExternalAccount(words.key_id, words.secret_name or EAB_SECRET.format(self.name))


def _at(name: str, directory: str | None) -> Issuer:
    """What is known of an issuer by where it is: a CA is its directory, not its name.

    One that is built in and put elsewhere has no limits and profiles that anybody knows; whether
    it is trusted goes by its name.
    """
    built_in = BUILT_IN.get(name)
    url = directory or (built_in.directory_url if built_in else None)
    if url is None:
        raise ValueError(
            f"issuer {name} is not built in (built in: {', '.join(BUILT_IN)}); say where its ACME "
            "directory is: with --directory, or with directory in the file of --issuers"
        )
    same = next((issuer for issuer in BUILT_IN.values() if issuer.directory_url == url), None)
    if same:
        return replace(same, name=name)
    return Issuer(name, url, trusted=built_in.trusted if built_in else True)
