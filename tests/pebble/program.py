"""What the tests of this level work on: a CA, two folders, and the real program as a child process.

Every wait has a deadline and fails with the tail of both logs, because Pebble 2.10.1 may hang.
Tests look at the program only from outside: its log lines, its exit code, the files that it
writes, and what Pebble has counted.
"""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.verification import PolicyBuilder, Store

from pebble import envoy
from pebble.backends import backend
from pebble.local_ca import CaOptions, LocalCa
from pebble.processes import CHECKOUT, LOOPBACK, free_ports, listens, tail
from pebble.program import PATIENCE_SECONDS, POLL_SECONDS, Event, Program

SAMPLE = CHECKOUT / "deploy" / "examples" / "helloworld.yaml"
WWW, MOBILE, SHOP = "www.mydomain.com", "mobile.mydomain.com", "shop.mydomain.com"
HOSTS = (WWW, MOBILE)
"""Of the sample."""
PROFILE = "default"
NAMESPACE, SECRET_NAME = "istio-system", "istio-ingress-certs"
PLACEHOLDER = "acmeistio.io/placeholder"


Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Held:
    """A certificate with its key, as one of the outputs has it."""

    chain_pem: bytes
    key_pem: bytes

    @cached_property
    def chain(self) -> list[x509.Certificate]:
        """Leaf first."""
        return x509.load_pem_x509_certificates(self.chain_pem)

    @property
    def leaf(self) -> x509.Certificate:
        """The certificate of the hosts."""
        return self.chain[0]

    @property
    def serial(self) -> int:
        """By which certificates are told apart."""
        return self.leaf.serial_number

    @property
    def names(self) -> frozenset[str]:
        """The hosts."""
        names = self.leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return frozenset(names.get_values_for_type(x509.DNSName))

    def check(self, root_pem: bytes) -> None:
        """Key and leaf are a pair; the chain leads to the root and ends below it."""
        root = x509.load_pem_x509_certificate(root_pem)
        assert load_pem_private_key(self.key_pem, None).public_key() == self.leaf.public_key()
        assert root not in self.chain
        for name in self.names:
            verifier = (
                PolicyBuilder().store(Store([root])).build_server_verifier(x509.DNSName(name))
            )
            verifier.verify(self.leaf, self.chain[1:])


