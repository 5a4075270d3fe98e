"""The load of services at the sites: a series of readings that the collector reports as a metric."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np
from numpy.typing import NDArray

from solyx.scenario.cells import read_rows

if TYPE_CHECKING:
    from collections.abc import Collection

    from solyx.scenario.document import Table

LOAD_METRIC = "solyx_service_load"
"""The metric's name; its labels are ``service`` and ``site``."""


class Load(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One service's load, in the unit of its file (requests per minute, say); after the last reading comes the first again."""

    service: str
    site: str
    period_s: float
    values: NDArray[np.float64]

    def at(self, after_start_s: float) -> float:
        """The reading in force."""
        return float(self.values[int(after_start_s // self.period_s) % len(self.values)])


def read_loads(tables: list[Table], sites: Collection[str]) -> tuple[Load, ...]:
    """``[[loads]]``: ``service``, ``site``, ``file`` (CSV), ``value`` (its column), ``period_s`` between rows, ``offset_s`` into it.

    Raises:
        ScenarioError: a site is not known, a file has no rows, or a cell does not fit.
    """
    loads: list[Load] = []
    for table in tables:
        site, file, column = table.text("site"), table.existing_file("file"), table.text("value")
        if site not in sites:
            raise table.error("site", f"is {site!r}, which is no site", f"Name one of: {', '.join(sorted(sites))}.")
        period_s = table.number("period_s", 60.0, least=1.0)
        values = np.array([row.number(column) for row in read_rows(file, [column])])
        if not len(values):
            raise table.error("file", "has no rows", "It needs a header and at least one reading.")
        first = int(table.number("offset_s", 0.0) // period_s) % len(values)
        service = table.name("service")
        if any(load.service == service and load.site == site for load in loads):
            raise table.error("service", f"{service!r} appears twice at {site}", "Names at one site must differ.")
        loads.append(Load(service=service, site=site, period_s=period_s, values=np.roll(values, -first)))
    return tuple(loads)
