"""acmeistio: the ACME client that Istio's ingress gateway lacks."""

__version__ = "0.1.0"
