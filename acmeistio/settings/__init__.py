"""The settings of an installation: environment `ACMEISTIO_*`, overridden by command line options.

Owns names, defaults and validation; all mistakes are reported at once.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, PrivateAttr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from acmeistio.errors import Misconfigured
from acmeistio.issuer import Issuer
from acmeistio.model import (
    GatewayWorkload,
    IngressMode,
    Installation,
    ObjectRef,
    Probing,
    Routing,
)
from acmeistio.names import DnsName, parse_name
from acmeistio.settings.gateways import DNS_LABEL, gateway_entries
from acmeistio.settings.issuer_words import HttpsUrl, IssuerEntry, IssuerName, ProfileName
from acmeistio.settings.issuers import known_issuers

ENV_PREFIX = "ACMEISTIO_"
_OF_A_SERVICE = re.compile(r"_(PORT(_[0-9]+.*)?|SERVICE_(HOST|PORT.*))$")

MESH_NAMESPACE = "istio-system"
ANY_SECRET = "*"
NO_CLASS = "none"
SECRET_NAME = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"


class LogFormat(StrEnum):
    """How log lines look; auto is text on a terminal and JSON elsewhere."""

    AUTO = "auto"
    TEXT = "text"
    JSON = "json"


def _listen(text: str) -> str:
    host, separator, port = text.rpartition(":")
    if not separator or not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65535:  # noqa: PLR2004
        raise ValueError("an address to listen on is HOST:PORT or :PORT")
    return f"{host.strip('[]')}:{port}"


def _namespaced(text: str) -> str:
    namespace, separator, name = text.partition("/")
    if not (separator and re.match(DNS_LABEL, namespace) and re.match(SECRET_NAME, name)):
        raise ValueError("an object is named by NAMESPACE/NAME")
    return text


def _secret_names(text: str | None) -> str | None:
    for word in _words(text or "") if text != ANY_SECRET else ():
        if not re.match(SECRET_NAME, word):
            raise ValueError(f"{word} is no name that a Secret can have")
    return text


def _domains(text: str | None) -> str | None:
    for word in _words(text or ""):
        parse_name(word)
    return text


def _gateways(text: str | None) -> str | None:
    if text is not None:
        gateway_entries(text)
    return text


def _words(text: str) -> list[str]:
    return re.sub(r"[,\s]+", " ", text).split()


class Settings(BaseSettings):
    """What `acmeistio run` is told: with folders it works on those, without in the cluster."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, env_ignore_empty=True, extra="forbid")

    manifests: Path | None = None
    secrets: Path | None = None
    kubeconfig: Path | None = None
    context: str | None = None
    namespace: Annotated[str, Field(pattern=DNS_LABEL)] = "istio-system"
    issuer: IssuerName
    issuers: Path | None = None
    directory: HttpsUrl | None = None
    ca_bundle: Path | None = None
    email: str | None = None
    profile: ProfileName | None = None
    gateway_namespace: Annotated[str, Field(pattern=DNS_LABEL)] = "istio-system"
    gateways: Annotated[str | None, AfterValidator(_gateways)] = None
    routing: Routing = Routing.FILTER
    probe: Probing = Probing.GATE
    root_namespace: Annotated[str, Field(pattern=DNS_LABEL)] = "istio-system"
    gateway_class: Annotated[str, Field(pattern=DNS_LABEL)] = "istio"
    cluster_domain: Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")] = (
        "cluster.local"
    )
    default_secret: Annotated[str, Field(pattern=SECRET_NAME, max_length=253)] = (
        "istio-ingress-certs"
    )
    secrets_granted: Annotated[str | None, AfterValidator(_secret_names)] = None
    domains_allowed: Annotated[str | None, AfterValidator(_domains)] = None
    mesh_config: Annotated[str, AfterValidator(_namespaced)] = "istio-system/istio"
    ingress_mode: IngressMode | None = None
    ingress_class: str | None = None
    tls_acme: bool = False
    challenge_listen: Annotated[str, AfterValidator(_listen)] = ":8080"
    admin_listen: Annotated[str, AfterValidator(_listen)] = "127.0.0.1:9090"
    concurrent_orders: Annotated[int, Field(ge=1, le=100)] = 8
    log_format: LogFormat = LogFormat.AUTO
    log_level: Annotated[str, Field(pattern="^(debug|info|warning|error)$")] = "info"
    _issuers: dict[str, Issuer] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _described_issuers(self) -> Settings:
        """Once, at start: the file may be another one later."""
        bundle = str(self.ca_bundle) if self.ca_bundle else None
        options = {"directory": self.directory, "ca_bundle": bundle}
        said = {**options, "email": self.email, "profile": self.profile}
        own: dict[str, Any] = {word: value for word, value in said.items() if value}
        self._issuers = known_issuers(self.issuers, IssuerEntry(name=self.issuer, **own))
        return self

    @model_validator(mode="after")
    def _coherent(self) -> Settings:
        if self.default_secret.startswith("acmeistio-"):
            raise ValueError("--default-secret: names that begin with acmeistio- are acmeistio's")
        if (self.manifests is None) != (self.secrets is None):
            raise ValueError(
                "--manifests and --secrets go together; without them acmeistio works in the cluster"
            )
        return self

    @model_validator(mode="after")
    def _separate_folders(self) -> Settings:
        if self.manifests is None or self.secrets is None:
            return self
        if self.kubeconfig:
            raise ValueError("--kubeconfig is of no use beside --manifests and --secrets")
        if not self.manifests.is_dir():
            raise ValueError(f"the manifests folder {self.manifests} does not exist")
        manifests, secrets = self.manifests.resolve(), self.secrets.resolve()
        if manifests.is_relative_to(secrets) or secrets.is_relative_to(manifests):
            raise ValueError(
                f"--manifests {self.manifests} and --secrets {self.secrets} lie one in the other; "
                "what is read and what is written need folders of their own"
            )
        return self

    @model_validator(mode="after")
    def _bounded_rights(self) -> Settings:
        served = {workload.namespace for workload in self.gateway_workloads}
        closed = {MESH_NAMESPACE, self.root_namespace, self.namespace} & served
        if self.secrets_granted == ANY_SECRET and not self.embedded and closed:
            raise ValueError(
                f"--secrets-granted '*' would read every Secret of {min(closed)}, where the mesh's "
                "CA or acmeistio keeps its keys; name the Secrets, or give the gateway its own "
                "namespace"
            )
        granted = self._granted
        if granted is not None and self.default_secret not in granted:
            raise ValueError(
                f"--secrets-granted {self.secrets_granted} lacks the default Secret "
                f"{self.default_secret}"
            )
        return self

    @model_validator(mode="after")
    def _one_list_of_gateways(self) -> Settings:
        if self.gateways and "gateway_namespace" in self.model_fields_set:
            raise ValueError(
                "--gateway-namespace is of no use beside --gateways, which say where each runs"
            )
        return self

    @property
    def gateway_workloads(self) -> tuple[GatewayWorkload, ...]:
        """All gateways; the first is that of names that nothing tells the gateway of."""
        if self.gateways:
            return tuple(entry.workload(self.routing) for entry in gateway_entries(self.gateways))
        return (GatewayWorkload(namespace=self.gateway_namespace, routing=self.routing),)

    @property
    def embedded(self) -> bool:
        """Whether it works on folders and not in a cluster."""
        return self.manifests is not None

    @property
    def state_namespace(self) -> str:
        """Where accounts, ledger and pending keys lie."""
        return self.gateway_workloads[0].namespace if self.embedded else self.namespace

    @property
    def _granted(self) -> frozenset[str] | None:
        if self.embedded or self.secrets_granted == ANY_SECRET:
            return None
        return frozenset(_words(self.secrets_granted or self.default_secret))

    @property
    def _allowed(self) -> frozenset[DnsName] | None:
        if self.domains_allowed is None:
            return None
        domains = (word.removeprefix("*.") for word in _words(self.domains_allowed))
        return frozenset(parse_name(domain) for domain in domains)

    @property
    def _mesh_config(self) -> ObjectRef | None:
        """The mesh's own word counts where the settings have none."""
        if self.embedded or self.ingress_mode or self.ingress_class:
            return None
        namespace, _, name = self.mesh_config.partition("/")
        return ObjectRef("ConfigMap", namespace, name)

    @property
    def installation(self) -> Installation:
        """What the core needs of it."""
        return Installation(
            issuers=self._issuers,
            default_issuer=self.issuer,
            namespace=self.namespace,
            gateways=self.gateway_workloads,
            root_namespace=self.root_namespace,
            gateway_class=None if self.gateway_class == NO_CLASS else self.gateway_class,
            cluster_domain=self.cluster_domain,
            routing=self.routing,
            probing=Probing.OFF if self.embedded else self.probe,
            default_secret=self.default_secret,
            ingress_mode=self.ingress_mode or IngressMode.STRICT,
            ingress_class=self.ingress_class or "istio",
            mesh_config=self._mesh_config,
            secrets_granted=self._granted,
            domains_allowed=self._allowed,
            honours_tls_acme=self.tls_acme,
        )


def load_settings(options: dict[str, Any]) -> Settings:
    """The settings from the environment and `options` (None: not given). Raises Misconfigured."""
    try:
        return Settings(**{key: value for key, value in options.items() if value is not None})
    except ValidationError as error:
        raise Misconfigured("; ".join(_sentence(item) for item in error.errors())) from error


def unknown_variables(environment: Iterable[str]) -> dict[str, str]:
    """Variables that look like settings and are none, each with what to do.

    Those that Kubernetes makes of a Service called acmeistio don't count.
    """
    known = [ENV_PREFIX + field.upper() for field in Settings.model_fields]
    return {
        name: _advice(name, known)
        for name in sorted(environment)
        if name.startswith(ENV_PREFIX) and name not in known and not _OF_A_SERVICE.search(name)
    }


def _advice(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
    return f"Did you mean {close[0]}?" if close else "acmeistio run --help has all settings."


def _sentence(item: Any) -> str:
    option = "--" + str(item["loc"][0]).replace("_", "-") if item["loc"] else ""
    if item["type"] == "missing":
        return f"{option} is missing (or ACMEISTIO_{str(item['loc'][0]).upper()})"
    message = item["msg"].removeprefix("Value error, ")
    return f"{option} {item['input']!r}: {message}" if option else message
