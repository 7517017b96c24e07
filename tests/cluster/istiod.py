"""istiod, Istio's control plane, as a child process beside an API server.

Owns its flags, ports and certificate. Debounce and delta xDS are at their defaults; switched off is
only what needs pods, images or certificates of workloads. Knows nothing of what users declare.
"""

from __future__ import annotations

import urllib.request
from pathlib import Path

from pebble.processes import CACHE, LOOPBACK, Child, free_ports, listens
from pebble.self_signed import self_signed

READY_SECONDS = 60.0
"""Two seconds on a quiet machine."""
REQUEST_SECONDS = 5.0

_ENVIRONMENT = {
    "POD_NAME": "istiod",
    "POD_NAMESPACE": "istio-system",
    "CLUSTER_ID": "Kubernetes",
    # No certificates of workloads: there are none, and Envoy gets its configuration in the clear.
    "ENABLE_CA_SERVER": "false",
    "PILOT_CERT_PROVIDER": "none",
    "XDS_AUTH_PLAINTEXT": "true",
    # No injection, and nobody to hand the webhooks' certificates to: the bed writes them itself.
    "INJECT_ENABLED": "false",
    "VALIDATION_WEBHOOK_CONFIG_NAME": "",
    "INJECTION_WEBHOOK_CONFIG_NAME": "",
    "ENABLE_LEADER_ELECTION": "false",
    # It would make Deployments, for which nobody makes pods.
    "PILOT_ENABLE_GATEWAY_API_DEPLOYMENT_CONTROLLER": "false",
    # Filters that only Istio's own Envoy has.
    "PILOT_ENABLE_ALPN_FILTER": "false",
    "PILOT_ENABLE_METADATA_EXCHANGE": "false",
}


class Istiod:
    """One istiod. `mesh_config` is the text of its mesh configuration; files go to `folder`.

    One of a `revision` reads the objects that are labelled so, and those that are not labelled.
    """

    def __init__(
        self, folder: Path, *, kubeconfig: Path, mesh_config: str, revision: str = ""
    ) -> None:
        self._environment = {**_ENVIRONMENT, **({"REVISION": revision} if revision else {})}
        self.xds_port, self.webhook_port, self._http_port, *self._others = free_ports(5)
        self._folder = folder
        self._kubeconfig = kubeconfig
        self._child: Child | None = None
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "mesh.yaml").write_text(mesh_config)
        self.certificate_pem, key = self_signed("istiod's webhooks, local")
        (folder / "webhook.key").write_bytes(key)
        # Watched apart from each other: one path for both is one too few, and no certificate.
        for name in ("webhook.pem", "webhook-ca.pem"):
            (folder / name).write_bytes(self.certificate_pem)

    @property
    def log(self) -> Path:
        """Its log."""
        return self._folder / "istiod.log"

    def launch(self) -> None:
        """Start it; `wait_until_ready` before anything is asked of it."""
        self._child = Child("istiod", self._command(), log=self.log, environment=self._environment)

    def wait_until_ready(self) -> None:
        """Return when it is ready, its webhook too."""
        assert self._child is not None
        self._child.wait_until(self._ready, "it was ready", seconds=READY_SECONDS)
        self._child.wait_for_ports(self.webhook_port, self.xds_port)

    def stop(self) -> None:
        """End it. Harmless when it does not run."""
        if self._child is not None:
            self._child.stop()

    def _ready(self) -> bool:
        if not listens(self._http_port):
            return False
        try:
            with urllib.request.urlopen(
                f"http://{LOOPBACK}:{self._http_port}/ready", timeout=REQUEST_SECONDS
            ):
                return True
        except OSError:
            return False

    def _command(self) -> list[str | Path]:
        monitoring, introspection = self._others
        return [
            *(CACHE / "bin" / "pilot-discovery", "discovery"),
            *("--kubeconfig", self._kubeconfig),
            *("--meshConfig", self._folder / "mesh.yaml"),
            *("--grpcAddr", f"{LOOPBACK}:{self.xds_port}", "--secureGRPCAddr", ""),
            *("--httpsAddr", f"{LOOPBACK}:{self.webhook_port}"),
            *("--tlsCertFile", self._folder / "webhook.pem"),
            *("--tlsKeyFile", self._folder / "webhook.key"),
            *("--caCertFile", self._folder / "webhook-ca.pem"),
            *("--httpAddr", f"{LOOPBACK}:{self._http_port}"),
            *("--monitoringAddr", f"{LOOPBACK}:{monitoring}"),
            *("--ctrlz_port", str(introspection)),
            *("--shutdownDuration", "0s"),
        ]
