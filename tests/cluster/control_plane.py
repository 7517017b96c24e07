"""A Kubernetes control plane without nodes: etcd and kube-apiserver as child processes.

    with ControlPlane(folder) as plane:
        plane.api.create({...})
        kubeconfig = plane.kubeconfig(plane.token_of("istio-system", "acmeistio"))

Owns their flags, certificates, credentials and the audit log. RBAC decides, as in every cluster.
There are no controllers: nobody makes the `default` ServiceAccounts or collects garbage, and a
namespace that is deleted stays for ever. Knows nothing of Istio.
"""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from pebble.processes import CACHE, LOOPBACK, Child, FromStartToStop, free_ports
from pebble.self_signed import self_signed
from tests.cluster.api import Api

READY_SECONDS = 60.0
"""Two seconds on a quiet machine."""
TOKEN_SECONDS = 24 * 3600
AUDIENCE = "https://kubernetes.default.svc"
ISTIO_AUDIENCE = "istio-ca"
"""Of the tokens that Istio's proxies show to istiod."""

_AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata"}],
}


class ControlPlane(FromStartToStop):
    """etcd and kube-apiserver from `start` to `stop`, or as a context manager.

    All that they write lies in `folder`, which must be empty. It begins with what a copy of the
    etcd folder `seed` holds, if there is one.
    """

    def __init__(self, folder: Path, *, seed: Path | None = None) -> None:
        self.folder = folder
        self.etcd_folder = folder / "etcd"
        self._seed = seed
        self.admin_token = secrets.token_hex()
        self.api_port, self._etcd_port, self._peer_port = free_ports(3)
        self._closing = ExitStack()
        self._api_server: Child

    def start(self) -> None:
        """Start both; return when the API server is ready."""
        self.launch()
        self.wait_until_ready()

    def launch(self) -> None:
        """Start both; `wait_until_ready` before anything is asked of the API server."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write_files()
        self._start_etcd()
        self._launch_api_server()
        self._closing.callback(self.stop_api_server)

    def wait_until_ready(self) -> None:
        """Return when the API server is ready."""
        ready = self.api.ready
        self._api_server.wait_until(ready, "it was ready", seconds=READY_SECONDS)

    def stop(self) -> None:
        """End both: first the API server, which will not end without etcd."""
        self._closing.close()

    def start_api_server(self) -> None:
        """Start the API server again after it was stopped or killed, on the same port."""
        self._launch_api_server()
        self.wait_until_ready()

    def stop_api_server(self) -> None:
        """End the API server politely. What is stored stays in etcd."""
        self._api_server.stop()

    def kill_api_server(self) -> None:
        """End the API server as a crash would."""
        self._api_server.kill()

    @property
    def has_api_server(self) -> bool:
        """Whether the API server runs."""
        return self._api_server.alive

    @property
    def url(self) -> str:
        """Of the API server."""
        return f"https://{LOOPBACK}:{self.api_port}"

    @property
    def certificate(self) -> Path:
        """The API server's own, self-signed: by it the API server is trusted."""
        return self.folder / "api.pem"

    @property
    def log(self) -> Path:
        """The API server's log."""
        return self.folder / "kube-apiserver.log"

    @cached_property
    def api(self) -> Api:
        """The API server for the administrator."""
        return self.api_as(self.admin_token)

    def api_as(self, token: str) -> Api:
        """The API server for the owner of a token."""
        return Api(self.api_port, self.certificate, token)

    def token_of(
        self, namespace: str, service_account: str, *, audiences: Iterable[str] = ()
    ) -> str:
        """A token of a ServiceAccount, as a pod of it has: made by the TokenRequest API."""
        path = self.api.path("ServiceAccount", namespace, service_account)
        spec = {"expirationSeconds": TOKEN_SECONDS, "audiences": [*audiences]}
        answer = self.api.request("POST", f"{path}/token", {"spec": spec})
        return str(answer["status"]["token"])

    def kubeconfig(self, token: str) -> Path:
        """A new kubeconfig file for the owner of a token."""
        path = self.folder / f"kubeconfig-{secrets.token_hex(4)}"
        cluster = {"server": self.url, "certificate-authority": str(self.certificate)}
        configuration = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "bed", "cluster": cluster}],
            "users": [{"name": "user", "user": {"token": token}}],
            "contexts": [{"name": "bed", "context": {"cluster": "bed", "user": "user"}}],
            "current-context": "bed",
        }
        path.write_text(yaml.safe_dump(configuration))
        return path

    def kubectl(self, *words: str | Path) -> str:
        """Run kubectl as the administrator; what it has printed."""
        command = [CACHE / "bin" / "kubectl", "--kubeconfig", self.admin_kubeconfig, *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"kubectl {' '.join(map(str, words))}: {done.stderr}")
        return done.stdout

    def audit(self, user: str) -> Iterator[dict[str, Any]]:
        """The requests of a user, as the audit log tells of them (audit.k8s.io/v1 Event)."""
        with self._audit_log.open() as log:
            for line in log:
                if line.endswith("\n") and user in line:
                    event = json.loads(line)
                    if event["user"]["username"] == user:
                        yield event

    @property
    def _audit_log(self) -> Path:
        return self.folder / "audit.log"

    def _write_files(self) -> None:
        certificate, key = self_signed("API server, local")
        self.certificate.write_bytes(certificate)
        self._key.write_bytes(key)
        self._tokens.write_text(f'{self.admin_token},admin,admin,"system:masters"\n')
        self._audit_policy.write_text(json.dumps(_AUDIT_POLICY))
        self.admin_kubeconfig = self.kubeconfig(self.admin_token)

    @property
    def _key(self) -> Path:
        """Of the API server, which signs the tokens of ServiceAccounts with it as well."""
        return self.folder / "api.key"

    @property
    def _tokens(self) -> Path:
        return self.folder / "tokens.csv"

    @property
    def _audit_policy(self) -> Path:
        return self.folder / "audit-policy.json"

    def _launch_api_server(self) -> None:
        self._api_server = Child("kube-apiserver", self._api_server_command(), log=self.log)

    def _start_etcd(self) -> None:
        if self._seed:
            shutil.copytree(self._seed, self.etcd_folder)
        client, peer = (f"http://{LOOPBACK}:{port}" for port in (self._etcd_port, self._peer_port))
        command: list[str | Path] = [
            CACHE / "bin" / "etcd",
            *("--data-dir", self.etcd_folder),
            *("--listen-client-urls", client, "--advertise-client-urls", client),
            *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
            *("--initial-cluster", f"default={peer}"),
            *("--log-level", "warn"),
            # Its data need not outlive a power cut, and nobody else stands for election.
            *("--unsafe-no-fsync", "--heartbeat-interval", "20", "--election-timeout", "200"),
        ]
        etcd = Child("etcd", command, log=self.folder / "etcd.log")
        self._closing.callback(etcd.stop)
        etcd.wait_for_ports(self._etcd_port)

    def _api_server_command(self) -> list[str | Path]:
        return [
            CACHE / "bin" / "kube-apiserver",
            *("--etcd-servers", f"http://{LOOPBACK}:{self._etcd_port}"),
            *("--bind-address", LOOPBACK, "--secure-port", str(self.api_port)),
            *("--tls-cert-file", self.certificate, "--tls-private-key-file", self._key),
            *("--service-cluster-ip-range", "10.96.0.0/16"),
            # A loopback address can't be the endpoint of the Service `kubernetes`.
            *("--endpoint-reconciler-type", "none"),
            *("--authorization-mode", "RBAC"),
            *("--token-auth-file", self._tokens),
            *("--service-account-issuer", AUDIENCE),
            *("--api-audiences", f"{AUDIENCE},{ISTIO_AUDIENCE}"),
            *("--service-account-key-file", self.certificate),
            *("--service-account-signing-key-file", self._key),
            # It would wait for the `default` ServiceAccounts that a controller makes.
            *("--disable-admission-plugins", "ServiceAccount"),
            *("--audit-policy-file", self._audit_policy),
            *("--audit-log-path", self._audit_log),
        ]