class Site:
    """A CA, the folders of one acmeistio, and the program once it is started.

    With `through_envoy` the CA asks Envoy, as it does in a cluster; else the challenge port.
    """

    def __init__(
        self, folder: Path, options: CaOptions = CaOptions(), *, through_envoy: bool = False
    ) -> None:
        self._closing = ExitStack()
        self.folder = folder
        self.manifests = folder / "manifests"
        self.secrets = folder / "secrets"
        self.manifest = self.manifests / SAMPLE.name
        self.secret = self.state("istio-ingress-certs.secret.yaml")
        self.ledger = self.state("acmeistio-ledger.configmap.yaml")
        self.pem = self.state(SECRET_NAME)
        self.sds = self.state(f"{SECRET_NAME}.sds.json")
        self.log = folder / "acmeistio.log"
        self.root = folder / "root.pem"
        self.http_port, self.https_port, self._envoy_port = free_ports(3)
        self.challenge_port, self.admin_port = free_ports(2)
        self._through_envoy = through_envoy
        asked = self.http_port if through_envoy else self.challenge_port
        self.ca = LocalCa(options, http_port=asked, directory=folder / "ca")

    def __enter__(self) -> Self:
        self.manifests.mkdir(parents=True)
        self.manifest.write_text(SAMPLE.read_text())
        self._closing.enter_context(self.ca)
        self.root.write_bytes(self.ca.root_pem())
        if self._through_envoy:
            self._start_envoy()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing.close()

    def state(self, name: str) -> Path:
        """A file or folder that the program writes."""
        return self.secrets / NAMESPACE / name

    def words(self, **others: str | Path | None) -> list[str]:
        """The command line of the program; other options come on top, None takes one away."""
        options: dict[str, str | Path | None] = {
            "--manifests": self.manifests,
            "--secrets": self.secrets,
            "--issuer": "pebble",
            "--profile": PROFILE,
            "--directory": self.ca.directory_url,
            "--ca-bundle": self.ca.ca_bundle,
            "--challenge-listen": f"{LOOPBACK}:{self.challenge_port}",
            "--admin-listen": f"{LOOPBACK}:{self.admin_port}",
            "--log-format": "json",
            **{f"--{name.replace('_', '-')}": value for name, value in others.items()},
        }
        given = [(name, value) for name, value in options.items() if value is not None]
        return ["run", *(str(word) for pair in given for word in pair)]

    def launch(self, *words: str) -> Program:
        """Start the program with just these words, whatever comes of it."""
        program = Program(words, log=self.log)
        self._closing.callback(program.kill)
        return program

    def start(self, **others: str | Path | None) -> Program:
        """Start the program. Returns when its challenge port answers."""
        program = self.launch(*self.words(**others))
        self.wait_for(
            lambda: listens(self.challenge_port) or not program.alive, "its challenge port answers"
        )
        assert program.alive, self.tails()
        return program

    def declare(self, *names: str) -> None:
        """Edit the annotation of the sample, in one step as editors do."""
        annotation = f"    acmeistio.io/domains: {', '.join(names)}"
        pattern = r"^ +acmeistio\.io/(tls|domains): .*$"
        text, count = re.subn(pattern, annotation, self.manifest.read_text(), flags=re.MULTILINE)
        assert count == 1
        replace(self.manifest, text)

    def secret_texts(self, name: str) -> dict[str, str]:
        """The data of a Secret that the program keeps, in base64 as it stands there."""
        secret = yaml.load(self.state(f"{name}.secret.yaml").read_text(), Loader)
        return dict(secret["data"])

    def secret_data(self, name: str) -> dict[str, bytes]:
        """The same, decoded."""
        return {key: base64.b64decode(text) for key, text in self.secret_texts(name).items()}

    def edit_secret(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Edit the Secret's manifest."""
        secret = yaml.load(self.secret.read_text(), Loader)
        change(secret)
        replace(self.secret, yaml.safe_dump(secret, sort_keys=False))

    def annotate(self, name: str, **notes: str) -> None:
        """Put acmeistio.io/ annotations on a Secret; `_` in a word stands for `-`."""
        path = self.state(f"{name}.secret.yaml")
        secret = yaml.load(path.read_text(), Loader)
        words = {f"acmeistio.io/{key.replace('_', '-')}": text for key, text in notes.items()}
        secret["metadata"].setdefault("annotations", {}).update(words)
        replace(path, yaml.safe_dump(secret, sort_keys=False))

    def note(self, name: str, key: str) -> str | None:
        """An acmeistio.io/ annotation of a Secret."""
        try:
            secret = yaml.load(self.state(f"{name}.secret.yaml").read_text(), Loader)
        except OSError:
            return None
        value = (secret["metadata"].get("annotations") or {}).get(f"acmeistio.io/{key}")
        return None if value is None else str(value)

    def held(self) -> Held | None:
        """What the Secret's manifest holds, unless that is nothing, spoiled or a placeholder."""
        try:
            secret = yaml.load(self.secret.read_text(), Loader)
            data = {key: base64.b64decode(text) for key, text in secret["data"].items()}
            held = Held(data["tls.crt"], data["tls.key"])
            return None if PLACEHOLDER in secret["metadata"]["annotations"] else held
        except (OSError, KeyError, TypeError, ValueError, yaml.YAMLError):
            return None

    def pem_held(self) -> Held | None:
        """What the PEM pair holds."""
        try:
            return Held(*((self.pem / name).read_bytes() for name in ("tls.crt", "tls.key")))
        except OSError:
            return None

    def sds_held(self) -> Held | None:
        """What the SDS file holds."""
        try:
            (resource,) = json.loads(self.sds.read_text())["resources"]
        except (OSError, ValueError, KeyError):
            return None
        assert resource["name"] == SECRET_NAME
        pair = resource["tls_certificate"]
        chain, key = (pair[part]["inline_string"] for part in ("certificate_chain", "private_key"))
        return Held(chain.encode(), key.encode())

    def wait_for_certificate(
        self,
        names: Iterable[str] = HOSTS,
        *,
        after: Held | None = None,
        seconds: float = PATIENCE_SECONDS,
    ) -> Held:
        """The certificate for exactly these names, checked, when all outputs have it.

        Another one than `after`.
        """
        wanted, before = frozenset(names), after.serial if after else None

        def stored() -> bool:
            held = self.held()
            return held is not None and held.names == wanted and held.serial != before

        self.wait_for(stored, f"a certificate for {', '.join(sorted(wanted))}", seconds)
        self.wait_for(
            lambda: self.held() == self.pem_held() == self.sds_held(), "manifest, PEM, SDS agree"
        )
        held = self.held()
        assert held is not None
        held.check(self.ca.root_pem())
        return held

    def wait_for(
        self, ready: Callable[[], object], what: str, seconds: float = PATIENCE_SECONDS
    ) -> None:
        """Wait, with a deadline; fail with the tail of the logs."""
        deadline = time.monotonic() + seconds
        while not ready():
            if time.monotonic() > deadline:
                pytest.fail(f"not within {seconds:.0f} s: {what}\n{self.tails()}", pytrace=False)
            time.sleep(POLL_SECONDS)

    def wait_for_event(
        self, program: Program, name: str, *, count: int = 1, within: float = PATIENCE_SECONDS
    ) -> Event:
        """The log line of the count-th such event."""
        self.wait_for(
            lambda: len(program.events(name)) >= count, f"{count} × {name} in its log", within
        )
        return program.events(name)[count - 1]

    def tails(self) -> str:
        """The ends of the logs."""
        logs = (self.log, self.ca.log)
        return "\n".join(f"--- {log.name}\n{tail(log, 25)}" for log in logs)

    def _start_envoy(self) -> None:
        if not envoy.available():
            pytest.skip("there is no Envoy for this machine")
        ports = {
            host: self._closing.enter_context(backend(name))
            for host, name in ((WWW, "helloworld-v1"), (MOBILE, "helloworld-v2"))
        }
        ingress = envoy.Ingress(
            http_port=self.http_port,
            https_port=self.https_port,
            admin_port=self._envoy_port,
            challenge_port=self.challenge_port,
            backends=ports,
            sds_file=self.sds,
            secret_name=SECRET_NAME,
        )
        self._closing.callback(envoy.start(ingress, self.folder).stop)


def replace(path: Path, text: str) -> None:
    """Write a file in one step, so that nobody reads half of it."""
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text(text)
    draft.replace(path)


def seen_in(path: Path, text: str, times: int = 1) -> Callable[[], bool]:
    """Whether a file exists and has this text in it so many times."""
    wanted = text.encode()

    def seen() -> bool:
        try:
            return path.read_bytes().count(wanted) >= times
        except OSError:
            return False

    return seen
