"""A site's machines: counted in the scenario, or every so-many-th of a published inventory."""

from __future__ import annotations

import operator
import re
from typing import TYPE_CHECKING

import msgspec

from solyx.events import Battery, DeviceGroup, Node, PowerModel
from solyx.events.event import Model
from solyx.scenario.cells import read_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from solyx.scenario.document import Table

MIB = 1024**2
GIB = 1024**3

_TERM = re.compile(r"index\s*(?:%\s*(\d+)\s*)?(==|!=|<=|>=|<|>)\s*(\d+)")
_COMPARISONS: dict[str, Callable[[int, int], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}


class Outage(Model, frozen=True):
    """A machine or link that is out of order from ``from_s`` to ``until_s`` after the start; None: to the end."""

    subject: str
    from_s: float
    until_s: float | None


class Maintenance(Outage, frozen=True):
    """A machine that takes nothing new from ``from_s`` to ``until_s``; ``drains``: what runs there is to leave, too."""

    drains: bool


class Slowdown(Outage, frozen=True):
    """A link whose one-way latency is another from ``from_s`` to ``until_s``: its traffic takes a longer way, or queues."""

    latency_ms: float


def parse_selection(expression: str) -> Callable[[int], bool]:
    """Which 0-based row indices ``expression`` selects: comparisons such as ``index % 160 == 1``, joined by ``and``.

    Raises:
        ValueError: it is no such expression.
    """
    terms: list[tuple[int, Callable[[int, int], bool], int]] = []
    for text in expression.split(" and "):
        term = _TERM.fullmatch(text.strip())
        if term is None:
            msg = f"{text.strip()!r} is no comparison of `index` or `index % N` with a whole number"
            raise ValueError(msg)
        modulus = int(term[1]) if term[1] is not None else 0
        if term[1] is not None and modulus == 0:
            msg = "the remainder of a division by 0"
            raise ValueError(msg)
        terms.append((modulus, _COMPARISONS[term[2]], int(term[3])))
    return lambda index: all(compare(index % modulus if modulus else index, value) for modulus, compare, value in terms)


def read_nodes(tables: Sequence[Table], site: str) -> tuple[Node, ...]:
    """The machines of a site, one table for each group of them.

    ``{ file, select }`` (columns ``sn``, ``cpu_milli``, ``memory_mib``, ``gpu``, ``model``; where they are there also ``taints``,
    separated by ``|``, and ``rack``) or ``{ count, cpu, memory_gib }``; for all of a group ``taints``, ``nodes_per_rack`` and
    ``gpus_per_domain``.

    Raises:
        ScenarioError: nothing is selected, two machines have one name, or a value does not fit.
    """
    nodes: list[Node] = []
    for table in tables:
        selected = _selected(table) if table.has("file") else _counted(table, site, first=len(nodes))
        group = _in_racks(table, site, selected, first=len(nodes))
        known = {node.name for node in nodes}
        for node in group:
            if node.name in known:
                raise table.error("", f"has {node.name!r}, as another group", "A machine is in one group only.")
        nodes.extend(group)
    return tuple(nodes)


def _counted(table: Table, site: str, *, first: int) -> list[Node]:
    devices = _devices(table, table.text("gpu_model", "gpu"), table.integer("gpu", 0))
    return [
        Node(
            name=f"{site}-{index:03d}",
            cpu_milli=round(table.number("cpu") * 1000),
            memory_bytes=round(table.number("memory_gib") * GIB),
            devices=devices,
        )
        for index in range(first, first + table.integer("count", least=1))
    ]


def _devices(table: Table, model: str, count: int) -> tuple[DeviceGroup, ...]:
    """Equal GPUs, in domains of ``gpus_per_domain`` where the table says so."""
    size = table.integer("gpus_per_domain", 0)
    if not size:
        return (DeviceGroup(model=model, count=count),) if count else ()
    return tuple(
        DeviceGroup(model=model, count=min(size, count - first), domain=str(first // size))
        for first in range(0, count, size)
    )


def _in_racks(table: Table, site: str, nodes: Sequence[Node], *, first: int) -> list[Node]:
    """Each machine with its group's taints, and the rack that its place in the site gives it where none is named."""
    taints, size = table.texts("taints"), table.integer("nodes_per_rack", 0)
    return [
        msgspec.structs.replace(
            node,
            taints=tuple(dict.fromkeys((*node.taints, *taints))),
            rack=node.rack or (f"{site}-rack-{index // size}" if size else ""),
        )
        for index, node in enumerate(nodes, start=first)
    ]


def _selected(table: Table) -> list[Node]:
    try:
        selects = parse_selection(table.text("select", "index >= 0"))
    except ValueError as error:
        raise table.error("select", f"cannot be read: {error}", 'Write it like "index % 160 == 1".') from error
    nodes: list[Node] = []
    for index, row in enumerate(
        read_rows(table.existing_file("file"), ("sn", "cpu_milli", "memory_mib", "gpu", "model"))
    ):
        if not selects(index):
            continue
        gpus = row.integer("gpu")
        nodes.append(
            Node(
                name=row.required("sn"),
                cpu_milli=row.integer("cpu_milli"),
                memory_bytes=row.integer("memory_mib") * MIB,
                devices=_devices(table, row.required("model") if gpus else "", gpus),
                taints=tuple(taint.strip() for taint in row.text("taints").split("|") if taint.strip()),
                rack=row.text("rack"),
            )
        )
    if not nodes:
        raise table.error("select", "selects no node", "Choose a remainder that the file has.")
    return nodes


def read_power(table: Table) -> PowerModel:
    """Power in W; a value that is missing is 0, the PUE 1."""
    return PowerModel(
        idle_w_per_node=table.number("idle_w_per_node", 0.0),
        w_per_core=table.number("w_per_core", 0.0),
        w_per_gpu=table.number("w_per_gpu", 0.0),
        pue=table.number("pue", 1.0, least=1.0),
    )


def read_battery(table: Table | None) -> Battery | None:
    """``{ capacity_wh, charge_wh, max_charge_w, max_discharge_w, efficiency }``; the charge is full unless it is said."""
    if table is None:
        return None
    capacity_wh = table.number("capacity_wh")
    return Battery(
        capacity_wh=capacity_wh,
        charge_wh=min(capacity_wh, table.number("charge_wh", capacity_wh)),
        max_charge_w=table.number("max_charge_w", 0.0),
        max_discharge_w=table.number("max_discharge_w"),
        efficiency=min(1.0, table.number("efficiency", 1.0)),
    )


def read_outages(tables: list[Table], subject_key: str, subjects: set[str]) -> tuple[Outage, ...]:
    """``{ node = …, from_h = …, until_h = … }``, hours after the start; without ``until_h`` it lasts.

    Raises:
        ScenarioError: the subject is not known, or the end is not after the beginning.
    """
    return tuple(_outage(table, subject_key, subjects) for table in tables)


def read_maintenance(tables: list[Table], nodes: set[str]) -> tuple[Maintenance, ...]:
    """``{ node = …, action = "drain", from_h = …, until_h = … }``, hours after the start; without ``until_h`` it stays away.

    Raises:
        ScenarioError: as of ``read_outages``, or the action is not known.
    """
    found: list[Maintenance] = []
    for table in tables:
        time = _outage(table, "node", nodes)
        drains = table.choice("action", ("cordon", "drain")) == "drain"
        found.append(Maintenance(subject=time.subject, from_s=time.from_s, until_s=time.until_s, drains=drains))
    return tuple(found)


def read_slowdowns(tables: list[Table], links: set[str]) -> tuple[Slowdown, ...]:
    """``{ link = …, latency_ms = …, from_h = …, until_h = … }``, hours after the start; without ``until_h`` it stays slow.

    Raises:
        ScenarioError: as of ``read_outages``, or the latency is missing.
    """
    found: list[Slowdown] = []
    for table in tables:
        time = _outage(table, "link", links)
        latency_ms = table.number("latency_ms")
        found.append(Slowdown(subject=time.subject, from_s=time.from_s, until_s=time.until_s, latency_ms=latency_ms))
    return tuple(found)


def _outage(table: Table, subject_key: str, subjects: set[str]) -> Outage:
    subject = table.text(subject_key)
    if subject not in subjects:
        raise table.error(
            subject_key, f"names {subject!r}, which is not there", f"One is {min(subjects, default='-')!r}."
        )
    from_h = table.number("from_h")
    until_h = table.number("until_h") if table.has("until_h") else None
    if until_h is not None and until_h <= from_h:
        raise table.error("until_h", f"is {until_h:g}, not after from_h", "It ends after it begins.")
    return Outage(subject=subject, from_s=from_h * 3600, until_s=None if until_h is None else until_h * 3600)
