"""The values of resource management at a site: what a job demands, who holds what until when."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec

from solyx.events import DeviceRequest, JobAllocated, PodAssignment, Resources

if TYPE_CHECKING:
    from collections.abc import Iterable

    from solyx.events import JobSpec

WHOLE = 1000
"""The share of a whole device, in thousandths."""
RESTART_S = 60.0
"""Work that a suspended job is taken to lose (the default of the CMO)."""
IMMINENT = float("-inf")
"""The estimated end of a workload that was told to stop: as good as now."""


class Demand(msgspec.Struct, frozen=True, kw_only=True):
    """A gang: ``parallelism`` equal pods that start together or not at all. Equal demands fit in the same places."""

    cpu_milli: int  # of each pod, like the next two
    memory_bytes: int
    devices: tuple[DeviceRequest, ...]  # the most constrained request first
    parallelism: int
    tolerations: tuple[str, ...] = ()  # taints of nodes that its pods accept, sorted

    @property
    def total_cpu_milli(self) -> int:
        """Of all pods."""
        return self.cpu_milli * self.parallelism

    @property
    def total_memory_bytes(self) -> int:
        """Of all pods."""
        return self.memory_bytes * self.parallelism

    @property
    def total_gpu_milli(self) -> int:
        """Of all pods, accelerators of any kind."""
        return sum(request.count * request.share_milli for request in self.devices) * self.parallelism

    def parts(self) -> tuple[Demand | None, Demand | None, Demand | None]:
        """The same pods, asking for CPU, memory or devices alone; None for what it does not ask for."""
        replace = msgspec.structs.replace
        return (
            replace(self, memory_bytes=0, devices=()) if self.cpu_milli else None,
            replace(self, cpu_milli=0, devices=()) if self.memory_bytes else None,
            replace(self, cpu_milli=0, memory_bytes=0) if self.devices else None,
        )

    def words(self) -> str:
        """For people: ``2 pods of 4 CPU, 8.0 GiB, 1 gpu``."""
        parts = [f"{self.cpu_milli / 1000:g} CPU", f"{self.memory_bytes / 2**30:.1f} GiB"]
        parts += [f"{r.count * r.share_milli / WHOLE:g} {_kind_words(r)}" for r in self.devices]
        return f"{self.parallelism} pod{'s' if self.parallelism > 1 else ''} of {', '.join(parts)}"

    def kind_words(self) -> str:
        """The kinds of its devices, for people: ``gpu (A100 or H100) and fpga``."""
        return " and ".join(dict.fromkeys(_kind_words(request) for request in self.devices))


def _kind_words(request: DeviceRequest) -> str:
    return f"{request.kind} ({' or '.join(request.models)})" if request.models else request.kind


def by_constraint(devices: Iterable[DeviceRequest]) -> tuple[DeviceRequest, ...]:
    """Requests that name models go first: one that takes any device must not take the only one that another may use."""
    return tuple(sorted(devices, key=lambda r: (not r.models, len(r.models), -r.share_milli, -r.count)))


@lru_cache(maxsize=4096)
def _demand(resources: Resources, parallelism: int, tolerations: tuple[str, ...]) -> Demand:
    return Demand(
        cpu_milli=resources.cpu_milli,
        memory_bytes=resources.memory_bytes,
        devices=by_constraint(resources.devices),
        parallelism=parallelism,
        tolerations=tuple(sorted(set(tolerations))),
    )


def demand_of(spec: JobSpec) -> Demand:
    """What a job asks of a site."""
    return _demand(spec.resources, spec.parallelism, spec.tolerations)


LEAST_LEFT_S = 60.0
"""A workload that has done more than its estimate is expected to need this long at least, or its whole estimate if that is less."""


def left_s(spec: JobSpec, progress_s: float) -> float:
    """How long a run is expected to take that goes on from ``progress_s``."""
    return max(spec.duration_estimate_s - progress_s, min(spec.duration_estimate_s, LEAST_LEFT_S))


class Spot(msgspec.Struct, frozen=True):
    """A place for one pod: the row of a node, and the columns of its devices with the share of each."""

    node: int
    devices: tuple[tuple[int, int], ...]


class Holding:
    """What one allocation holds, from its decision to the report that its workload ended.

    ``spots`` are the pods in terms of the inventory at hand; pods on nodes that it does not know are left out.
    """

    __slots__ = (
        "amounts",
        "decided_at_s",
        "delay_eur_per_h",
        "demand",
        "duration_s",
        "end_s",
        "job_id",
        "pods",
        "preemptible",
        "priority",
        "revision",
        "rows",
        "spots",
        "suspendable",
        "tenant",
    )

    def __init__(self, event: JobAllocated, spots: tuple[Spot, ...] = ()) -> None:
        spec = event.spec
        self.job_id, self.tenant, self.revision = event.job_id, event.tenant, event.revision
        self.demand = demand_of(spec)
        self.pods: tuple[PodAssignment, ...] = event.pods
        self.spots = spots
        self.priority, self.preemptible = spec.priority, spec.preemptible
        self.suspendable = spec.suspendable
        self.delay_eur_per_h = spec.weights.delay_eur_per_h or 0.0  # its owner's own weight
        self.duration_s = left_s(spec, event.progress_s)
        self.decided_at_s = event.decided_at.timestamp()
        self.end_s = self.decided_at_s + self.duration_s  # estimated; Unix time
        self.amounts: tuple[int, ...] = ()  # what its tenant is charged; see ``core/accounts.py``
        self.rows: tuple[list[int], list[int]] = ([], [])  # where the occupancy table keeps its pods and devices
