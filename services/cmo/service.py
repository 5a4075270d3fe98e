"""Which topics the CMO reads and writes: one writer for the federation, whose replicas fold along and take over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.cmo.core import CmoCore
from solyx.bus.runner import Role
from solyx.topics import (
    ACTUATIONS,
    BUDGETS,
    ENERGY,
    FORECASTS,
    GRID,
    JOBS,
    LATENCIES,
    NODES,
    PLACEMENTS,
    READINGS,
    RESPONSES,
    ROUTES,
    SITES,
)

if TYPE_CHECKING:
    from services.cmo.settings import CmoSettings


def role(settings: CmoSettings, *, speed: float) -> Role:
    """The CMO as the runner needs it; ``speed`` is the clock's, in scenario seconds a second."""
    policy = settings.policy(speed=speed)
    return Role(
        service="cmo",
        inputs=(JOBS, SITES, NODES, ENERGY, GRID, FORECASTS, ACTUATIONS, BUDGETS, LATENCIES, ROUTES, READINGS),
        outputs=(PLACEMENTS, RESPONSES),
        shards=1,
        by="all",
        standby=True,
        make_core=lambda _shard: CmoCore(policy),
    )
