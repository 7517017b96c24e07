"""Where the API server is and who we are: what is read, what is a mistake, what is never told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import certifi
import pytest
import yaml
from kubernetes.aio.config import incluster_config

from acmeistio.errors import Forbidden, Misconfigured, Transient
from acmeistio.kube import client as client_module
from acmeistio.kube.client import connect
from tests.cluster.control_plane import ControlPlane
from tests.simulated.api_server import document, scripted, status

TOKEN = "s3cr3t-t0ken"
PATH = "/api/v1/namespaces/default/secrets/a"


def kubeconfig(folder: Path, url: str, **changes: Any) -> Path:
    """A kubeconfig file for an API server."""
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {"token": TOKEN}}],
        "contexts": [
            {"name": "x", "context": {"cluster": "c", "user": "u"}},
            {"name": "y", "context": {"cluster": "c", "user": "nobody"}},
        ],
        "current-context": "x",
        **changes,
    }
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture
def pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, control_plane: ControlPlane) -> Path:
    """The folder that a kubelet gives to a pod of this cluster."""
    (tmp_path / "token").write_text(f"{control_plane.admin_token}\n")
    (tmp_path / "ca.crt").write_bytes(control_plane.certificate.read_bytes())
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(control_plane.api_port))
    return tmp_path


# ── in a pod ──────────────────────────────────────────────────────────────────────────────────


async def test_a_pod_needs_no_settings(pod: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own ServiceAccount, whose token is replaced while it runs.

    A proxy is for the way out of the cluster, and not asked for the API server in it.
    """
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    client = await connect(None)
    assert await client.request("GET", "/api/v1/namespaces/default")
    token = (pod / "token").read_text()
    (pod / "token").write_text("another")
    with pytest.raises(Forbidden, match="does not accept acmeistio's credentials"):
        await client.request("GET", "/api/v1/namespaces/default")
    (pod / "token").unlink()
    with pytest.raises(Forbidden):
        await client.request("GET", "/api/v1/namespaces/default")
    (pod / "token").write_text(token)
    assert await client.request("GET", "/api/v1/namespaces/default")
    await client.close()


@pytest.mark.parametrize("lost", ["token", "ca.crt"])
async def test_a_pod_without_a_service_account_is_a_mistake(pod: Path, lost: str) -> None:
    """As with automountServiceAccountToken: false."""
    (pod / lost).unlink()
    with pytest.raises(Misconfigured, match=r"ServiceAccount \(.*does not exist\)"):
        await connect(None)


