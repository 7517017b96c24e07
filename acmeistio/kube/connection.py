"""Where the API server is and who we are: a pod's own ServiceAccount, or a kubeconfig file.

Owns what is a mistake in that, said in one sentence. Credentials never leave it but as the header
of a request.
"""

from __future__ import annotations

import contextlib
import ssl
import urllib.parse
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import yaml

from acmeistio import __version__
from acmeistio.errors import Misconfigured

if TYPE_CHECKING:
    from kubernetes.aio.client import ApiClient, Configuration

USER_AGENT = f"acmeistio/{__version__}"

_UNREADABLE = (OSError, ValueError, LookupError, TypeError, AttributeError, yaml.YAMLError)
"""What the library raises for a kubeconfig that is none."""


async def api_client(kubeconfig: Path | None, context: str | None) -> ApiClient:
    """Connections under the credentials as they are now. Raises Misconfigured.

    Without a kubeconfig only a pod's own ServiceAccount counts, never the one that kubectl would
    take: a forgotten option must not make somebody's production cluster ours.
    """
    # 6 MiB and 0.2 s that the embedded default does without.
    from kubernetes.aio.client import ApiClient, Configuration  # noqa: PLC0415

    configuration = Configuration()
    if kubeconfig:
        await _load_file(configuration, kubeconfig, context)
    else:
        _load_pod(configuration)
    # A watch holds a connection for as long as it lasts.
    configuration.connection_pool_maxsize = 0
    # aiohttp would ask the environment for a proxy at each request, in a thread, and take one to
    # the API server of its own cluster where NO_PROXY names that by a range of addresses.
    configuration.client_session_kwargs = {
        "cookie_jar": aiohttp.DummyCookieJar(),
        "trust_env": False,
    }
    # Many clusters' CAs lack key identifiers, which Python 3.13 and no other tool asks for.
    configuration.disable_strict_ssl_verification = True
    try:
        client = ApiClient(configuration)
    except (ssl.SSLError, OSError) as error:
        raise Misconfigured(
            f"the CA certificate or client certificate for the API server is unreadable: {error}"
        ) from error
    client.user_agent = USER_AGENT
    return client


def _proxy(url: str) -> str | None:
    """The proxy that the environment names for the API server (HTTPS_PROXY, NO_PROXY)."""
    parts = urllib.parse.urlsplit(url)
    if urllib.request.proxy_bypass(parts.hostname or ""):
        return None
    return urllib.request.getproxies().get(parts.scheme)


def _load_pod(configuration: Configuration) -> None:
    from kubernetes.aio.config import ConfigException  # noqa: PLC0415
    from kubernetes.aio.config import incluster_config as pod  # noqa: PLC0415

    def read_token(configuration: Configuration) -> None:
        """A kubelet replaces the token long before it expires."""
        with contextlib.suppress(OSError):
            token = Path(pod.SERVICE_TOKEN_FILENAME).read_text().strip()
            configuration.api_key["BearerToken"] = f"Bearer {token}"

    try:
        pod.load_incluster_config(configuration, try_refresh_token=False)  # type: ignore[no-untyped-call]
        configuration.refresh_api_key_hook = read_token  # type: ignore[assignment]
    except (ConfigException, OSError) as error:
        raise Misconfigured(
            f"no cluster is known: this is no pod with a ServiceAccount ({_said(error)}); "
            "name a kubeconfig file with --kubeconfig, "
            "or work on folders with --manifests and --secrets"
        ) from error


async def _load_file(configuration: Configuration, kubeconfig: Path, context: str | None) -> None:
    from kubernetes.aio.config import ConfigException, load_kube_config  # noqa: PLC0415

    _check_readable(kubeconfig)
    try:
        await load_kube_config(  # type: ignore[no-untyped-call]
            str(kubeconfig), context, client_configuration=configuration, persist_config=False
        )
    except (ConfigException, *_UNREADABLE) as error:
        raise Misconfigured(
            f"--kubeconfig {kubeconfig} is not usable ({_said(error)}); "
            f"try: kubectl --kubeconfig {kubeconfig} cluster-info"
        ) from error
    configuration.proxy = configuration.proxy or _proxy(configuration.host)


def _check_readable(kubeconfig: Path) -> None:
    """The library only logs that a file is not there."""
    try:
        kubeconfig.open().close()
    except OSError as error:
        raise Misconfigured(f"--kubeconfig {kubeconfig}: {error.strerror}") from error


def _said(error: Exception) -> str:
    """The error in one line, without what it quotes of the file: that may be a credential."""
    if isinstance(error, yaml.YAMLError):
        return "it is not YAML"
    line, _, _ = " ".join(str(error).split()).partition("{")
    return line.rstrip("./ ") or type(error).__name__
