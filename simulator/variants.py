"""What-if inputs for the production cores: exact estimates, forecasts that come true, other sites. Never part of an honest run."""

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
    from collections.abc import Callable, Sequence

    from simulator.knowledge import Issued
    from simulator.world import World
    from solyx.events import Node


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


def with_one_node(moments: Sequence[Moment]) -> list[Moment]:
    """Every site has one node that is as large as all it had: no gap between pods is too small."""
    return [_with_sites(moment, _joined) for moment in moments]


def with_more_nodes(moments: Sequence[Moment], factor: int) -> list[Moment]:
    """Every site has ``factor`` times its nodes."""
    return [_with_sites(moment, lambda nodes: _repeated(nodes, factor)) for moment in moments]


def _with_sites(moment: Moment, change: Callable[[Sequence[Node]], tuple[Node, ...]]) -> Moment:
    published = tuple(
        msgspec.structs.replace(e, nodes=change(e.nodes)) if isinstance(e, SiteObserved) else e
        for e in moment.published
    )
    return Moment(moment.at, published, moment.issued)


def _joined(nodes: Sequence[Node]) -> tuple[Node, ...]:
    one = msgspec.structs.replace(
        nodes[0],
        cpu_milli=sum(node.cpu_milli for node in nodes),
        memory_bytes=sum(node.memory_bytes for node in nodes),
        devices=tuple(group for node in nodes for group in node.devices),
    )
    return (one,)


def _repeated(nodes: Sequence[Node], factor: int) -> tuple[Node, ...]:
    return tuple(msgspec.structs.replace(node, name=f"{node.name}.{copy}") for copy in range(factor) for node in nodes)
