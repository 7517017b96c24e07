"""A gateway: Envoy, configured by istiod as Istio's own proxies are (delta xDS, ADS).

Owns its address, its bootstrap, the objects by which the cluster knows it, and what is asked of it
from outside: requests, certificates, what it refused of its configuration. Knows nothing of what
istiod sends.

It has a loopback address of its own, so that several gateways of one machine can have port 443, and
so that istiod does not take it for one of the backends, which are all on 127.0.0.1.
"""

from __future__ import annotations

import http.client
import json
import random
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from string import Template
from typing import Any

from cryptography import x509

from pebble.processes import CACHE, LOOPBACK, Child, free_ports

BINARY = CACHE / "venv" / "bin" / "envoy"
TIMEOUT_SECONDS = 5.0
HTTP_PORT, HTTPS_PORT = 80, 443
XDS_CLUSTER = "xds-grpc"

_OBJECTS = Template("""
# Who the gateway is, …
apiVersion: v1
kind: ServiceAccount
metadata:
  name: $NAME
  namespace: $NAMESPACE
---
# … that it may read Secrets (istiod asks for its rights before it hands one out), …
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: $NAME
  namespace: $NAMESPACE
rules:
  - apiGroups: [""]
    resources: [secrets]
    verbs: [get, watch, list]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: $NAME
  namespace: $NAMESPACE
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: $NAME
subjects:
  - kind: ServiceAccount
    name: $NAME
    namespace: $NAMESPACE
---
# … and on which ports. Only the bed: the target ports are those that Envoy may bind here, which are
# the chart's 80 and 443 where possible.
apiVersion: v1
kind: Service
metadata:
  name: $NAME
  namespace: $NAMESPACE
  labels: $LABELS
spec:
  selector: $LABELS
  ports:
    - name: http2
      port: 80
      targetPort: $HTTP_PORT
    - name: https
      port: 443
      targetPort: $HTTPS_PORT
---
# Only the bed: istiod has a gateway listen on all addresses of a pod; here it gets one of the
# loopback interface, and nobody else on this machine's network may reach it.
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata:
  name: bed-loopback-$NAME
  namespace: $NAMESPACE
spec:
  workloadSelector:
    labels: $LABELS
  configPatches:
    - applyTo: LISTENER
      match:
        context: GATEWAY
      patch:
        operation: MERGE
        value:
          address:
            socket_address:
              address: $ADDRESS
""")

_HTTP2 = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


@dataclass(frozen=True)
class Answer:
    """What an HTTP request got."""

    status: int
    headers: Mapping[str, str]
    """By their names in small letters."""
    text: str


@dataclass(frozen=True)
class Workload:
    """Who a gateway is in the cluster. Its Service and ServiceAccount have the same name."""

    namespace: str
    name: str
    labels: Mapping[str, str]
    """Of its pods."""


INGRESS_GATEWAY = Workload(
    namespace="istio-system",
    name="istio-ingressgateway",
    labels={"istio": "ingressgateway", "app": "istio-ingressgateway"},
)
"""As Istio's chart `gateway` has it."""


