"""The form of every benchmark: figures with a name, shown as a table beside their targets, written as JSON, checked on demand."""

from __future__ import annotations

import os
import platform
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Mapping

TARGETS = Path(__file__).with_name("targets.toml")


class Target(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A bound on a figure."""

    unit: str
    source: str
    at_least: float | None = None
    at_most: float | None = None

    def met_by(self, figure: float) -> bool:
        """Whether the figure keeps the bound."""
        return (self.at_least is None or figure >= self.at_least) and (self.at_most is None or figure <= self.at_most)

    def __str__(self) -> str:
        return f"≥ {self.at_least:,.6g}" if self.at_least is not None else f"≤ {self.at_most:,.6g}"


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Where figures were measured."""

    cpu: str
    cores: int
    memory_gib: float
    python: str

    def __str__(self) -> str:
        return f"{self.cores} cores of {self.cpu}, {self.memory_gib:.0f} GiB, Python {self.python}"


def this_machine() -> Machine:
    """The machine that runs this process."""
    names = [line.split(":", 1)[1] for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return Machine(
        cpu=names[0].strip() if names else platform.machine(),
        cores=len(os.sched_getaffinity(0)),
        memory_gib=round(memory, 1),
        python=platform.python_version(),
    )


def load_targets(path: Path = TARGETS) -> dict[str, dict[str, Target]]:
    """Benchmark → figure → target."""
    return msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), dict[str, dict[str, Target]])


def shortfalls(figures: Mapping[str, float], targets: Mapping[str, Target]) -> list[str]:
    """What is missing or short, in words; empty when every target is met."""
    found: list[str] = []
    for name, target in targets.items():
        if name not in figures:
            found.append(f"{name}: not measured")
        elif not target.met_by(figures[name]):
            found.append(f"{name}: {figures[name]:,.6g} {target.unit}, wanted {target}")
    return found


def show(name: str, figures: Mapping[str, float], targets: Mapping[str, Target], console: Console) -> None:
    """The table of one benchmark."""
    table = Table("figure", "measured", "target", "unit", "", title=f"{name} on {this_machine()}", title_justify="left")
    for figure, value in figures.items():
        target = targets.get(figure)
        mark = "" if target is None else ("[green]met[/green]" if target.met_by(value) else "[red]short[/red]")
        table.add_row(figure, f"{value:,.6g}", str(target or ""), target.unit if target else "", mark)
    console.print(table)


def write_json(path: Path, name: str, figures: Mapping[str, float]) -> None:
    """The figures and the machine, for programs."""
    document = {
        "benchmark": name,
        "machine": this_machine(),
        "figures": {figure: float(value) for figure, value in figures.items()},
    }
    path.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n")
