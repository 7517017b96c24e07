"""A small synchronous client of the API server, for those who stand around the program.

    api.apply(manifest_text)
    api.get("Secret", "istio-system", "istio-ingress-certs")["data"]

Objects are raw dicts. A kind is written as kubectl takes it: `Secret`, and where two groups have
the same one `Gateway.networking.istio.io`. Knows nothing of what runs in the cluster.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import urllib3
import yaml

TIMEOUT_SECONDS = 10.0
CONNECTIONS = 8
PATIENT_TRIES = 10

Object = dict[str, Any]
Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_DISCOVERY = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
_CONTENT_TYPES = {
    "POST": "application/json",
    "PUT": "application/json",
    "PATCH": "application/merge-patch+json",
}


class Refused(Exception):
    """The API server answered with an error."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message


@dataclass(frozen=True)
class _Resource:
    group: str
    version: str
    plural: str
    namespaced: bool

    def path(self, namespace: str | None, name: str = "") -> str:
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        scope = f"/namespaces/{namespace}" if self.namespaced and namespace else ""
        return f"{root}{scope}/{self.plural}" + (f"/{name}" if name else "")


class Api:
    """The API server as the owner of a token sees it. May be used from several threads."""

    def __init__(self, port: int, certificate: Path, token: str) -> None:
        self._pool = urllib3.HTTPSConnectionPool(
            "127.0.0.1",
            port,
            ca_certs=str(certificate),
            headers={"Authorization": f"Bearer {token}"},
            maxsize=CONNECTIONS,
            timeout=TIMEOUT_SECONDS,
            # As kubectl does: an API server that has just started asks for a second of patience.
            retries=urllib3.Retry(
                connect=0,
                read=0,
                other=0,
                status=PATIENT_TRIES,
                status_forcelist=[HTTPStatus.TOO_MANY_REQUESTS],
                allowed_methods=None,
                raise_on_status=False,
            ),
        )
        self._resources: dict[tuple[str, str], _Resource] = {}

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        content_type: str | None = None,
        accept: str = "application/json",
    ) -> Any:
        """Any request, by its path with the query; the answer as JSON. Raises Refused."""
        headers = {**self._pool.headers, "Accept": accept}
        if body is not None:
            headers["Content-Type"] = content_type or _CONTENT_TYPES[method]
        data = None if body is None else json.dumps(body).encode()
        answer = self._pool.request(method, path, body=data, headers=headers)
        if answer.status >= HTTPStatus.BAD_REQUEST:
            raise _refusal(answer.status, answer.data)
        return json.loads(answer.data)

    def ready(self) -> bool:
        """Whether the API server says that it is."""
        try:
            return self._pool.request("GET", "/readyz").status == HTTPStatus.OK
        except urllib3.exceptions.HTTPError:
            return False

    def get(self, kind: str, namespace: str | None, name: str) -> Object:
        """One object; None as the namespace of kinds that have none."""
        found: Object = self.request("GET", self.path(kind, namespace, name))
        return found

    def find(self, kind: str, namespace: str | None, name: str) -> Object | None:
        """One object, or None where there is none."""
        try:
            return self.get(kind, namespace, name)
        except Refused as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return None
            raise

    def list(self, kind: str, namespace: str | None = None, *, query: str = "") -> list[Object]:
        """All objects of a kind, in one namespace or in all."""
        path = self.path(kind, namespace)
        found: list[Object] = self.request("GET", f"{path}?{query}" if query else path)["items"]
        return found

    def create(self, body: Mapping[str, Any], *, dry_run: bool = False) -> Object:
        """A new object."""
        resource, namespace, _ = self._place(body)
        query = "?dryRun=All" if dry_run else ""
        created: Object = self.request("POST", resource.path(namespace) + query, body)
        return created

    def update(self, body: Mapping[str, Any]) -> Object:
        """Put an object in the place of the one that is there."""
        resource, namespace, name = self._place(body)
        updated: Object = self.request("PUT", resource.path(namespace, name), body)
        return updated

    def patch(
        self, kind: str, namespace: str | None, name: str, change: Mapping[str, Any]
    ) -> Object:
        """Merge a change into an object (RFC 7386: null removes)."""
        patched: Object = self.request("PATCH", self.path(kind, namespace, name), change)
        return patched

    def delete(self, kind: str, namespace: str | None, name: str) -> None:
        """Delete an object; harmless where there is none."""
        try:
            self.request("DELETE", self.path(kind, namespace, name))
        except Refused as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise

    def apply(self, manifest: str | Mapping[str, Any], *, namespace: str = "default") -> None:
        """Server-side apply: YAML text of any number of objects, or one object."""
        for body in objects_of(manifest):
            resource, own, name = self._place(body, namespace)
            self.request(
                "PATCH",
                f"{resource.path(own, name)}?fieldManager=bed&force=true",
                body,
                content_type="application/apply-patch+yaml",
            )

    def warnings(self, body: Mapping[str, Any]) -> Sequence[str]:
        """What the API server and its webhooks remark on an object, which is not stored."""
        resource, namespace, name = self._place(body)
        path = resource.path(namespace, name) + "?fieldManager=bed&force=true&dryRun=All"
        headers = {**self._pool.headers, "Content-Type": "application/apply-patch+yaml"}
        answer = self._pool.request("PATCH", path, body=json.dumps(body), headers=headers)
        if answer.status >= HTTPStatus.BAD_REQUEST:
            raise _refusal(answer.status, answer.data)
        return answer.headers.getlist("Warning")

    def knows(self, kind: str, group: str) -> bool:
        """Whether the API server serves a kind."""
        try:
            return bool(self._resource(kind, group))
        except Refused:
            return False

    def path(self, kind: str, namespace: str | None, name: str = "") -> str:
        """The path of an object, or of all of its kind."""
        kind, _, group = kind.partition(".")
        return self._resource(kind, group or None).path(namespace, name)

    def _place(
        self, body: Mapping[str, Any], namespace: str = "default"
    ) -> tuple[_Resource, str, str]:
        metadata = body["metadata"]
        group, _, _ = str(body["apiVersion"]).rpartition("/")
        resource = self._resource(body["kind"], group)
        return resource, metadata.get("namespace", namespace), metadata.get("name", "")

    def _resource(self, kind: str, group: str | None) -> _Resource:
        """By kind and group; without a group the first that has the kind, the core before others.

        Kinds come with their CRDs: what is not known is looked up anew.
        """
        key = (kind, group if group is not None else "*")
        if key not in self._resources:
            self._resources = dict(self._discovered())
        try:
            return self._resources[key]
        except KeyError:
            raise Refused(HTTPStatus.NOT_FOUND, "NoSuchKind", f"{kind} of {group}") from None

    def _discovered(self) -> Iterator[tuple[tuple[str, str], _Resource]]:
        anywhere = {}
        for root in ("/apis", "/api"):  # the later wins: the core
            for group in self.request("GET", root, accept=_DISCOVERY)["items"]:
                for kind, resource in _preferred(group):
                    yield (kind, resource.group), resource
                    anywhere[kind, "*"] = resource
        yield from anywhere.items()


def objects_of(manifest: str | Mapping[str, Any]) -> list[Object]:
    """The objects of a YAML text, those of a List one by one; or the one that it is already."""
    documents = yaml.load_all(manifest, Loader) if isinstance(manifest, str) else [dict(manifest)]
    return [
        item
        for document in documents
        if document
        for item in (document["items"] if document["kind"] == "List" else [document])
    ]


def _preferred(group: Object) -> Iterator[tuple[str, _Resource]]:
    """The kinds of a group, by their preferred version."""
    name = group["metadata"].get("name", "")
    for version in reversed(group["versions"]):  # the preferred one comes first, and so wins
        for resource in version.get("resources", ()):
            yield (
                resource["responseKind"]["kind"],
                _Resource(
                    name,
                    version["version"],
                    resource["resource"],
                    resource["scope"] == "Namespaced",
                ),
            )


def _refusal(status: int, data: bytes) -> Refused:
    try:
        answer = json.loads(data)
    except ValueError:
        return Refused(status, "", data.decode(errors="replace"))
    return Refused(status, answer.get("reason", ""), answer.get("message", ""))