class Gateway:
    """One Envoy. On ports 80 and 443 where this process may bind them, else on free ones.

    `ports` are for another gateway of the same cluster: those of the first, for the CA knows one.
    """

    def __init__(
        self,
        folder: Path,
        workload: Workload = INGRESS_GATEWAY,
        *,
        ports: tuple[int, int] | None = None,
    ) -> None:
        self.folder = folder
        self.workload = workload
        self.address = (
            f"127.{random.randint(1, 254)}.{random.randint(0, 255)}.{random.randint(2, 254)}"
        )
        self.http_port, self.https_port, self.admin_port = free_ports(3)
        self.has_port_443 = all(_may_bind(self.address, port) for port in (HTTP_PORT, HTTPS_PORT))
        """Without it whatever follows a redirect to https:// (Pebble, too) arrives elsewhere."""
        if self.has_port_443:
            self.http_port, self.https_port = HTTP_PORT, HTTPS_PORT
        if ports is not None:
            self.http_port, self.https_port = ports
        self._child: Child | None = None

    @property
    def log(self) -> Path:
        """Envoy's log."""
        return self.folder / "envoy.log"

    @property
    def pid(self) -> int:
        """Envoy's process id."""
        assert self._child is not None
        return self._child.pid

    def objects(self) -> str:
        """What the cluster must have before it is started, as YAML."""
        labels = dict(self.workload.labels)
        return _OBJECTS.substitute(
            NAMESPACE=self.workload.namespace,
            NAME=self.workload.name,
            LABELS=json.dumps(labels),
            ADDRESS=self.address,
            HTTP_PORT=self.http_port,
            HTTPS_PORT=self.https_port,
        )

    def start(self, *, xds_port: int, token: str) -> None:
        """Start Envoy. It is known to istiod by the token of its ServiceAccount.

        Returns when its admin port answers; listeners come when somebody declares some.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        bootstrap = self.folder / "envoy.json"
        bootstrap.write_text(json.dumps(self._bootstrap(xds_port, token), indent=1))
        command: list[str | Path] = [
            *(BINARY, "--config-path", bootstrap),
            *("--concurrency", "1"),
            # misc says that istiod still sends a deprecated field, with each route.
            *("--log-level", "warning", "--component-log-level", "misc:error"),
            # A listener that is gone lets its connections go soon, and with them its certificate.
            *("--drain-time-s", "1", "--drain-strategy", "immediate"),
            # Hot restart shares memory by number between the Envoys of a machine.
            "--disable-hot-restart",
        ]
        self._child = Child("envoy", command, log=self.log)
        self._child.wait_for_ports(self.admin_port)

    def stop(self) -> None:
        """End Envoy. Harmless when it does not run."""
        if self._child is not None:
            self._child.stop()

    def connect(self, server_name: str | None = None) -> http.client.HTTPConnection:
        """A connection, over TLS to that server; whatever certificate it has will do.

        Requests on it may be for any host: `ask`.
        """
        port = self.http_port if server_name is None else self.https_port
        plain = socket.create_connection((self.address, port), TIMEOUT_SECONDS)
        # Else a request waits 40 ms for the acknowledgement of the handshake's last message.
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = http.client.HTTPConnection(self.address)
        connection.sock = plain if server_name is None else _over_tls(plain, server_name)
        return connection

    def get(self, url: str, headers: Mapping[str, str] | None = None) -> Answer:
        """GET of http://HOST/… or https://HOST/… by a connection of its own; no redirect followed.

        Raises OSError when there is no listener, or TLS is reset.
        """
        scheme, _, rest = url.partition("://")
        host, slash, path = rest.partition("/")
        with closing(self.connect(host if scheme == "https" else None)) as connection:
            return ask(connection, host, slash + path or "/", headers)

    def certificate(self, server_name: str) -> x509.Certificate:
        """The leaf that a host is served with, verified by nobody. Raises OSError without one."""
        with closing(self.connect(server_name)) as connection:
            assert isinstance(connection.sock, ssl.SSLSocket)
            return x509.load_der_x509_certificate(connection.sock.getpeercert(True) or b"")

    def names(self, server_name: str, root: Path) -> set[str]:
        """The names of the certificate that a host is served with, verified for it by a root.

        Empty where it is not served, or with a certificate of somebody else, such as a placeholder.
        """
        trust = ssl.create_default_context(cafile=str(root))
        try:
            with (
                socket.create_connection((self.address, self.https_port), TIMEOUT_SECONDS) as plain,
                trust.wrap_socket(plain, server_hostname=server_name) as secure,
            ):
                certificate: dict[str, Any] = secure.getpeercert() or {}
        except OSError:
            return set()
        return {name for _, name in certificate["subjectAltName"]}

    def stats(self, filter_regex: str) -> dict[str, int]:
        """Envoy's counters and gauges whose names match."""
        text = self._admin(f"stats?filter={filter_regex}&format=json")
        return {
            stat["name"]: stat["value"] for stat in json.loads(text)["stats"] if "value" in stat
        }

    def rejections(self) -> dict[str, int]:
        """How often Envoy has refused what istiod sent, by statistic; empty when never."""
        return {name: count for name, count in self.stats("update_rejected$").items() if count}

    def configuration(self) -> dict[str, Any]:
        """The listeners, clusters and routes that istiod has sent, by kind and name."""
        listeners = self._dump("dynamic_listeners")
        clusters = self._dump("dynamic_active_clusters")
        routes = self._dump("dynamic_route_configs")
        return {
            **{f"listener {x['name']}": _active(x) for x in listeners},
            **{f"cluster {item['cluster']['name']}": item["cluster"] for item in clusters},
            **{f"route {item['route_config']['name']}": item["route_config"] for item in routes},
        }

    def is_draining(self) -> bool:
        """Whether a listener that was removed still has connections."""
        return any(self.stats("^listener_manager.total_listeners_draining$").values())

    def config_dump(self) -> dict[str, Any]:
        """All that Envoy is configured with."""
        dump: dict[str, Any] = json.loads(self._admin("config_dump?include_eds"))
        return dump

    def _dump(self, resource: str) -> list[dict[str, Any]]:
        try:
            answer = json.loads(self._admin(f"config_dump?resource={resource}"))
        except urllib.error.HTTPError as error:
            if error.code != HTTPStatus.NOT_FOUND:
                raise
            return []  # Envoy has never had one of that kind
        return list(answer.get("configs", ()))

    def _admin(self, path: str) -> str:
        url = f"http://{LOOPBACK}:{self.admin_port}/{path}"
        with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as answer:
            text: str = answer.read().decode()
            return text

    def _bootstrap(self, xds_port: int, token: str) -> dict[str, Any]:
        """As Istio's agent writes it, without what workloads and telemetry need."""
        ads = {"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"}
        service = {
            "envoy_grpc": {"cluster_name": XDS_CLUSTER},
            "initial_metadata": [{"key": "authorization", "value": f"Bearer {token}"}],
        }
        return {
            "node": self._node(),
            "admin": {"address": _socket_address(LOOPBACK, self.admin_port)},
            "dynamic_resources": {
                "lds_config": ads,
                "cds_config": ads,
                "ads_config": {
                    "api_type": "DELTA_GRPC",
                    "transport_api_version": "V3",
                    "set_node_on_first_message_only": True,
                    "grpc_services": [service],
                },
            },
            "static_resources": {"clusters": [_xds_cluster(xds_port)]},
        }

    def _node(self) -> dict[str, Any]:
        namespace, name = self.workload.namespace, self.workload.name
        return {
            "id": f"router~{self.address}~gateway.{namespace}~{namespace}.svc.cluster.local",
            "cluster": f"{name}.{namespace}",
            "metadata": {
                "NAMESPACE": namespace,
                "SERVICE_ACCOUNT": name,
                "LABELS": dict(self.workload.labels),
                "CLUSTER_ID": "Kubernetes",
                "INSTANCE_IPS": self.address,
                "ISTIO_VERSION": "1.31.0",
            },
        }


