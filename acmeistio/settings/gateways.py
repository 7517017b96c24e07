"""The setting --gateways: a YAML text, one item for each gateway.

Owns its words and what is said about a wrong one; what a gateway is, is GatewayWorkload's.
"""

from __future__ import annotations

from typing import Annotated

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
)
from pydantic.alias_generators import to_camel

from acmeistio.model import GatewayAddress, GatewayWorkload, Routing

DNS_LABEL = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
Port = Annotated[int, Field(ge=1, le=65535)]

_CAMEL = ConfigDict(extra="forbid", alias_generator=to_camel)


def _yaml_off(value: object) -> object:
    """The word `off` without quotes is false in YAML."""
    return Routing.OFF if value is False else value


class _AddressEntry(BaseModel):
    """The address of an item of --gateways, as GatewayAddress has it."""

    model_config = _CAMEL

    host: Annotated[str, Field(pattern=r"^[A-Za-z0-9.:-]+$")]
    http_port: Port = 80
    https_port: Port = 443


class GatewayEntry(BaseModel):
    """One item of --gateways, as GatewayWorkload has it; what it leaves out has defaults."""

    model_config = _CAMEL

    namespace: Annotated[str, Field(pattern=DNS_LABEL)] = "istio-system"
    selector: Annotated[dict[str, str], Field(min_length=1)] = {"istio": "ingressgateway"}
    service: Annotated[str, Field(pattern=DNS_LABEL)] = "istio-ingressgateway"
    routing: Annotated[Routing | None, BeforeValidator(_yaml_off)] = None
    http_port: Port = 80
    https_port: Port = 443
    address: _AddressEntry | None = None

    def workload(self, routing: Routing) -> GatewayWorkload:
        """The pods that it is about; `routing` where it says none, and where that is off."""
        address = GatewayAddress(**self.address.model_dump()) if self.address else None
        own = routing if routing is Routing.OFF else self.routing or routing
        known = {**self.model_dump(), "routing": own, "address": address}
        return GatewayWorkload(**known)


_ENTRIES = TypeAdapter(Annotated[list[GatewayEntry], Field(min_length=1)])


def gateway_entries(text: str) -> list[GatewayEntry]:
    """The gateways that a text has. Raises ValueError that says what is wrong in which."""
    try:
        entries = _ENTRIES.validate_python(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise ValueError("it is not YAML such as [{namespace: istio-ingress}]") from error
    except ValidationError as error:
        wrong = (".".join(map(str, item["loc"])) + f": {item['msg']}" for item in error.errors())
        raise ValueError(f"a list of gateways is expected: {', '.join(wrong)}") from error
    services = [f"{entry.namespace}/{entry.service}" for entry in entries]
    twice = {service for service in services if services.count(service) > 1}
    if twice:
        raise ValueError(f"two gateways have the same service: {', '.join(sorted(twice))}")
    return entries
