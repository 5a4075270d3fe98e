"""A scenario directory as one value: what the collector replays, the loader submits and the report measures against."""

from __future__ import annotations

from datetime import datetime
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from solyx.events import Battery, Node, PowerModel
from solyx.events.event import Model
from solyx.scenario.document import read_document
from solyx.scenario.energy import DayAheadMarket, EnergySeries, read_energy
from solyx.scenario.inventory import (
    Maintenance,
    Outage,
    read_battery,
    read_maintenance,
    read_nodes,
    read_outages,
    read_power,
)
from solyx.scenario.jobs import JobSource, ScenarioJob, read_job_source, read_jobs
from solyx.scenario.loads import Load, read_loads
from solyx.scenario.network import Network, read_network

if TYPE_CHECKING:
    from collections.abc import Iterator

    from solyx.scenario.document import Table


class Site(Model, frozen=True):
    """A cluster in an electricity zone, attached to the network at ``network_node``."""

    name: str
    nodes: tuple[Node, ...]
    power: PowerModel
    market: DayAheadMarket
    energy_file: Path
    network_node: str
    egress_eur_per_gib: float
    latency_ms: dict[
        str, float
    ]  # round trip to the other sites over the unloaded network, and to places named in the file
    battery: Battery | None = None
    price_bound_eur_per_mwh: float | None = None  # above it the least valuable work is to leave
    outages: tuple[Outage, ...] = ()
    maintenance: tuple[Maintenance, ...] = ()

    @property
    def zone(self) -> str:
        """The electricity zone."""
        return self.market.zone


class Scenario(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Everything of a scenario but its two large parts, which are read on demand: ``jobs()`` and ``energy(site)``."""

    file: Path
    name: str
    start: datetime  # scenario time at job time 0; energy before it is history
    currency: str
    hours: float | None  # how long it is meant to run; None: as long as there are jobs and prices
    generated_by: str  # empty: real data
    sites: tuple[Site, ...]
    network: Network
    job_source: JobSource
    loads: tuple[Load, ...] = ()
    unread_keys: tuple[str, ...] = ()  # in the file but not of this format: typing errors, or another reader's

    def site(self, name: str) -> Site:
        """The site of that name; KeyError when there is none."""
        for site in self.sites:
            if site.name == name:
                return site
        raise KeyError(name)

    def jobs(self) -> Iterator[ScenarioJob]:
        """Every job in order of arrival.

        Raises:
            ScenarioError: a cell of the jobs file does not fit.
        """
        return read_jobs(self.job_source, [site.name for site in self.sites])

    def energy(self, site: str) -> EnergySeries:
        """The site's energy file, whole.

        Raises:
            ScenarioError: a cell of the energy file does not fit.
        """
        return read_energy(self.site(site).energy_file)

    def link_rates(self, after_start_s: float) -> dict[str, float]:
        """Each link's background rate in bit/s."""
        return self.network.link_rates(after_start_s)


def load(directory: Path | str) -> Scenario:
    """Read ``directory/scenario.toml`` and the small files it names.

    Raises:
        ScenarioError: something is missing or does not fit; it says where and what to do.
    """
    root = read_document(Path(directory) / "scenario.toml")
    job_table = root.table("jobs")
    egress = job_table.number("egress_eur_per_gib", 0.0)
    tables = root.tables("sites")
    if not tables:
        raise root.error("sites", "is empty", "Add a [[sites]] table.")
    names = [table.text("name") for table in tables]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise tables[index].error("name", f"is {name!r}, as of another site", "Names of sites must differ.")
    network = read_network(root.table("network"), names) if root.has("network") else Network(links=())
    attached = {name: table.name("network_node", name) for name, table in zip(names, tables, strict=True)}
    scenario = Scenario(
        file=root.file,
        name=root.text("name"),
        start=root.instant("start"),
        currency=root.text("currency", "EUR"),
        hours=root.number("hours") if root.has("hours") else None,
        generated_by=root.text("generated_by", ""),
        sites=tuple(_site(table, network, attached, egress) for table in tables),
        network=network,
        job_source=read_job_source(job_table),
        loads=read_loads(root.tables("loads", []), names),
    )
    return msgspec.structs.replace(scenario, unread_keys=tuple(root.unread()))


def _site(table: Table, network: Network, attached: dict[str, str], egress_eur_per_gib: float) -> Site:
    name = table.text("name")
    if network.links and attached[name] not in network.nodes():
        cure = f"Name one of: {', '.join(sorted(network.nodes())[:20])}."
        raise table.error("network_node", f"is {attached[name]!r}, which no link touches", cure)
    nodes = read_nodes(table.tables("nodes") if table.holds_list("nodes") else [table.table("nodes")], name)
    names = {node.name for node in nodes}
    one_way = network.latencies_ms(attached[name])
    round_trips = {other: 2 * one_way[node] for other, node in attached.items() if other != name and node in one_way}
    if table.has("latency_ms"):
        places = table.table("latency_ms")
        round_trips |= {place: places.number(place) for place in places.names()}
    energy = table.table("energy")
    return Site(
        name=name,
        nodes=nodes,
        power=read_power(table.table("power")),
        battery=read_battery(table.table("battery") if table.has("battery") else None),
        price_bound_eur_per_mwh=table.number("price_bound_eur_per_mwh", None, least=-inf),
        market=_market(energy),
        energy_file=energy.existing_file("file"),
        network_node=attached[name],
        egress_eur_per_gib=egress_eur_per_gib,
        latency_ms=round_trips,
        outages=read_outages(table.tables("outages", []), "node", names),
        maintenance=read_maintenance(table.tables("maintenance", []), names),
    )


def _market(table: Table) -> DayAheadMarket:
    timezone = table.text("timezone")
    try:
        ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise table.error(
            "timezone", f"is {timezone!r}, which is no time zone", 'Write an IANA name like "Europe/Berlin".'
        ) from error
    return DayAheadMarket(zone=table.text("zone"), published=table.time_of_day("published"), timezone=timezone)
