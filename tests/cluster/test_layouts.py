"""All layouts (layouts.py): the certificate is issued through Envoy and served; pages stay pages.

Once without acmeistio, to see that the table tells the truth about Istio; then for each routing,
with our routes older and with the user's older: of routes of one host, Istio takes the older first.
The table of what came of it is printed at the end of the run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from itertools import product

import pytest

from acmeistio.names import DnsName
from acmeistio.pki import placeholder
from acmeistio.stores.secrets import encoded
from pebble.processes import CHECKOUT
from pebble.program import PATIENCE_SECONDS
from tests.cluster.bed import NAMESPACE, SECRET_NAME, Bed
from tests.cluster.gateway import Gateway
from tests.cluster.layouts import BACKEND, DOMAIN, GROUPS, LAYOUTS, Group, Layout, of_group
from tests.cluster.seen import stored_names
from tests.cluster.told import events

SHOP = "shop"
OURS_OLDER, USERS_OLDER = "ours older", "user's older"
CELLS = tuple(product(("filter", "mirror"), (OURS_OLDER, USERS_OLDER)))
OLDER_SECONDS = 1.1
"""creationTimestamp counts whole seconds."""
POLL_SECONDS = 0.1

DEPLOY = CHECKOUT / "deploy"

Seen = Mapping[str, str]
_table: dict[tuple[str, str, str], str] = {}
"""What came of a layout (its code) in a cell."""


@pytest.fixture(scope="module", autouse=True)
def _printed(report: Callable[[str], None]) -> Iterator[None]:
    """The table, also of a run that has failed."""
    yield
    for line in _lines():
        report(line)


def _lines() -> Iterator[str]:
    if not _table:
        return
    yield "layouts: seconds from when all was written until the host was served and its user told"
    heads = "".join(f"{f'{routing}, {age}':30}" for routing, age in CELLS)
    yield f"{'layout':65}{heads}"
    for layout in LAYOUTS:
        cells = (_table.get((layout.code, *cell), "did not run") for cell in CELLS)
        yield f"{layout.code:6}{layout.title:59}{''.join(f'{cell:30}' for cell in cells)}"


class Stage:
    """A cluster with the backends and gateways that layouts need, and what is seen in it.

    Nothing of acmeistio is in it at the beginning but its rights.
    """

    def __init__(self, bed: Bed, layouts: list[Layout]) -> None:
        bed.unroute()
        self.bed = bed
        self.layouts = layouts
        self._gateways: dict[str, Gateway] = {}
        bed.service(SHOP, BACKEND)
        for layout in layouts:
            if layout.workload is not None:
                self._start_gateway(layout)

    def apply(self) -> None:
        """Write the objects of all layouts."""
        for layout in self.layouts:
            for body in layout.manifests(self._namespace(layout), SECRET_NAME):
                self.bed.apply(body)

    def put_secrets(self) -> None:
        """Put a certificate of nobody, for all hosts, where gateways read theirs."""
        names = [DnsName(layout.host) for layout in self.layouts]
        pair = placeholder(names, datetime.now(UTC))
        data = {"tls.crt": encoded(pair.chain_pem), "tls.key": encoded(pair.key_pem)}
        for namespace in {NAMESPACE, *(g.workload.namespace for g in self._gateways.values())}:
            self.bed.apply(
                {
                    "apiVersion": "v1",
                    "kind": "Secret",
                    "metadata": {"namespace": namespace, "name": SECRET_NAME},
                    "type": "kubernetes.io/tls",
                    "data": data,
                }
            )

    def gateway(self, layout: Layout) -> Gateway:
        """The one that serves the host."""
        return self._gateways.get(layout.code, self.bed.gateway)

    def pages(self, layout: Layout) -> Seen:
        """What the user's page answers."""
        return {
            key: _answer(self.gateway(layout), f"{key.partition(' ')[0]}://{host}{layout.page}")
            for key, host in _asked(layout).items()
        }

    def all_seen(self, layout: Layout) -> Seen:
        """The pages, the certificate and what the user is told."""
        names = (
            self.gateway(layout).names(layout.host, self.bed.root)
            if layout.served
            else stored_names(self.bed)
        )
        return {
            "certificate": "of the CA" if layout.host in names else "none",
            **self.pages(layout),
            "warning": str(layout.warning if self._told(layout) else None),
        }

    def _told(self, layout: Layout) -> bool:
        """Whether the warning of a layout is at one of its Ingresses."""
        manifests = layout.manifests(SHOP, SECRET_NAME)
        names = [body["metadata"]["name"] for body in manifests if body["kind"] == "Ingress"]
        code = layout.warning
        return code is not None and any(events(self.bed, SHOP, name, code) for name in names)

    def _namespace(self, layout: Layout) -> str:
        return SHOP if layout.workload is None else layout.workload.namespace

    def _start_gateway(self, layout: Layout) -> None:
        assert layout.workload is not None
        namespace = layout.workload.namespace
        gateway = self._gateways[layout.code] = self.bed.another_gateway(layout.workload)
        self.bed.service(namespace, BACKEND)
        self.bed.plane.kubectl("-n", namespace, "apply", "-f", DEPLOY / "tenant.yaml")
        # The last: to make a namespace anew takes its annotations away.
        allowed = f"acmeistio.io/allowed-domains={DOMAIN}"
        self.bed.plane.kubectl("annotate", "--overwrite", "namespace", namespace, allowed)
        self.bed.ca.set_addresses(layout.host, [gateway.address])