def _active(listener: dict[str, Any]) -> Any:
    """What a listener is configured with, without when that was."""
    return listener.get("active_state", {}).get("listener")


def ask(
    connection: http.client.HTTPConnection,
    host: str,
    path: str = "/",
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """GET on a connection that goes on afterwards, for a host that need not be the one it is to."""
    connection.request("GET", path, headers={"Host": host, **(headers or {})})
    answer = connection.getresponse()
    text = answer.read().decode(errors="replace")
    return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, text)


def _over_tls(plain: socket.socket, server_name: str) -> ssl.SSLSocket:
    # Not the default context: that one takes 15 ms to read all roots of the machine.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        return context.wrap_socket(plain, server_hostname=server_name)
    except BaseException:
        plain.close()
        raise


def _may_bind(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
            probe.listen()
        except OSError:
            return False
    return True


def _xds_cluster(port: int) -> dict[str, Any]:
    endpoint = {"endpoint": {"address": _socket_address(LOOPBACK, port)}}
    return {
        "name": XDS_CLUSTER,
        "type": "STATIC",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": _HTTP2,
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        },
        "load_assignment": {
            "cluster_name": XDS_CLUSTER,
            "endpoints": [{"lb_endpoints": [endpoint]}],
        },
    }


def _socket_address(address: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": address, "port_value": port}}
