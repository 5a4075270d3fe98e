"""What-if inputs for the production cores: exact estimates, forecasts that come true, larger sites. Never part of an honest run."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from simulator.knowledge import PRICE, Moment
from simulator.workload import Workload
from solyx.energy import HOUR_S
from solyx.events import SiteObserved

if TYPE_CHECKING:
    from collections.abc import Sequence

    from simulator.knowledge import Issued
    from simulator.world import World


def with_true_lengths(workload: Workload) -> Workload:
    """Every owner's estimate is what the job takes."""
    jobs = [
        replace(job, spec=msgspec.structs.replace(job.spec, duration_estimate_s=job.true_duration_s))
        for job in workload.jobs
    ]
    return Workload(jobs=jobs, refused=workload.refused)


def with_true_future(moments: Sequence[Moment], world: World) -> list[Moment]:
    """Every forecast is what will be, as far as it reached."""
    return [
        Moment(moment.at, moment.published, tuple(_come_true(i, moment, world) for i in moment.issued))
        for moment in moments
    ]


def _come_true(issued: Issued, moment: Moment, world: World) -> Issued:
    truth = (world.price if issued.kind == PRICE else world.carbon)[world.names.index(issued.site)]
    first, steps = int(moment.at_s // HOUR_S) - world.first_hour, issued.bands.shape[1]
    values = truth[np.clip(np.arange(first, first + steps), 0, len(truth) - 1)].astype(np.float32)
    return replace(issued, bands=np.stack([values, values, values]))


def with_more_nodes(moments: Sequence[Moment], factor: int) -> list[Moment]:
    """Every site has ``factor`` times its nodes."""
    return [
        Moment(
            moment.at,
            tuple(_larger(e, factor) if isinstance(e, SiteObserved) else e for e in moment.published),
            moment.issued,
        )
        for moment in moments
    ]


def _larger(site: SiteObserved, factor: int) -> SiteObserved:
    nodes = tuple(
        msgspec.structs.replace(node, name=f"{node.name}.{copy}") for copy in range(factor) for node in site.nodes
    )
    return msgspec.structs.replace(site, nodes=nodes)
