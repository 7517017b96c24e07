"""A cluster with Istio on this machine, in which acmeistio can be run as it is installed.

    with Bed(folder) as bed:
        bed.service("shop", "helloworld")
        bed.apply(INGRESS)
        bed.start_acmeistio()
        bed.wait_for(lambda: names(bed, HOST), "a certificate is served")  # seen.py

Real etcd, kube-apiserver, istiod, Envoy and Pebble, as child processes, all on loopback. Puts
them together: what each of them is told is in its own module, and the objects that only the bed
needs are in bed.yaml with their reasons. deploy/install.yaml is applied as it is. Knows nothing of
tests.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from string import Template
from typing import Any

from acmeistio.routes.permanent import permanent
from acmeistio.settings import load_settings
from pebble.backends import backend
from pebble.local_ca import CaOptions, LocalCa
from pebble.processes import CHECKOUT, LOOPBACK, FromStartToStop, free_ports, listens, tail
from pebble.program import PATIENCE_SECONDS, POLL_SECONDS, Program
from tests.cluster import seed
from tests.cluster.api import Api, Object, objects_of
from tests.cluster.control_plane import ISTIO_AUDIENCE, ControlPlane
from tests.cluster.gateway import Gateway, Workload
from tests.cluster.istiod import Istiod

INSTALL = CHECKOUT / "deploy" / "install.yaml"
NAMESPACE = "istio-system"
SECRET_NAME = "istio-ingress-certs"
USER = f"system:serviceaccount:{NAMESPACE}:acmeistio"
PROFILE = "default"
SETTLED_SECONDS = 0.3
"""istiod gathers changes for 0.1 s."""

_FURNITURE = Path(__file__).with_name("bed.yaml")
_CHALLENGE_OF_NOBODY = "http://nobody.example/.well-known/acme-challenge/token"

_CLEARED = (
    "Ingress",
    "IngressClass",
    *(f"{kind}.networking.istio.io" for kind in ("Gateway", "VirtualService", "DestinationRule")),
    *(f"{kind}.networking.istio.io" for kind in ("EnvoyFilter", "ServiceEntry", "WorkloadEntry")),
    "AuthorizationPolicy",
    *(f"{kind}.gateway.networking.k8s.io" for kind in ("Gateway", "HTTPRoute", "ReferenceGrant")),
    "ListenerSet",
    "Service",
    "Secret",
    "ConfigMap",
    "Event.events.k8s.io",
)
"""Kinds of which `clear` deletes what was not there at the start."""


class Bed(FromStartToStop):
    """The whole cluster, from `start` to `stop` or as a context manager.

    All files lie in `folder`, which must be empty. Every name resolves to the gateway's address
    for the CA. `seconds` says what the parts of the start have taken.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.plane = ControlPlane(folder / "plane", seed=seed.FOLDER)
        self.gateway = Gateway(folder / "gateway")
        self.challenge_port, self.admin_port = free_ports(2)
        self.ca = self._make_ca(CaOptions())
        self.root = folder / "root.pem"
        """Of the certificates that the CA issues."""
        self.acmeistio_log = folder / "acmeistio.log"
        self.seconds: dict[str, float] = {}
        self._closing = ExitStack()
        self._programs: list[Program] = []
        self._other_gateways: list[Gateway] = []
        self._istiod: Istiod
        self._kubeconfig: Path
        self._furniture: set[tuple[str, str, str]]
        self._at_rest: Mapping[str, Any]

    def start(self) -> None:
        """Start all but acmeistio, and apply what is installed for it. Returns when it works."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._timed("API server, Pebble"):
            self._closing.callback(self.plane.stop)
            self.plane.launch()
            self._start_ca()
            self.plane.wait_until_ready()
        with self._timed("istiod"):
            self._launch_istiod()
            self.apply(Template(_FURNITURE.read_text()).substitute(self._words()))
            self._istiod.wait_until_ready()
        with self._timed("gateway, install.yaml"):
            self._start_gateway(self.gateway)
            self.install()
            self.route()
            self._kubeconfig = self.plane.kubeconfig(self.plane.token_of(NAMESPACE, "acmeistio"))
            self.wait_for(self._routes_are_in_place, "the gateway has the permanent routes")
            self._at_rest = self._settled_configuration()
        self._furniture = set(self._objects())

    def stop(self) -> None:
        """End all of it."""
        self.stop_acmeistio()
        self._closing.close()

    @property
    def api(self) -> Api:
        """The API server for the administrator."""
        return self.plane.api

    def apply(self, manifest: str | Mapping[str, Any], *, namespace: str = "default") -> None:
        """Server-side apply: YAML text of any number of objects, or one object."""
        self.api.apply(manifest, namespace=namespace)

    def namespace(self, name: str, labels: Mapping[str, str] | None = None) -> None:
        """A namespace, unless it is there. It stays: there is nobody to finish its deletion."""
        metadata = {"name": name, "labels": dict(labels or {})}
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})

    def service(self, namespace: str, name: str) -> None:
        """A Service with a backend of its own that says `name`, in a namespace made for it."""
        self.namespace(namespace)
        self.expose(namespace, name, self._backend(name))

    def expose(self, namespace: str, name: str, port: int) -> None:
        """A Service on port 80 for whoever listens on a port of 127.0.0.1."""
        labels = {"bed": name}
        ports = [{"name": "http", "port": 80, "targetPort": "http"}]
        self.apply(
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"namespace": namespace, "name": name},
                "spec": {"selector": labels, "ports": ports},
            }
        )
        self._workload(namespace, name, labels, port)

    def pod(self, namespace: str, name: str, labels: Mapping[str, str]) -> None:
        """A backend that says `name` and stands where a pod with these labels would.

        A Service of somebody else's manifest finds it, if its target port is called `http`.
        """
        self._workload(namespace, name, labels, self._backend(name))

    def another_gateway(self, workload: Workload, istiod: Istiod | None = None) -> Gateway:
        """A second Envoy, at an address of its own, in a namespace made for it; until `clear`.

        The CA finds it for the names that `ca.set_addresses` sends there. `istiod` is another than
        the bed's.
        """
        self.namespace(workload.namespace)
        folder = self.folder / f"gateway-{time.monotonic_ns()}"
        ports = self.gateway.http_port, self.gateway.https_port
        gateway = Gateway(folder, workload, ports=ports)
        self._other_gateways.append(gateway)
        self._start_gateway(gateway, istiod)
        return gateway

    def clear(self) -> None:
        """Stop acmeistio and the other gateways, delete every object that was not at the start.

        Returns when the gateway has forgotten them, their certificates too. Not for RBAC: what a
        test takes away there it gives back itself (`install`).
        """
        self.stop_acmeistio()
        while self._other_gateways:
            self._other_gateways.pop().stop()
        if not self.plane.has_api_server:  # a test has failed while it was away
            self.plane.start_api_server()
        for kind, namespace, name in set(self._objects()) - self._furniture:
            self.api.delete(kind, namespace or None, name)
        self.route()
        self.wait_for(self._rests, "the gateway is as it was at the start")

    def install(self) -> None:
        """Apply deploy/install.yaml again, to have back what was changed of it."""
        self.plane.kubectl("apply", "-f", INSTALL)

    def route(self) -> None:
        """Apply the route objects that acmeistio keeps, as they are at the start of every test."""
        for route in self._permanent_routes():
            self.apply(route)

    def unroute(self) -> None:
        """Delete the route objects that acmeistio keeps, as before it was installed."""
        for route in self._permanent_routes():
            kind = f"{route['kind']}.networking.istio.io"
            self.api.delete(kind, route["metadata"]["namespace"], route["metadata"]["name"])

    def _permanent_routes(self) -> list[Object]:
        settings = _data_of_config_map(INSTALL, "acmeistio")
        options = {k.removeprefix("ACMEISTIO_").lower(): v for k, v in settings.items()}
        return [*permanent(load_settings(options).installation)]

    def gateways(self, **others: Any) -> str:
        """What acmeistio is told of the gateway: as in deploy/install.yaml, and its address here.

        `others` are further fields, such as routing="mirror".
        """
        address = {
            "host": self.gateway.address,
            "httpPort": self.gateway.http_port,
            "httpsPort": self.gateway.https_port,
        }
        return json.dumps([{"address": address, **others}])

    def launch_acmeistio(self, **others: str | Path) -> Program:
        """Start acmeistio with the settings of deploy/install.yaml, whatever comes of it.

        On top come those that a machine needs, and `others`, such as log_level="debug".
        """
        options: dict[str, str | Path] = {
            "--kubeconfig": self._kubeconfig,
            "--profile": PROFILE,
            "--gateways": self.gateways(),
            "--directory": self.ca.directory_url,
            "--ca-bundle": self.ca.ca_bundle,
            "--challenge-listen": f"{LOOPBACK}:{self.challenge_port}",
            "--admin-listen": f"{LOOPBACK}:{self.admin_port}",
            "--log-format": "json",
            **{f"--{name.replace('_', '-')}": value for name, value in others.items()},
        }
        words = ("run", *(word for pair in options.items() for word in pair))
        # As the Deployment's container has it; its addresses are options here.
        environment = {
            **_data_of_config_map(INSTALL, "acmeistio"),
            "ACMEISTIO_NAMESPACE": NAMESPACE,
        }
        program = Program(words, log=self.acmeistio_log, environment=environment)
        self._programs.append(program)
        return program

    def start_acmeistio(self, **others: str | Path) -> Program:
        """Start acmeistio as `launch_acmeistio` does. Returns when its challenge port answers."""
        program = self.launch_acmeistio(**others)
        self.wait_for(
            lambda: listens(self.challenge_port) or not program.alive, "its challenge port answers"
        )
        if not program.alive:
            raise RuntimeError(f"acmeistio has ended\n{self.tails()}")
        return program

    def stop_acmeistio(self) -> None:
        """End every acmeistio that runs."""
        while self._programs:
            self._programs.pop().stop()

    @property
    def alive(self) -> bool:
        """Whether the CA and every acmeistio that was started still run."""
        return self.ca.alive and all(program.alive for program in self._programs)

    def restart_istiod(self) -> None:
        """End istiod and start it anew. Envoy goes on meanwhile, and finds it again by itself."""
        self._istiod.stop()
        self._istiod.launch()
        self._istiod.wait_until_ready()

    def audit(self) -> list[Object]:
        """The requests of acmeistio since the start of the bed, as the audit log has them."""
        return list(self.plane.audit(USER))

    def wait_for(
        self, ready: Callable[[], object], what: str, seconds: float = PATIENCE_SECONDS
    ) -> None:
        """Wait, with a deadline; TimeoutError ends with the tails of the logs."""
        deadline = time.monotonic() + seconds
        while not ready():
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {seconds:.0f} s: {what}\n{self.tails()}")
            time.sleep(POLL_SECONDS)

    def tails(self) -> str:
        """The ends of the logs."""
        logs = (self.acmeistio_log, self.ca.log, self._istiod.log, self.gateway.log)
        return "\n".join(f"--- {log.name}\n{tail(log)}" for log in logs)

    def _make_ca(self, options: CaOptions) -> LocalCa:
        return LocalCa(
            options,
            http_port=self.gateway.http_port,
            address=self.gateway.address,
            directory=self.folder / f"ca-{time.monotonic_ns()}",
        )

    def _start_ca(self) -> None:
        self._closing.enter_context(self.ca)
        self.root.write_bytes(self.ca.root_pem())

    def _launch_istiod(self) -> None:
        self._istiod = self._make_istiod("istiod")
        self._closing.callback(self._istiod.stop)
        self._istiod.launch()

    @contextmanager
    def another_istiod(self, revision: str) -> Iterator[Istiod]:
        """A second istiod, as in an upgrade of Istio by revisions."""
        istiod = self._make_istiod(f"istiod-{time.monotonic_ns()}", revision)
        try:
            istiod.launch()
            istiod.wait_until_ready()
            yield istiod
        finally:
            istiod.stop()

    def _make_istiod(self, folder: str, revision: str = "") -> Istiod:
        return Istiod(
            self.folder / folder,
            kubeconfig=self.plane.admin_kubeconfig,
            mesh_config=_data_of_config_map(_FURNITURE, "istio")["mesh"],
            revision=revision,
        )

    def _words(self) -> dict[str, str | int]:
        """What bed.yaml leaves open."""
        return {
            "CHALLENGE_PORT": self.challenge_port,
            "WEBHOOK_PORT": self._istiod.webhook_port,
            "WEBHOOK_CA": base64.b64encode(self._istiod.certificate_pem).decode(),
        }

    def _start_gateway(self, gateway: Gateway, istiod: Istiod | None = None) -> None:
        self.apply(gateway.objects())
        workload = gateway.workload
        token = self.plane.token_of(workload.namespace, workload.name, audiences=[ISTIO_AUDIENCE])
        self._closing.callback(gateway.stop)
        gateway.start(xds_port=(istiod or self._istiod).xds_port, token=token)

    def _routes_are_in_place(self) -> bool:
        """503: the route is there, and acmeistio behind it is not."""
        try:
            return self.gateway.get(_CHALLENGE_OF_NOBODY).status == 503
        except OSError:
            return False

    def _settled_configuration(self) -> Mapping[str, Any]:
        """Of the gateway, when istiod has nothing more to send."""
        while True:
            before = self.gateway.configuration()
            time.sleep(SETTLED_SECONDS)
            if self.gateway.configuration() == before:
                return before

    def _rests(self) -> bool:
        return self.gateway.configuration() == self._at_rest and not self.gateway.is_draining()

    def _backend(self, name: str) -> int:
        return self._closing.enter_context(backend(name))

    def _workload(self, namespace: str, name: str, labels: Mapping[str, str], port: int) -> None:
        """A stand-in for a pod: an EndpointSlice may not hold a loopback address, this may."""
        self.apply(
            {
                "apiVersion": "networking.istio.io/v1",
                "kind": "WorkloadEntry",
                "metadata": {"namespace": namespace, "name": name},
                "spec": {"address": LOOPBACK, "labels": dict(labels), "ports": {"http": port}},
            }
        )

    def _objects(self) -> Iterator[tuple[str, str, str]]:
        for kind in _CLEARED:
            for body in self.api.list(kind):
                metadata = body["metadata"]
                yield kind, metadata.get("namespace", ""), metadata["name"]

    @contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        begin = time.monotonic()
        yield
        self.seconds[part] = time.monotonic() - begin


def _data_of_config_map(manifest: Path, name: str) -> dict[str, str]:
    """What a ConfigMap of a manifest holds."""
    for body in objects_of(manifest.read_text()):
        if body["kind"] == "ConfigMap" and body["metadata"]["name"] == name:
            return dict(body["data"])
    raise LookupError(f"{manifest} has no ConfigMap {name}")
