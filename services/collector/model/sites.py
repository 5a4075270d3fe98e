"""The inventory of sites that nothing else reports."""

from __future__ import annotations

from typing import Annotated

import msgspec

from services.collector.model.parts import Config, Name, NonNegative, Positive, Text
from solyx.events.job import DeviceKind


class DeviceEntry(Config, frozen=True, kw_only=True):
    """Equal accelerators of one machine."""

    kind: DeviceKind = "gpu"
    model: Text
    count: Annotated[int, msgspec.Meta(gt=0)]
    domain: str = ""  # devices of one domain are joined by a fast interconnect


class NodeEntry(Config, frozen=True, kw_only=True):
    """Equal machines: ``name``, or ``name-0`` to ``name-(count - 1)`` where there are several."""

    name: Name
    count: Annotated[int, msgspec.Meta(gt=0, le=100_000)] = 1
    cpu: Positive  # cores
    memory_gib: Positive
    devices: tuple[DeviceEntry, ...] = ()
    taints: tuple[Text, ...] = ()  # only pods that tolerate all of them start there
    rack: str = ""
    labels: dict[str, str] = msgspec.field(default_factory=dict)

    def names(self) -> tuple[str, ...]:
        """Of each machine."""
        return (self.name,) if self.count == 1 else tuple(f"{self.name}-{index}" for index in range(self.count))


class PowerEntry(Config, frozen=True, kw_only=True):
    """As ``solyx.events.PowerModel``."""

    idle_w_per_node: NonNegative = 0.0
    w_per_core: NonNegative = 0.0
    w_per_gpu: NonNegative = 0.0
    pue: Annotated[float, msgspec.Meta(ge=1)] = 1.0


Price = Annotated[float, msgspec.Meta(ge=-100_000, le=100_000)]
"""EUR/MWh; markets know prices below zero."""


class BatteryEntry(Config, frozen=True, kw_only=True):
    """As ``solyx.events.Battery``."""

    capacity_wh: NonNegative
    charge_wh: NonNegative
    max_charge_w: NonNegative = 0.0
    max_discharge_w: NonNegative
    efficiency: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0


class SiteEntry(Config, frozen=True, kw_only=True):
    """The inventory of a site that nothing else reports."""

    name: Name
    nodes: tuple[NodeEntry, ...]
    cordoned: tuple[Text, ...] = ()  # machines that take nothing new
    draining: tuple[Text, ...] = ()  # and that what runs there is to leave
    power: PowerEntry = PowerEntry()
    zone: str = ""
    network_node: str = ""
    egress_eur_per_gib: NonNegative = 0.0
    latency_ms: dict[str, NonNegative] = msgspec.field(default_factory=dict)  # round trip to named places
    battery: BatteryEntry | None = None
    price_bound_eur_per_mwh: Price | None = None  # above it the least valuable work is to leave

    def __post_init__(self) -> None:
        if not self.nodes:
            raise ValueError("a site without machines. Add one to `nodes`")
        names = [name for node in self.nodes for name in node.names()]
        if len(set(names)) < len(names):
            raise ValueError("two machines have one name. Names of machines must differ within a site")
        for key, chosen in (("cordoned", self.cordoned), ("draining", self.draining)):
            if unknown := sorted(set(chosen) - set(names)):
                raise ValueError(
                    f"`{key}` names {unknown[0]!r}, which is no machine of the site. One is {min(names)!r}"
                )
