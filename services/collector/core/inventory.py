"""Sites that stand in the configuration, as events. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from solyx.events import Battery, DeviceGroup, Node, PowerModel, SiteObserved

if TYPE_CHECKING:
    from datetime import datetime

    from services.collector.model import NodeEntry, SiteEntry

GIB = 1024**3


def observed(site: SiteEntry, now: datetime) -> SiteObserved:
    """The whole site; every machine is ready that is neither cordoned nor draining."""
    closed, draining = {*site.cordoned, *site.draining}, set(site.draining)
    return SiteObserved(
        site=site.name,
        observed_at=now,
        nodes=tuple(
            msgspec.structs.replace(node, ready=node.name not in closed, draining=node.name in draining)
            for entry in site.nodes
            for node in _nodes(entry)
        ),
        power=msgspec.convert(msgspec.structs.asdict(site.power), PowerModel),
        zone=site.zone,
        network_node=site.network_node,
        egress_eur_per_gib=site.egress_eur_per_gib,
        latency_ms=dict(site.latency_ms),
        battery=msgspec.convert(msgspec.structs.asdict(site.battery), Battery) if site.battery else None,
        price_bound_eur_per_mwh=site.price_bound_eur_per_mwh,
    )


def _nodes(entry: NodeEntry) -> tuple[Node, ...]:
    devices = tuple(
        DeviceGroup(kind=one.kind, model=one.model, count=one.count, domain=one.domain) for one in entry.devices
    )
    return tuple(
        Node(
            name=name,
            cpu_milli=round(entry.cpu * 1000),
            memory_bytes=round(entry.memory_gib * GIB),
            devices=devices,
            taints=entry.taints,
            rack=entry.rack,
            labels=entry.labels,
        )
        for name in entry.names()
    )
