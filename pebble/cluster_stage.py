"""What the demo plays on with --cluster: the bed of the cluster tests, and kubectl's view of it.

The sample's pods are played by backends of this process; everything else is what a cluster has.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

from pebble.local_ca import LocalCa
from pebble.stage import (
    HOSTS,
    NEW_HOST,
    RENEW,
    SAMPLE,
    SECRET_NAME,
    SECRET_NAMESPACE,
    Part,
    curl,
    short,
)
from pebble.visitor import HttpsView, View
from tests.cluster.api import Object
from tests.cluster.bed import Bed

NAMESPACE, NAME = "default", "helloworld"
_KUBECTL = "  .cache/bin/kubectl --kubeconfig"


class ClusterStage(ExitStack):
    """The demo in a cluster. `folder` must be empty."""

    remark = ""
    serves_https = True
    third_domain = (
        "A third domain, by editing the Ingress",
        f"spec.tls[0].hosts:  + {NEW_HOST}\nspec.rules:         + host: {NEW_HOST}",
    )

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder / "bed"
        self._bed = Bed(self.folder)
        self.acmeistio_log = self._bed.acmeistio_log

    @property
    def ca(self) -> LocalCa:
        """See Stage.ca."""
        return self._bed.ca

    @property
    def alive(self) -> bool:
        """See Stage.alive."""
        return self._bed.alive

    @property
    def view(self) -> View:
        """See Stage.view."""
        gateway = self._bed.gateway
        return HttpsView(gateway.https_port, self._bed.root, gateway.address)

    def parts(self) -> Iterable[Part]:
        """See Stage.parts."""
        yield "A cluster: etcd, API server, istiod, Envoy; Pebble; deploy/install.yaml", self._start

    def _start(self) -> None:
        self.enter_context(self._bed)

    def beginning(self) -> Iterable[Part]:
        """See Stage.beginning."""
        yield "acmeistio starts, with the rights and settings of deploy/install.yaml", self._run
        yield f"kubectl apply -f {short(SAMPLE)}", self._apply

    def _run(self) -> None:
        self._bed.start_acmeistio(log_format="text")

    def _apply(self) -> None:
        for version in ("v1", "v2"):
            labels = {"app": NAME, "version": version}
            self._bed.pod(NAMESPACE, f"{NAME}-{version}", labels)
        self._bed.plane.kubectl("apply", "-f", SAMPLE)

    def add_third_domain(self) -> None:
        """See Stage.add_third_domain."""
        ingress: Object = self._bed.api.get("Ingress", NAMESPACE, NAME)
        spec = ingress["spec"]
        spec["tls"][0]["hosts"].append(NEW_HOST)
        spec["rules"].append({**spec["rules"][0], "host": NEW_HOST})
        self._bed.api.update(ingress)

    def annotate_secret(self, name: str, value: str) -> None:
        """See Stage.annotate_secret."""
        change = {"metadata": {"annotations": {name: value}}}
        self._bed.api.patch("Secret", SECRET_NAMESPACE, SECRET_NAME, change)

    def last_words(self) -> str:
        """See Stage.last_words: the Events of the Ingress."""
        told = self._bed.plane.kubectl(
            *("-n", NAMESPACE, "get", "events", "--sort-by=.metadata.creationTimestamp"),
            "-o=custom-columns=TYPE:.type,REASON:.reason,MESSAGE:.message",
        )
        return f"\nkubectl describe ingress {NAME} has these Events:\n{told}"

    def to_try(self) -> str:
        """See Stage.to_try."""
        bed, kubectl = self._bed, f"{_KUBECTL} {short(self._bed.plane.admin_kubeconfig)}"
        hosts = (*HOSTS, NEW_HOST)
        place = (bed.root, bed.gateway.address, bed.gateway.https_port)
        return (
            "\n".join(curl(host, *place) for host in hosts)
            + f"""
See what users see:
{kubectl} describe ingress {NAME}
Add a host under tls and rules, save, and ask for it:
{kubectl} edit ingress {NAME}
Renew, by any new value:
{kubectl} -n {SECRET_NAMESPACE} annotate --overwrite secret {SECRET_NAME} {RENEW}="$(date)"
Watch acmeistio:
  tail -f {short(self.acmeistio_log)}"""
        )
