"""The command line: options, help and exit codes. Decides nothing.

Exit codes: 0 ended as asked, 1 an error of acmeistio's own, 2 it can't work as it was told to.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from acmeistio import __version__
from acmeistio.errors import Misconfigured
from acmeistio.model import IngressMode, Probing, Routing
from acmeistio.settings import LogFormat, load_settings

cli = typer.Typer(
    name="acmeistio",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="The ACME client that Istio's ingress gateway lacks: name a host, and HTTPS works.",
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"acmeistio {__version__}")
        raise typer.Exit


@cli.callback()
def root(
    _version_wanted: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say the version.")
    ] = False,
) -> None:
    """Hold the options of the program itself."""


@cli.command(
    epilog="Every option can be set by the environment: --gateway-namespace is "
    "ACMEISTIO_GATEWAY_NAMESPACE.",
)
def run(
    manifests: Annotated[
        Path | None,
        typer.Option(
            help="Without a cluster: folder of Kubernetes manifests (YAML, JSON), watched."
        ),
    ] = None,
    secrets: Annotated[
        Path | None,
        typer.Option(
            help="Without a cluster: folder for what is written: Secrets as manifests, PEM pairs "
            "and Envoy SDS files, accounts, ledger."
        ),
    ] = None,
    kubeconfig: Annotated[
        Path | None,
        typer.Option(help="How to reach the cluster from outside; in a pod: its ServiceAccount."),
    ] = None,
    context: Annotated[str | None, typer.Option(help="Which context of the kubeconfig.")] = None,
    namespace: Annotated[
        str | None,
        typer.Option(help="Where acmeistio keeps accounts and ledger [istio-system]."),
    ] = None,
    issuer: Annotated[
        str | None,
        typer.Option(
            help="Which CA issues, unless an object names another: letsencrypt-staging (try with "
            "it first: generous limits, untrusted certificates), letsencrypt, a name in --issuers, "
            "or one of your own with --directory. Naming it agrees to its terms of service. "
            "Required."
        ),
    ] = None,
    issuers: Annotated[
        Path | None,
        typer.Option(
            help="YAML file of CAs beside those built in, or more about these: "
            "[{name: own, directory: https://ca.example/acme/directory, caBundle: roots.pem}]; "
            "deploy/examples/issuers.yaml explains every word. Objects choose by the annotation "
            "acmeistio.io/issuer. Naming a CA there agrees to its terms of service."
        ),
    ] = None,
    directory: Annotated[
        str | None,
        typer.Option(help="ACME directory of --issuer, an https:// URL."),
    ] = None,
    ca_bundle: Annotated[
        Path | None,
        typer.Option(help="PEM file of roots to trust that API by, for a private CA."),
    ] = None,
    email: Annotated[str | None, typer.Option(help="Contact of the account there.")] = None,
    profile: Annotated[
        str | None,
        typer.Option(
            help="Certificate profile there, of objects that name none; default: the CA's."
        ),
    ] = None,
    gateway_namespace: Annotated[
        str | None,
        typer.Option(help="Where the gateway's pods run and read Secrets [istio-system]."),
    ] = None,
    gateways: Annotated[
        str | None,
        typer.Option(
            help="Several gateways, or one that is not istio-ingressgateway, as YAML: "
            "[{namespace: edge, selector: {istio: edge}, service: edge}]; each may have a "
            "routing, an httpPort and an httpsPort of its own, and an address: {host: …}."
        ),
    ] = None,
    routing: Annotated[
        Routing | None,
        typer.Option(
            help="How the CA's requests are brought to acmeistio: filter (one EnvoyFilter for "
            "all hosts), mirror (a route beside each of yours, where EnvoyFilters are not "
            "allowed) or off (you see to it) [filter]."
        ),
    ] = None,
    probe: Annotated[
        Probing | None,
        typer.Option(
            help="A name that can't be reached through the gateway: waits (gate), is told and "
            "ordered all the same (advise), or is not looked at (off) [gate]."
        ),
    ] = None,
    root_namespace: Annotated[
        str | None,
        typer.Option(help="The mesh's root namespace [istio-system]."),
    ] = None,
    gateway_class: Annotated[
        str | None,
        typer.Option(help="GatewayClass whose gateways Istio deploys itself, or none [istio]."),
    ] = None,
    cluster_domain: Annotated[
        str | None, typer.Option(help="The cluster's DNS domain [cluster.local].")
    ] = None,
    default_secret: Annotated[
        str | None,
        typer.Option(help="Secret of hosts that name none [istio-ingress-certs]."),
    ] = None,
    secrets_granted: Annotated[
        str | None,
        typer.Option(
            help="Names of the Secrets that acmeistio has the right to write, with commas "
            "[the default Secret]; * for any in a gateway namespace of its own."
        ),
    ] = None,
    domains_allowed: Annotated[
        str | None,
        typer.Option(help="Certificates only for these domains and what is below [any]."),
    ] = None,
    mesh_config: Annotated[
        str | None,
        typer.Option(help="ConfigMap of the mesh, NAMESPACE/NAME [istio-system/istio]."),
    ] = None,
    ingress_mode: Annotated[
        IngressMode | None,
        typer.Option(help="The mesh's ingressControllerMode [as its ConfigMap says, or STRICT]."),
    ] = None,
    ingress_class: Annotated[
        str | None,
        typer.Option(help="The mesh's ingressClass [as its ConfigMap says, or istio]."),
    ] = None,
    tls_acme: Annotated[
        bool | None,
        typer.Option("--tls-acme", help='Honour kubernetes.io/tls-acme: "true" as well [no].'),
    ] = None,
    challenge_listen: Annotated[
        str | None,
        typer.Option(help="HOST:PORT that the gateway sends challenges to [:8080]."),
    ] = None,
    admin_listen: Annotated[
        str | None,
        typer.Option(help="HOST:PORT of /livez and /readyz [127.0.0.1:9090]."),
    ] = None,
    concurrent_orders: Annotated[int | None, typer.Option(help="Orders at once [8].")] = None,
    log_format: Annotated[
        LogFormat | None,
        typer.Option(help="[auto: text on a terminal, else JSON]"),
    ] = None,
    log_level: Annotated[
        str | None,
        typer.Option(help="debug, info, warning or error [info]."),
    ] = None,
) -> None:
    """Keep certificates for everything declared, for ever.

    An Ingress with the annotation acmeistio.io/tls: "true" is enough: its hosts get a
    certificate in the Secret that the ingress gateway reads. Hosts must resolve to a gateway
    that sends /.well-known/acme-challenge/ to --challenge-listen.

    In a cluster: deploy/install.yaml runs it with the settings of a ConfigMap. From outside,
    with the rights of your kubeconfig: --kubeconfig FILE.

    Without a cluster: --manifests has the Ingresses, and --secrets gets the certificates, for
    Envoy (SDS), for any server (PEM) and as Secret manifests. Against Pebble on this machine:
    pebble/run and pebble/demo.
    """
    options = dict(locals())
    try:
        settings = load_settings(options)
        from acmeistio import app  # noqa: PLC0415  # so that --help is quick

        asyncio.run(app.run(settings))
    except Misconfigured as error:
        typer.echo(f"acmeistio: {error}", err=True)
        raise typer.Exit(2) from error
