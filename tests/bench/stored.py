"""What acmeistio is given and what it must leave behind: Ingress manifests in, Secrets out.

Owns the check that every Secret is what the CA issued: the clock of a run may only count if the
certificates are real.
"""

from __future__ import annotations

import base64
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from pebble.local_ca import LocalCa
from tests.bench.cases import Case

NAMESPACE = "istio-system"


class NotAsOrdered(Exception):
    """A Secret is missing, or holds something else than the CA's certificate."""


def write_manifests(folder: Path, case: Case) -> None:
    """One Ingress for each certificate."""
    folder.mkdir()
    for number, names in enumerate(case.orders()):
        text = yaml.safe_dump(_ingress(number, names), sort_keys=False)
        (folder / f"{_secret_name(number)}.yaml").write_text(text)


def _secret_name(number: int) -> str:
    return f"bench-{number}"


def _ingress(number: int, names: tuple[str, ...]) -> object:
    backend = {"service": {"name": "web", "port": {"number": 80}}}
    paths = [{"path": "/", "pathType": "Prefix", "backend": backend}]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {
            "name": f"web-{number}",
            "namespace": "default",
            "annotations": {
                "kubernetes.io/ingress.class": "istio",
                "acmeistio.io/tls": "true",
            },
        },
        "spec": {
            "rules": [{"host": name, "http": {"paths": paths}} for name in names],
            "tls": [{"hosts": list(names), "secretName": _secret_name(number)}],
        },
    }


def check_secrets(folder: Path, case: Case, ca: LocalCa) -> None:
    """Every Secret and its PEM pair hold a certificate of this CA. Raises NotAsOrdered."""
    intermediate = x509.load_pem_x509_certificate(ca.intermediate_pem())
    intermediate.verify_directly_issued_by(x509.load_pem_x509_certificate(ca.root_pem()))
    for number, names in enumerate(case.orders()):
        name = _secret_name(number)
        try:
            _check_pair(*_pair(folder / NAMESPACE, name), names, intermediate)
        except Exception as error:
            raise NotAsOrdered(f"Secret {name}: {type(error).__name__}: {error}") from error


def _pair(folder: Path, name: str) -> tuple[bytes, bytes]:
    """Chain and key, the same in the Secret as in the files made from it."""
    secret = yaml.load((folder / f"{name}.secret.yaml").read_text(), yaml.CSafeLoader)
    chain, key = ((folder / name / part).read_bytes() for part in ("tls.crt", "tls.key"))
    data = {part: base64.b64decode(secret["data"][part]) for part in ("tls.crt", "tls.key")}
    if data != {"tls.crt": chain, "tls.key": key}:
        raise ValueError("its PEM files hold something else")
    return chain, key


def _check_pair(
    chain: bytes, key: bytes, names: tuple[str, ...], intermediate: x509.Certificate
) -> None:
    leaf, *_ = x509.load_pem_x509_certificates(chain)
    leaf.verify_directly_issued_by(intermediate)
    alternatives = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    if sorted(alternatives.get_values_for_type(x509.DNSName)) != sorted(names):
        raise ValueError("the names are not those that were declared")
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    own = load_pem_private_key(key, None).public_key().public_bytes(*form)
    if own != leaf.public_key().public_bytes(*form):
        raise ValueError("key and certificate do not match")