def _answer(gateway: Gateway, url: str) -> str:
    try:
        answer = gateway.get(url)
    except OSError:
        return "none"
    if answer.status == HTTPStatus.OK:
        return BACKEND if f"Hello from {BACKEND}" in answer.text else "200 of somebody else"
    return " ".join(filter(None, (str(answer.status), answer.headers.get("location"))))


def _asked(layout: Layout) -> dict[str, str]:
    """The hosts whose page is looked at."""
    hosts = {"http": layout.host, "https": layout.host}
    return hosts if layout.sibling is None else hosts | {"http of a sibling": layout.sibling_host}


def expected_pages(layout: Layout) -> Seen:
    """What the user's page answers, where a certificate lies in the Secret."""
    without_page = "404" if layout.served else "none"
    pages = {
        "http": _expected(layout.http_before, layout.host + layout.page),
        "https": BACKEND if layout.https_page else without_page,
    }
    if layout.sibling is None:
        return pages
    sibling = _expected(layout.sibling, layout.sibling_host + layout.page)
    return pages | {"http of a sibling": sibling}


def _expected(status: int, where: str) -> str:
    return {
        HTTPStatus.OK: BACKEND,
        HTTPStatus.MOVED_PERMANENTLY: f"301 https://{where}",
        HTTPStatus.NOT_FOUND: "404",
    }[HTTPStatus(status)]


def expected(layout: Layout) -> Seen:
    """All that is to be seen of a layout in the end."""
    return {
        "certificate": "of the CA",
        **expected_pages(layout),
        "warning": str(layout.warning),
    }


def _watch(
    layouts: list[Layout],
    seen: Callable[[Layout], Seen],
    wanted: Callable[[Layout], Seen],
) -> tuple[dict[str, float], dict[str, Seen]]:
    """How long it took until each layout was as wanted; and what of those that are not is seen."""
    start = time.monotonic()
    seconds: dict[str, float] = {}
    while len(seconds) < len(layouts) and time.monotonic() - start < PATIENCE_SECONDS:
        for layout in layouts:
            if layout.code not in seconds and seen(layout) == wanted(layout):
                seconds[layout.code] = time.monotonic() - start
        time.sleep(POLL_SECONDS)
    # Once more: what came later may not take away what was there.
    last = {layout.code: (seen(layout), wanted(layout)) for layout in layouts}
    return seconds, {
        code: {key: f"{now[key]}, not {text}" for key, text in then.items() if now[key] != text}
        for code, (now, then) in last.items()
        if now != then
    }


@pytest.fixture(scope="module")
def _mirrors_allowed(bed: Bed) -> Iterator[None]:
    """The rights that mirrors need beside those of install.yaml."""
    bed.plane.kubectl("apply", "-f", DEPLOY / "mirrors.yaml")
    yield
    bed.plane.kubectl("delete", "-f", DEPLOY / "mirrors.yaml")


@pytest.mark.parametrize("group", GROUPS)
def test_what_istio_does_with_it(clean_bed: Bed, group: Group) -> None:
    """The table is right about pages: so they are with any certificate, without acmeistio."""
    stage = Stage(clean_bed, of_group(group))
    stage.put_secrets()
    stage.apply()
    _, wrong = _watch(stage.layouts, stage.pages, expected_pages)
    assert not wrong, _described(wrong)
    assert clean_bed.gateway.rejections() == {}


@pytest.mark.usefixtures("_mirrors_allowed")
@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize(("routing", "age"), CELLS)
def test_every_host_is_served(clean_bed: Bed, group: Group, routing: str, age: str) -> None:
    """The certificate arrives, its user is told what Istio lacks, and no page is another."""
    stage = Stage(clean_bed, _that_can_run(clean_bed, group))
    if age == OURS_OLDER:
        _start(clean_bed, group, routing)
        time.sleep(OLDER_SECONDS)
        stage.apply()
    else:
        stage.apply()
        time.sleep(OLDER_SECONDS)
        _start(clean_bed, group, routing)
    seconds, wrong = _watch(stage.layouts, stage.all_seen, expected)
    for layout in stage.layouts:
        came = f"{layout.warning or '✓'} {seconds.get(layout.code, 0):.1f} s"
        failed = f"✗ {', '.join(wrong.get(layout.code, ()))}"
        _table[layout.code, routing, age] = failed if layout.code in wrong else came
    assert not wrong, f"{_described(wrong)}\n{clean_bed.tails()}"
    assert clean_bed.gateway.rejections() == {}


def _described(wrong: Mapping[str, Seen]) -> str:
    """What is wrong, a line for each layout."""
    return "\n".join(f"{code}: {dict(seen)}" for code, seen in wrong.items())


def _that_can_run(bed: Bed, group: Group) -> list[Layout]:
    """The layouts of a group; where port 443 can't be bound, those that do without it."""
    return [x for x in of_group(group) if bed.gateway.has_port_443 or not x.needs_port_443]


def _start(bed: Bed, group: Group, routing: str) -> None:
    """Start acmeistio; return when its routes are there."""
    # The Service of an automated gateway is found by the cluster's DNS, which the bed has not: to
    # wait for what can be seen of it from inside would be to wait for ever.
    probe = "advise" if group == "automated" else "gate"
    bed.start_acmeistio(routing=routing, probe=probe)
    kind = "VirtualService.networking.istio.io"
    bed.wait_for(lambda: bed.api.find(kind, NAMESPACE, "acmeistio"), "its routes are there")