async def test_without_pod_and_kubeconfig_there_is_no_cluster(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One sentence with the remedy; never the cluster that kubectl would take."""
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path, "http://127.0.0.1:1")))
    with pytest.raises(Misconfigured, match=r"--kubeconfig.*--manifests and --secrets") as error:
        await connect(None)
    assert "\n" not in str(error.value)


async def test_a_certificate_that_is_not_trusted_is_told(
    pod: Path, monkeypatch: pytest.MonkeyPatch, control_plane: ControlPlane, tmp_path: Path
) -> None:
    """And the CA is read anew: it may have been replaced."""
    monkeypatch.setattr(client_module, "RENEW_SECONDS", 0.0)
    (pod / "ca.crt").write_text(certifi.contents())
    client = await connect(None)
    with pytest.raises(Transient, match="certificate is not trusted"):
        await client.request("GET", "/api/v1/namespaces/default")
    (pod / "ca.crt").write_bytes(control_plane.certificate.read_bytes())
    with pytest.raises(Transient):
        await client.request("GET", "/api/v1/namespaces/default")
    assert await client.request("GET", "/api/v1/namespaces/default")
    await client.close()


async def test_a_ca_that_is_none_is_a_mistake(pod: Path) -> None:
    """Not a traceback."""
    (pod / "ca.crt").write_text("no PEM")
    with pytest.raises(Misconfigured, match="CA certificate"):
        await connect(None)


# ── by a kubeconfig ───────────────────────────────────────────────────────────────────────────


async def test_a_kubeconfig_says_where_and_who(tmp_path: Path) -> None:
    """Its current context, or the one that is named."""
    async with scripted(document({}), document({})) as server:
        for context, sent in ((None, f"Bearer {TOKEN}"), ("y", None)):
            client = await connect(kubeconfig(tmp_path, server.url), context)
            await client.request("GET", PATH)
            assert server.asked[-1].headers.get("Authorization") == sent
            await client.close()


@pytest.mark.parametrize(
    "changes",
    [
        {"contexts": []},
        {"contexts": None},
        {"clusters": [{"name": "c"}]},
        {"clusters": []},
        {"users": [{"name": "u", "user": {"client-certificate": "/nowhere"}}]},
        {"users": [{"user": {"token": TOKEN}}]},
        {"users": [{"name": "u", "user": {"token": TOKEN, "auth-provider": {"name": "oidc"}}}]},
        {"current-context": "nowhere"},
        {"current-context": None},
    ],
)
async def test_a_kubeconfig_that_is_wrong_is_a_mistake(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    """One sentence, which quotes no credential."""
    path = kubeconfig(tmp_path, "https://127.0.0.1:1", **changes)
    with pytest.raises(Misconfigured, match="kubectl --kubeconfig") as error:
        await connect(path)
    assert str(path) in str(error.value)
    assert TOKEN not in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "[]", "a: b: c: s3cr3t-t0ken", "42", "\x00", "s3cr3t-t0ken"])
async def test_a_file_that_is_no_kubeconfig_is_a_mistake(tmp_path: Path, text: str) -> None:
    """Whatever it is."""
    path = tmp_path / "kubeconfig"
    path.write_text(text)
    with pytest.raises(Misconfigured) as error:
        await connect(path)
    assert TOKEN not in str(error.value)
    assert "\n" not in str(error.value)


async def test_a_file_that_is_not_there_is_a_mistake(tmp_path: Path) -> None:
    """It is named."""
    with pytest.raises(Misconfigured, match="nowhere: No such file"):
        await connect(tmp_path / "nowhere")
    with pytest.raises(Misconfigured, match="directory"):
        await connect(tmp_path)


async def test_a_proxy_of_the_environment_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As kubectl does, but for hosts that NO_PROXY names."""
    async with scripted(document({}), document({"by": "proxy"})) as server:
        path = kubeconfig(tmp_path, "http://api.example.org")
        monkeypatch.setenv("http_proxy", server.url)
        client = await connect(path)
        await client.request("GET", PATH)
        assert server.asked[0].headers["Host"] == "api.example.org"
        await client.close()
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
        client = await connect(kubeconfig(tmp_path, server.url))
        assert await client.request("GET", PATH)
        await client.close()


# ── answers ───────────────────────────────────────────────────────────────────────────────────


async def test_an_api_server_that_is_not_there_is_transient(tmp_path: Path) -> None:
    """With the address that was tried, and nothing of the inside of a library."""
    client = await connect(kubeconfig(tmp_path, "https://127.0.0.1:1"))
    with pytest.raises(Transient, match=r"can't be reached: 127\.0\.0\.1:1: ") as error:
        await client.request("GET", PATH)
    assert "object at" not in str(error.value)
    await client.close()


async def test_an_answer_without_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would fill the memory."""
    monkeypatch.setattr(client_module, "MAX_ANSWER_BYTES", 1000)
    async with scripted(document({"a": "x" * 1000})) as server:
        client = await connect(kubeconfig(tmp_path, server.url))
        with pytest.raises(Transient, match="more than 1000 bytes"):
            await client.request("GET", PATH)
        await client.close()


async def test_credentials_that_are_refused_are_read_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once for a request, and seldom: an account that is gone is no reason to hurry."""
    monkeypatch.setattr(client_module, "RENEW_SECONDS", 0.0)
    async with scripted(status(401), document({"kind": "Secret"}), status(401)) as server:
        path = kubeconfig(tmp_path, server.url)
        client = await connect(path)
        path.write_text(path.read_text().replace(TOKEN, "new"))
        assert await client.request("GET", PATH) == {"kind": "Secret"}
        assert server.asked[-1].headers["Authorization"] == "Bearer new"
        monkeypatch.setattr(client_module, "RENEW_SECONDS", 60.0)
        with pytest.raises(Forbidden):
            await client.request("GET", PATH)
        assert len(server.asked) == 3
        await client.close()


async def test_a_kubeconfig_that_is_lost_leaves_what_was_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be written at this moment."""
    monkeypatch.setattr(client_module, "RENEW_SECONDS", 0.0)
    async with scripted(status(401), document({"kind": "Secret"})) as server:
        path = kubeconfig(tmp_path, server.url)
        client = await connect(path)
        path.unlink()
        with pytest.raises(Forbidden):
            await client.request("GET", PATH)
        assert await client.request("GET", PATH) == {"kind": "Secret"}
        await client.close()
