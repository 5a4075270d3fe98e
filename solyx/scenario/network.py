"""The network between the sites: directed links, their latency, and the traffic that others put on them."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from solyx.events.event import Model
from solyx.scenario.cells import read_rows
from solyx.scenario.errors import ScenarioError
from solyx.scenario.inventory import Outage, Slowdown, read_outages, read_slowdowns

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from solyx.scenario.document import Table

CAPACITY_UNIT_BPS = 1e6
"""Bit/s of one unit of capacity and traffic in a node-link file, whose publisher names no unit: read as Mbit/s. A scenario says
otherwise with ``capacity_unit_bps``."""

LATENCY_PER_HOP_MS = 5.0
"""One-way latency of a link whose file has none: about 1,000 km of fibre. A scenario says otherwise with ``latency_per_hop_ms``."""

Rates = NDArray[np.float64]


class Link(Model, frozen=True):
    """One direction of a link; its one-way latency."""

    name: str  # "a>b"
    source: str
    target: str
    capacity_bps: float
    latency_ms: float


class Background(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Rates that other traffic puts on the links, one row for each period; after the last comes the first again."""

    period_s: float
    rates_bps: Rates  # periods × links, in the order of the network's links


class Network(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Links by name, in order of the file."""

    links: tuple[Link, ...]
    background: Background | None = None
    outages: tuple[Outage, ...] = ()
    slowdowns: tuple[Slowdown, ...] = ()  # of two of one link the later in the file holds

    def nodes(self) -> frozenset[str]:
        """Every end of a link."""
        return frozenset(end for link in self.links for end in (link.source, link.target))

    def link_rates(self, after_start_s: float) -> dict[str, float]:
        """Each link's background rate in bit/s, at most its capacity."""
        if self.background is None:
            return {link.name: 0.0 for link in self.links}
        periods = len(self.background.rates_bps)
        row = self.background.rates_bps[int(after_start_s // self.background.period_s) % periods]
        return {link.name: float(rate) for link, rate in zip(self.links, row, strict=True)}

    def latencies_ms(self, source: str) -> dict[str, float]:
        """Least one-way latency from ``source`` to each node it reaches."""
        distance, _ = shortest_tree(self.links, source)
        return distance


def shortest_tree(links: Sequence[Link], source: str) -> tuple[dict[str, float], dict[str, int]]:
    """Least latency to each node and the index of the link that enters it (Dijkstra 1959); equal paths go by link order."""
    leaving: dict[str, list[int]] = {}
    for index, link in enumerate(links):
        leaving.setdefault(link.source, []).append(index)
    distance = {source: 0.0}
    entering: dict[str, int] = {}
    settled: set[str] = set()
    queue = [(0.0, source)]
    while queue:
        at, node = heapq.heappop(queue)
        if node in settled:
            continue
        settled.add(node)
        for index in leaving.get(node, ()):
            link = links[index]
            through = at + link.latency_ms
            if link.target not in settled and through < distance.get(link.target, float("inf")):
                distance[link.target] = through
                entering[link.target] = index
                heapq.heappush(queue, (through, link.target))
    return distance, entering


def route_matrices(links: Sequence[Link], nodes: Sequence[str], demands_bps: Rates) -> Rates:
    """Put traffic matrices (periods × nodes × nodes) on shortest paths: periods × links.

    The simple algorithm: for each pair, add its demand to every link of its path. Here the demands of one source flow down its
    shortest-path tree from the leaves, so a link is touched once for each source.
    """
    position = {node: index for index, node in enumerate(nodes)}
    rates = np.zeros((demands_bps.shape[0], len(links)))
    for source in nodes:
        distance, entering = shortest_tree(links, source)
        waiting = demands_bps[:, position[source], :].copy()
        for node in sorted(entering, key=lambda name: -distance[name]):
            link = links[entering[node]]
            rates[:, entering[node]] += waiting[:, position[node]]
            waiting[:, position[link.source]] += waiting[:, position[node]]
    return rates


def read_network(table: Table, sites: Sequence[str]) -> Network:
    """Links from ``file`` (node-link JSON) or inline ``links`` (both directions each), background traffic, outages.

    Raises:
        ScenarioError: a file or value does not fit, or a link appears twice.
    """
    unit_bps = table.number("capacity_unit_bps", CAPACITY_UNIT_BPS, least=1.0)
    if table.has("file"):
        links = _node_link(
            table.existing_file("file"), unit_bps, table.number("latency_per_hop_ms", LATENCY_PER_HOP_MS)
        )
    else:
        links = _inline(table)
    names = [link.name for link in links]
    if repeated := next((name for name in names if names.count(name) > 1), None):
        raise table.error("links", f"link {repeated} appears twice", "Merge the two, or name a node between.")
    background = _background(table.table("background"), links, unit_bps) if table.has("background") else None
    outages = read_outages(table.tables("outages", []), "link", set(names))
    slowdowns = read_slowdowns(table.tables("slowdowns", []), set(names))
    if not links and len(sites) > 1:
        raise table.error(
            "", "has no links", "Add `links = [{ a = …, b = …, capacity_gbps = …, latency_ms = … }]` or a `file`."
        )
    return Network(links=links, background=background, outages=outages, slowdowns=slowdowns)


def _link(source: str, target: str, capacity_bps: float, latency_ms: float) -> Link:
    return Link(
        name=f"{source}>{target}", source=source, target=target, capacity_bps=capacity_bps, latency_ms=latency_ms
    )


def _inline(table: Table) -> tuple[Link, ...]:
    links: list[Link] = []
    for entry in table.tables("links", []):
        a, b = entry.name("a"), entry.name("b")
        if a == b:
            raise entry.error("b", "is the same as a", "A link joins two nodes.")
        capacity_bps, latency_ms = entry.number("capacity_gbps") * 1e9, entry.number("latency_ms")
        links += [_link(a, b, capacity_bps, latency_ms), _link(b, a, capacity_bps, latency_ms)]
    return tuple(links)


class _FileLink(Model, frozen=True):
    source: int | str
    target: int | str
    capacity: float
    latency_ms: float | None = None


class _NodeLink(Model, frozen=True):
    links: tuple[_FileLink, ...]
    directed: bool = False


def _node_link(file: Path, unit_bps: float, per_hop_ms: float) -> tuple[Link, ...]:
    try:
        network = msgspec.json.decode(file.read_bytes(), type=_NodeLink)
    except msgspec.MsgspecError as error:
        cure = "It must be node-link JSON: `directed`, and `links` with `source`, `target` and `capacity`."
        raise ScenarioError(file, 0, "", str(error), cure) from error
    links: list[Link] = []
    for entry in network.links:
        latency_ms = per_hop_ms if entry.latency_ms is None else entry.latency_ms
        ends = (str(entry.source), str(entry.target))
        for source, target in (ends,) if network.directed else (ends, ends[::-1]):
            links.append(_link(source, target, entry.capacity * unit_bps, latency_ms))
    return tuple(links)


def _background(table: Table, links: Sequence[Link], unit_bps: float) -> Background:
    period_s = table.number("period_s")
    if period_s <= 0:
        raise table.error("period_s", "is 0", "It must be above 0.")
    file = table.existing_file("file")
    nodes = sorted({end for link in links for end in (link.source, link.target)})
    if file.suffix == ".csv":
        demands = _csv_matrices(file, nodes)
    else:
        nodes = [str(index) for index in range(len(nodes))]
        demands = _npz_matrices(file, len(nodes)) * unit_bps
        if set(nodes) != {end for link in links for end in (link.source, link.target)}:
            cure = f"Matrices are indexed by node number: the nodes must be 0 to {len(nodes) - 1}; or use a CSV."
            raise table.error("file", "goes with a network whose nodes are numbered from 0", cure)
    rates = np.minimum(route_matrices(links, nodes, demands), np.array([link.capacity_bps for link in links]))
    return Background(period_s=period_s, rates_bps=rates)


def _npz_matrices(file: Path, nodes: int) -> Rates:
    try:
        with np.load(file, allow_pickle=False) as archive:
            matrices = np.asarray(cast("Mapping[str, Any]", archive)["tm"], dtype=np.float64)
    except (OSError, ValueError, KeyError) as error:
        raise ScenarioError(
            file, 0, "tm", f"cannot be read ({error})", "It must be an .npz with an array `tm`."
        ) from error
    if matrices.ndim != 3 or matrices.shape[1:] != (nodes, nodes) or not len(matrices):
        message = f"has the shape {matrices.shape}"
        raise ScenarioError(
            file, 0, "tm", message, f"It must be periods × {nodes} × {nodes}, as the network has {nodes} nodes."
        )
    if not (np.isfinite(matrices).all() and (matrices >= 0).all()):
        raise ScenarioError(file, 0, "tm", "has negative or infinite rates", "Rates are finite and not negative.")
    return matrices


def _csv_matrices(file: Path, nodes: Sequence[str]) -> Rates:
    """Rows ``period`` (from 0), ``source``, ``target``, ``rate_bps``; a pair that is not there has no traffic."""
    position = {node: index for index, node in enumerate(nodes)}
    entries: list[tuple[int, int, int, float]] = []
    for row in read_rows(file, ("period", "source", "target", "rate_bps")):
        ends: list[int] = []
        for column in ("source", "target"):
            node = row.required(column)
            if node not in position:
                raise row.error(column, f"is {node!r}, which no link touches", f"One node is {nodes[0]!r}.")
            ends.append(position[node])
        entries.append((row.integer("period"), ends[0], ends[1], row.number("rate_bps", least=0.0)))
    demands = np.zeros((max((entry[0] for entry in entries), default=0) + 1, len(nodes), len(nodes)))
    for period, source, target, rate_bps in entries:
        demands[period, source, target] += rate_bps
    return demands
