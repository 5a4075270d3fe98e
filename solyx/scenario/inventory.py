"""A site's machines: counted in the scenario, or every so-many-th of a published inventory."""

from __future__ import annotations

import operator
import re
from typing import TYPE_CHECKING

from solyx.events import DeviceGroup, Node, PowerModel
from solyx.events.event import Model
from solyx.scenario.cells import read_rows

if TYPE_CHECKING:
    from collections.abc import Callable

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


def read_nodes(table: Table, site: str) -> tuple[Node, ...]:
    """Nodes from ``{ file, select }`` (columns ``sn``, ``cpu_milli``, ``memory_mib``, ``gpu``, ``model``) or ``{ count, cpu, memory_gib }``.

    Raises:
        ScenarioError: nothing is selected, or a value does not fit.
    """
    if table.has("file"):
        return _selected(table)
    gpus = table.integer("gpu", 0)
    devices = (DeviceGroup(model=table.text("gpu_model", "gpu"), count=gpus),) if gpus else ()
    return tuple(
        Node(
            name=f"{site}-{index:03d}",
            cpu_milli=round(table.number("cpu") * 1000),
            memory_bytes=round(table.number("memory_gib") * GIB),
            devices=devices,
        )
        for index in range(table.integer("count", least=1))
    )


def _selected(table: Table) -> tuple[Node, ...]:
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
                devices=(DeviceGroup(model=row.required("model"), count=gpus),) if gpus else (),
            )
        )
    if not nodes:
        raise table.error("select", "selects no node", "Choose a remainder that the file has.")
    return tuple(nodes)


def read_power(table: Table) -> PowerModel:
    """Power in W; a value that is missing is 0, the PUE 1."""
    return PowerModel(
        idle_w_per_node=table.number("idle_w_per_node", 0.0),
        w_per_core=table.number("w_per_core", 0.0),
        w_per_gpu=table.number("w_per_gpu", 0.0),
        pue=table.number("pue", 1.0, least=1.0),
    )


def read_outages(tables: list[Table], subject_key: str, subjects: set[str]) -> tuple[Outage, ...]:
    """``{ node = …, from_h = …, until_h = … }``, hours after the start; without ``until_h`` it lasts.

    Raises:
        ScenarioError: the subject is not known, or the end is not after the beginning.
    """
    outages: list[Outage] = []
    for table in tables:
        subject = table.text(subject_key)
        if subject not in subjects:
            raise table.error(
                subject_key, f"names {subject!r}, which is not there", f"One is {min(subjects, default='-')!r}."
            )
        from_h = table.number("from_h")
        until_h = table.number("until_h") if table.has("until_h") else None
        if until_h is not None and until_h <= from_h:
            raise table.error("until_h", f"is {until_h:g}, not after from_h", "An outage ends after it begins.")
        outages.append(
            Outage(subject=subject, from_s=from_h * 3600, until_s=None if until_h is None else until_h * 3600)
        )
    return tuple(outages)
