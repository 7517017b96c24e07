"""What acmeistio is given and what it must leave behind: Ingress manifests in, Secrets out.

Owns the check that every Secret is what the CA issued: the clock of a run may only count if the
certificates are real.
"""

from __future__ import annotations

import base64
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
AGREEMENT_SECONDS = 5.0


class NotAsOrdered(Exception):
    """A Secret is missing, or holds something else than the CA's certificate."""


def write_manifests(folder: Path, case: Case) -> None:
    """One Ingress for each certificate."""
    folder.mkdir()
    for number, names in enumerate(case.orders()):
        text = yaml.safe_dump(ingress(number, names), sort_keys=False)
        (folder / f"{secret_name(number)}.yaml").write_text(text)


def secret_name(number: int) -> str:
    """The target of one certificate."""
    return f"bench-{number}"


def ingress(number: int, names: tuple[str, ...]) -> dict[str, Any]:
    """What declares one certificate."""
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
            "tls": [{"hosts": list(names), "secretName": secret_name(number)}],
        },
    }


def check_secrets(folder: Path, case: Case, ca: LocalCa) -> float:
    """Every Secret, and what is made from it, holds a certificate of this CA.

    Returns when the last of those files was written (epoch). Raises NotAsOrdered.
    """
    intermediate = x509.load_pem_x509_certificate(ca.intermediate_pem())
    intermediate.verify_directly_issued_by(x509.load_pem_x509_certificate(ca.root_pem()))
    written = 0.0
    for number, names in enumerate(case.orders()):
        files = _Files(folder / NAMESPACE, secret_name(number))
        try:
            _wait_for_agreement(files)
            check_pair(*files.pair(), names, intermediate)
            written = max(written, files.written())
        except Exception as error:
            raise NotAsOrdered(f"{files}: {type(error).__name__}: {error}") from error
    return written


@dataclass(frozen=True)
class _Files:
    """The Secret as it is stored, and the files for servers, which may follow a moment later."""

    folder: Path
    name: str

    def __str__(self) -> str:
        return f"Secret {self.name}"

    def _paths(self) -> tuple[Path, Path, Path]:
        pem = self.folder / self.name
        return pem / "tls.crt", pem / "tls.key", self.folder / f"{self.name}.sds.json"

    def pair(self) -> tuple[bytes, bytes]:
        """Chain and key of the Secret."""
        text = (self.folder / f"{self.name}.secret.yaml").read_text()
        data = yaml.load(text, yaml.CSafeLoader)["data"]
        return base64.b64decode(data["tls.crt"]), base64.b64decode(data["tls.key"])

    def agree(self) -> bool:
        """Whether the files for servers hold the Secret's pair."""
        chain, key, sds = (path.read_bytes() for path in self._paths())
        resource = json.loads(sds)["resources"][0]["tls_certificate"]
        inline = tuple(
            resource[part]["inline_string"].encode()
            for part in ("certificate_chain", "private_key")
        )
        return (chain, key) == inline == self.pair()

    def written(self) -> float:
        """When the last of the files for servers was written."""
        return max(path.stat().st_mtime for path in self._paths())


def _wait_for_agreement(files: _Files) -> None:
    deadline = time.monotonic() + AGREEMENT_SECONDS
    while not files.agree():
        if time.monotonic() > deadline:
            raise TimeoutError("the files for servers hold something else")
        time.sleep(0.02)


def check_pair(
    chain: bytes, key: bytes, names: tuple[str, ...], intermediate: x509.Certificate
) -> None:
    """Raises ValueError unless it is a certificate of this CA for exactly these names."""
    leaf, *_ = x509.load_pem_x509_certificates(chain)
    leaf.verify_directly_issued_by(intermediate)
    alternatives = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    if sorted(alternatives.get_values_for_type(x509.DNSName)) != sorted(names):
        raise ValueError("the names are not those that were declared")
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    own = load_pem_private_key(key, None).public_key().public_bytes(*form)
    if own != leaf.public_key().public_bytes(*form):
        raise ValueError("key and certificate do not match")
