"""What the demo plays on: backends, Pebble, Envoy and acmeistio, with their files and ports.

All of it lies in one folder and ends with the stage. Each part is started by a method of its
own, so that the story can tell of it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import yaml

from pebble import envoy
from pebble.backends import backend
from pebble.local_ca import LocalCa
from pebble.processes import CHECKOUT, LOOPBACK, Child, free_ports, listens
from pebble.visitor import FileView, HttpsView, View

SAMPLE = CHECKOUT / "deploy" / "examples" / "helloworld.yaml"
SECRET_NAMESPACE, SECRET_NAME = "istio-system", "istio-ingress-certs"
PROFILE = "default"


class Stage(ExitStack):
    """The parts of the demo. `folder` must be empty.

    Without Envoy, Pebble asks acmeistio's challenge port itself, and what would be served is seen
    in the files.
    """

    def __init__(self, folder: Path, *, with_envoy: bool) -> None:
        super().__init__()
        self.folder = folder
        self.with_envoy = with_envoy
        self.manifest = folder / "manifests" / SAMPLE.name
        self.secrets = folder / "secrets"
        self.secret = self.secrets / SECRET_NAMESPACE / f"{SECRET_NAME}.secret.yaml"
        self.root = folder / "root.pem"
        self.acmeistio_log = folder / "acmeistio.log"
        self.http_port, self.https_port, self.challenge_port, *self._admin_ports = free_ports(5)
        asked = self.http_port if with_envoy else self.challenge_port
        self.ca = LocalCa(http_port=asked, directory=folder)
        self._backends: Mapping[str, int] = {}
        self._children: list[Child] = []
        self.manifest.parent.mkdir(parents=True)
        self.manifest.write_text(SAMPLE.read_text())

    @property
    def alive(self) -> bool:
        """Whether all that was started still runs."""
        return self.ca.alive and all(child.alive for child in self._children)

    @property
    def view(self) -> View:
        """What is served, over HTTPS or from the files."""
        if self.with_envoy:
            return HttpsView(self.https_port, self.root)
        return FileView(self.secrets / SECRET_NAMESPACE / SECRET_NAME / "tls.crt", self.root)

    def start_backends(self) -> None:
        """The two of the sample; the first one serves every other host of the domain, too."""
        v1 = self.enter_context(backend("helloworld-v1"))
        v2 = self.enter_context(backend("helloworld-v2"))
        self._backends = {"www.mydomain.com": v1, "mobile.mydomain.com": v2, "*.mydomain.com": v1}

    def start_ca(self) -> None:
        """Pebble; its root goes to a file."""
        self.enter_context(self.ca)
        self.root.write_bytes(self.ca.root_pem())

    def start_envoy(self) -> None:
        """The ingress gateway, which has no certificate yet."""
        ingress = envoy.Ingress(
            http_port=self.http_port,
            https_port=self.https_port,
            admin_port=self._admin_ports[0],
            challenge_port=self.challenge_port,
            backends=self._backends,
            sds_file=self.secrets / SECRET_NAMESPACE / f"{SECRET_NAME}.sds.json",
            secret_name=SECRET_NAME,
        )
        self._keep(envoy.start(ingress, self.folder))

    def start_acmeistio(self) -> None:
        """The one of this checkout. Returns when its challenge port answers."""
        child = Child(
            "acmeistio",
            [
                *(sys.executable, "-m", "acmeistio", "run"),
                *("--manifests", self.manifest.parent),
                *("--secrets", self.secrets),
                *("--issuer", "pebble"),
                *("--profile", PROFILE),
                *("--directory", self.ca.directory_url),
                *("--ca-bundle", self.ca.ca_bundle),
                *("--challenge-listen", f"{LOOPBACK}:{self.challenge_port}"),
                *("--admin-listen", f"{LOOPBACK}:{self._admin_ports[1]}"),
                *("--log-format", "text"),
            ],
            log=self.acmeistio_log,
        )
        self._keep(child)
        child.wait_until(partial(listens, self.challenge_port), "its challenge port answered")

    def annotate_manifest(self, old: str, new: str) -> None:
        """Put one annotation in the place of another, as an editor would."""
        text, count = re.subn(
            rf"^( +){re.escape(old)}$",
            rf"\g<1>{new}",
            self.manifest.read_text(),
            flags=re.MULTILINE,
        )
        if count != 1:
            raise ValueError(f"{self.manifest} has {count} lines {old}")
        _replace(self.manifest, text)

    def annotate_secret(self, name: str, value: str) -> None:
        """Set an annotation on the Secret that acmeistio keeps."""
        secret = yaml.safe_load(self.secret.read_text())
        secret["metadata"]["annotations"][name] = value
        _replace(self.secret, yaml.safe_dump(secret, sort_keys=False))

    def _keep(self, child: Child) -> None:
        self.callback(child.stop)
        self._children.append(child)


def _replace(path: Path, text: str) -> None:
    """In one step, so that nobody reads half of it."""
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text(text)
    draft.chmod(path.stat().st_mode)
    draft.replace(path)
