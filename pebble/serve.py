"""`pebble/run`: the local CA in the foreground, for work by hand."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Sequence

from pebble.local_ca import CaOptions, LocalCa
from pebble.processes import CACHE, CHECKOUT, ChildFailed, listens

DESCRIPTION = """\
Pebble, Let's Encrypt's ACME server for tests, and the DNS server that it asks.

Every name resolves to 127.0.0.1, and http-01 is asked on --http-port: whatever acmeistio
declares gets a certificate, from a root that is new with each start. Nothing leaves this machine.
"""
EPILOG = """\
examples:
  pebble/run                        issues as fast as it can; the start prints what to try
  pebble/run --faults               every second nonce is refused, as a busy CA may do
  pebble/run --real-delays          validations take a second, Retry-After is sent
  pebble/run --short-validity 60    profile "shortlived" lives 60 s: watch renewals

Ctrl-C ends it. All is forgotten then: accounts, orders, the root.
"""

AS_SHIPPED = (3, 5)
"""Pebble's own Retry-After, in seconds."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Start, say what to try, and stay until Ctrl-C."""
    wanted = _parser().parse_args(arguments)
    ca = LocalCa(
        _options(wanted),
        http_port=wanted.http_port,
        directory=CACHE / "pebble" / str(wanted.port),
        directory_port=wanted.port,
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if listens(wanted.port):
        print(f"Port {wanted.port} is taken; choose another: --port", file=sys.stderr)
        return 1
    try:
        with ca:
            print(_welcome(ca, short="short_validity" in wanted), flush=True)
            while ca.alive:
                time.sleep(0.5)
            print(f"Pebble has ended by itself; see {ca.log}", file=sys.stderr)
            return 1
    except ChildFailed as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nEnded.")
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pebble/run",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    pace = parser.add_mutually_exclusive_group()
    pace.add_argument("--fast", action="store_true", help="no delays (the default)")
    pace.add_argument(
        "--real-delays",
        action="store_true",
        help="each validation sleeps 0 or 1 s; Retry-After 3 s on authorizations, 5 s on orders",
    )
    parser.add_argument("--faults", action="store_true", help="badNonce for 50 %% of good nonces")
    parser.add_argument(
        "--short-validity",
        type=int,
        metavar="SECONDS",
        default=argparse.SUPPRESS,
        help='lifetime of certificates of the profile "shortlived" (default: 6 days)',
    )
    parser.add_argument(
        "--port", type=int, default=14000, help="the ACME directory's (default: %(default)s)"
    )
    parser.add_argument(
        "--http-port",
        type=int,
        default=5002,
        help="where http-01 is asked: acmeistio's challenge port, or an ingress before it"
        " (default: %(default)s)",
    )
    return parser


def _options(wanted: argparse.Namespace) -> CaOptions:
    return CaOptions(
        nonce_reject_percent=50 if wanted.faults else 0,
        validation_delay=wanted.real_delays,
        retry_after_seconds=AS_SHIPPED if wanted.real_delays else (0, 0),
        short_validity_seconds=getattr(wanted, "short_validity", CaOptions.short_validity_seconds),
    )


def _welcome(ca: LocalCa, *, short: bool) -> str:
    ca_bundle = ca.ca_bundle.relative_to(CHECKOUT)
    return f"""
  directory    {ca.directory_url}
  CA bundle    {ca_bundle}   (trusts Pebble's own HTTPS)
  http-01      asked on port {ca.http_port} of 127.0.0.1, for every name
  log          {ca.log.relative_to(CHECKOUT)}

Try, in another terminal at {CHECKOUT}:

  .cache/venv/bin/python -m acmeistio run \\
      --manifests deploy/examples --secrets .cache/secrets \\
      --issuer pebble --profile {"shortlived" if short else "default"} \\
      --directory {ca.directory_url} --ca-bundle {ca_bundle} \\
      --challenge-listen 127.0.0.1:{ca.http_port}

  ls .cache/secrets/istio-system/istio-ingress-certs

Ctrl-C ends it."""


if __name__ == "__main__":
    sys.exit(main())
