"""What the demo plays on without a cluster: backends, Pebble, Envoy and acmeistio on folders.

All of it lies in one folder and ends with the stage. Each part is started by a method of its
own, so that the story can tell of it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Protocol

import yaml

from pebble import envoy
from pebble.backends import backend
from pebble.local_ca import LocalCa
from pebble.processes import CHECKOUT, LOOPBACK, Child, free_ports, listens
from pebble.visitor import FileView, HttpsView, View

SAMPLE = CHECKOUT / "deploy" / "examples" / "helloworld.yaml"
SECRET_NAMESPACE, SECRET_NAME = "istio-system", "istio-ingress-certs"
PROFILE = "default"


HOSTS = ("www.mydomain.com", "mobile.mydomain.com")
NEW_HOST = "shop.mydomain.com"
AS_SHIPPED = 'acmeistio.io/tls: "true"'
EDITED = f"acmeistio.io/domains: {', '.join((*HOSTS, NEW_HOST))}"
RENEW = "acmeistio.io/renew-requested-at"

WITHOUT_ENVOY = """\
Without Envoy: Pebble asks acmeistio's challenge port itself, and certificates are verified
from the files that a server would read."""

Part = tuple[str, Callable[[], str | None]]
"""What is done, and the doing, which may give better words for it when it is done."""


class Stage(Protocol):
    """What the story is played on."""

    @property
    def remark(self) -> str:
        """What must be known about it, "" where nothing must."""

    @property
    def third_domain(self) -> tuple[str, str]:
        """How a third domain is declared: a heading, and the edit as lines with - and +."""

    @property
    def serves_https(self) -> bool:
        """Whether there is a gateway to be asked."""

    @property
    def ca(self) -> LocalCa:
        """Pebble."""

    @property
    def folder(self) -> Path:
        """Where all files lie."""

    @property
    def acmeistio_log(self) -> Path:
        """What acmeistio says."""

    @property
    def alive(self) -> bool:
        """Whether all that was started still runs."""

    @property
    def view(self) -> View:
        """What is served."""

    def parts(self) -> Iterable[Part]:
        """What must be there before acmeistio is."""

    def beginning(self) -> Iterable[Part]:
        """acmeistio, and the sample with its annotation."""

    def add_third_domain(self) -> None:
        """Edit what is declared."""

    def annotate_secret(self, name: str, value: str) -> None:
        """Set an annotation on the Secret that acmeistio keeps."""

    def last_words(self) -> str:
        """What a user would look at afterwards."""

    def to_try(self) -> str:
        """Commands for the running demo."""


class FolderStage(ExitStack):
    """The demo without a cluster. `folder` must be empty.

    Without Envoy, Pebble asks acmeistio's challenge port itself, and what would be served is seen
    in the files.
    """

    third_domain = ("A third domain, by editing that annotation", f"- {AS_SHIPPED}\n+ {EDITED}")

    def __init__(self, folder: Path, *, with_envoy: bool) -> None:
        super().__init__()
        self.folder = folder
        self.serves_https = with_envoy
        self.remark = "" if with_envoy else WITHOUT_ENVOY
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
        if self.serves_https:
            return HttpsView(self.https_port, self.root)
        return FileView(self.secrets / SECRET_NAMESPACE / SECRET_NAME / "tls.crt", self.root)

    def parts(self) -> Iterable[Part]:
        """See Stage.parts."""
        yield "Backends: helloworld-v1, helloworld-v2", self.start_backends
        yield "Pebble, an ACME CA", self.start_ca
        if self.serves_https:
            yield "Envoy, the ingress gateway", self.start_envoy

    def beginning(self) -> Iterable[Part]:
        """See Stage.beginning. The sample lies in its folder already."""
        yield "acmeistio starts", self.start_acmeistio

    def start_backends(self) -> None:
        """The two of the sample; the first one serves every other host of the domain, too."""
        v1 = self.enter_context(backend("helloworld-v1"))
        v2 = self.enter_context(backend("helloworld-v2"))
        self._backends = {"www.mydomain.com": v1, "mobile.mydomain.com": v2, "*.mydomain.com": v1}

    def start_ca(self) -> str:
        """Pebble; its root goes to a file."""
        self.enter_context(self.ca)
        self.root.write_bytes(self.ca.root_pem())
        return f"Pebble, an ACME CA: {self.ca.directory_url}"

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

    def add_third_domain(self) -> None:
        """See Stage.add_third_domain: as an editor would, one annotation in place of another."""
        text, count = re.subn(
            rf"^( +){re.escape(AS_SHIPPED)}$",
            rf"\g<1>{EDITED}",
            self.manifest.read_text(),
            flags=re.MULTILINE,
        )
        if count != 1:
            raise ValueError(f"{self.manifest} has {count} lines {AS_SHIPPED}")
        _replace(self.manifest, text)

    def last_words(self) -> str:
        """See Stage.last_words: the story has shown it."""
        return ""

    def to_try(self) -> str:
        """See Stage.to_try."""
        hosts = (*HOSTS, NEW_HOST) if self.serves_https else ()
        asking = [curl(host, self.root, LOOPBACK, self.https_port) for host in hosts]
        return (
            "\n".join(asking)
            + f"""
Add a name of *.mydomain.com to the annotation, save, and ask for it:
  $EDITOR {short(self.manifest)}
Renew, by any new value of {RENEW} under annotations:
  $EDITOR {short(self.secret)}
Watch acmeistio:
  tail -f {short(self.acmeistio_log)}"""
        )

    def annotate_secret(self, name: str, value: str) -> None:
        """See Stage.annotate_secret."""
        secret = yaml.safe_load(self.secret.read_text())
        secret["metadata"]["annotations"][name] = value
        _replace(self.secret, yaml.safe_dump(secret, sort_keys=False))

    def _keep(self, child: Child) -> None:
        self.callback(child.stop)
        self._children.append(child)


def curl(host: str, root: Path, address: str, port: int) -> str:
    """How to ask for a host by hand."""
    resolved = f"--resolve {host}:{port}:{address}"
    return f"  curl --cacert {short(root)} {resolved} https://{host}:{port}/"


def short(path: Path) -> Path:
    """A path as it is from the checkout."""
    return path.relative_to(CHECKOUT)


def _replace(path: Path, text: str) -> None:
    """In one step, so that nobody reads half of it."""
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text(text)
    draft.chmod(path.stat().st_mode)
    draft.replace(path)
