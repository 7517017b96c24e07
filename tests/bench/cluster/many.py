"""Many certificates with their Secrets in an API server, beside the bare client, which has none.

The Secrets lie in a gateway namespace of their own, in which every name is granted. Istio's kinds
are there, Istio is not: the CA asks acmeistio directly, as it does in the bench without a cluster.
What is compared is the program.
"""

from __future__ import annotations

import base64
import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from pebble.local_ca import LocalCa
from tests.bench.cases import Case, Memory, Sample
from tests.bench.processes import Acmeistio, run_bare
from tests.bench.runs import SETTLE_SECONDS, fresh_ca, last_of
from tests.bench.stored import check_pair, ingress, secret_name
from tests.cluster import seed
from tests.cluster.api import objects_of
from tests.cluster.bed import INSTALL, NAMESPACE, USER
from tests.cluster.control_plane import ControlPlane

EDGE = "edge"
_RBAC = {"ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"}
_GRANTED_IN_EDGE = f"""
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: acmeistio, namespace: {EDGE}}}
rules:
  - apiGroups: [""]
    resources: [secrets]
    verbs: [create, list, watch, update]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: acmeistio, namespace: {EDGE}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: acmeistio}}
subjects: [{{kind: ServiceAccount, name: acmeistio, namespace: {NAMESPACE}}}]
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: istio, namespace: {NAMESPACE}}}
data: {{mesh: ""}}
"""


@dataclass(frozen=True)
class Many:
    """One run of both; requests are of acmeistio, to the API server."""

    bare: Sample
    acmeistio: Sample
    memory: Memory
    requests: dict[str, int]
    requests_per_minute_at_rest: float


def measure(folder: Path, case: Case, rest_seconds: float, tell: Callable[[str], None]) -> Many:
    """The bare client, then acmeistio, each with a CA of its own."""
    with fresh_ca(case) as ca:
        bare = run_bare(ca, case)
    tell(f"bare: {bare.seconds_from_ready:.2f} s")
    with ControlPlane(folder, seed=seed.FOLDER) as plane, fresh_ca(case) as ca:
        _furnish(plane, case)
        place = {
            "kubeconfig": str(plane.kubeconfig(plane.token_of(NAMESPACE, "acmeistio"))),
            "issuer": "letsencrypt-staging",
            "gateways": json.dumps([{"namespace": EDGE}]),
            "secrets-granted": "*",
            # There is no gateway: nothing is to be routed, and nobody can be asked.
            "routing": "off",
            "probe": "off",
        }
        with Acmeistio(ca, place, folder / "acmeistio.log") as process:
            issued = process.wait_for(
                lambda events: last_of(case.certificates, events),
                f"{case.certificates} certificates were stored",
                case.deadline_seconds,
            )
            sample = process.sample(issued)
            tell(f"acmeistio: {sample.seconds_from_ready:.2f} s")
            _check(plane, case, ca)
            time.sleep(SETTLE_SECONDS)
            memory, requests = process.memory(), _requests(plane)
            tell(f"at rest for {rest_seconds:.0f} s")
            time.sleep(rest_seconds)
            later = _requests(plane).total() - requests.total()
        return Many(bare, sample, memory, dict(requests), later * 60 / rest_seconds)


def _furnish(plane: ControlPlane, case: Case) -> None:
    """What is installed, but for the policy, which knows the default Secret's name only."""
    for name in (NAMESPACE, EDGE):
        plane.api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    for body in objects_of(INSTALL.read_text()):
        if body["kind"] in _RBAC:
            plane.api.create(body)
    plane.api.apply(_GRANTED_IN_EDGE)
    for number, names in enumerate(case.orders()):
        plane.api.create(ingress(number, names))


def _check(plane: ControlPlane, case: Case, ca: LocalCa) -> None:
    """Every Secret holds a certificate of this CA. Raises ValueError."""
    intermediate = x509.load_pem_x509_certificate(ca.intermediate_pem())
    for number, names in enumerate(case.orders()):
        data = plane.api.get("Secret", EDGE, secret_name(number))["data"]
        chain, key = (base64.b64decode(data[part]) for part in ("tls.crt", "tls.key"))
        check_pair(chain, key, names, intermediate)


def _requests(plane: ControlPlane) -> Counter[str]:
    """How often acmeistio asked for what, until now."""
    asked = (event for event in plane.audit(USER))
    return Counter(f"{event['verb']} {event['objectRef']['resource']}" for event in asked)
