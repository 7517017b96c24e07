"""What the cluster of the tests begins with: an etcd in which Istio's CRDs are already stored.

    python -m tests.cluster.seed    # pebble/setup --cluster does it, once for each list of versions

An API server takes seconds, on a busy machine many, until it serves two dozen CRDs that are new to
it, and none for those that it finds.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pebble.processes import CACHE
from tests.cluster.api import Api, Object, objects_of
from tests.cluster.control_plane import ControlPlane

FOLDER = CACHE / "cluster" / "etcd"
CRDS = CACHE / "crds"
SERVED_SECONDS = 120.0
POLL_SECONDS = 0.1


def main() -> None:
    """Make FOLDER anew."""
    with tempfile.TemporaryDirectory() as temporary:
        plane = ControlPlane(Path(temporary) / "plane")
        with plane:
            _create(crds(), plane.api)
        shutil.rmtree(FOLDER, ignore_errors=True)
        FOLDER.parent.mkdir(exist_ok=True)
        shutil.move(plane.etcd_folder, FOLDER)


def crds() -> list[Object]:
    """Istio's and those of the Gateway API, as set-up has copied them."""
    return [
        body
        for path in sorted(CRDS.iterdir())
        for body in objects_of(path.read_text())
        if body["kind"] == "CustomResourceDefinition"
    ]


def _create(crds: list[Object], api: Api) -> None:
    """Returns when all are served."""
    with ThreadPoolExecutor() as aside:
        list(aside.map(api.create, crds))
    deadline = time.monotonic() + SERVED_SECONDS
    for crd in crds:
        names, group = crd["spec"]["names"], crd["spec"]["group"]
        while not api.knows(names["kind"], group):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{names['kind']} of {group} is not served")
            time.sleep(POLL_SECONDS)


if __name__ == "__main__":
    main()
