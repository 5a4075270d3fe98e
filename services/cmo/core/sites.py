"""The sites: what their nodes can hold, how far they are from named places, and in words why one cannot hold a job."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING

from services.cmo.core.latencies import Latencies
from services.cmo.core.wan import Wan
from services.cmo.model import Refuse, Wait
from solyx.events import DeferralCause, FinishReason, NodesOrdered, PowerModel
from solyx.nodes import under

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from services.cmo.core.latencies import Reading
    from solyx.events import DeviceGroup, DeviceRequest, JobSpec, LatencyBound, Resources, SiteObserved

_MANY = 1 << 40  # pods of a job that asks for nothing
_GIB = 1024**3


@dataclass(frozen=True, slots=True)
class Shape:
    """Nodes that are alike in everything that a pod asks for."""

    cpu_milli: int
    memory_bytes: int
    devices: tuple[DeviceGroup, ...]

    def pods(self, resources: Resources) -> int:
        """How many such pods one empty node holds. Requests for devices of one kind are taken to share what is there."""
        fits = _MANY
        if resources.cpu_milli:
            fits = min(fits, self.cpu_milli // resources.cpu_milli)
        if resources.memory_bytes:
            fits = min(fits, self.memory_bytes // resources.memory_bytes)
        for request in resources.devices:
            fits = min(fits, self.pods_by(request))
        for kind in {request.kind for request in resources.devices} if len(resources.devices) > 1 else ():
            asked = sum(request.count * request.share_milli for request in resources.devices if request.kind == kind)
            fits = min(fits, 1000 * sum(group.count for group in self.devices if group.kind == kind) // asked)
        return fits

    def pods_by(self, request: DeviceRequest) -> int:
        """How many pods the node's devices hold: whole devices by count, shares by how many fit on one device."""
        usable = self.usable(request)
        return usable // request.count if request.share_milli == 1000 else usable * (1000 // request.share_milli)

    def usable(self, request: DeviceRequest) -> int:
        """Devices of the node that the request allows."""
        return sum(
            group.count
            for group in self.devices
            if group.kind == request.kind and (not request.models or group.model in request.models)
        )


@dataclass(slots=True)
class Site:
    """A site as last observed."""

    name: str
    index: int  # position in every array over sites; changes when a site is seen for the first time
    observed: SiteObserved
    ready: dict[Shape, int] = field(default_factory=dict[Shape, int])
    ever: dict[Shape, int] = field(
        default_factory=dict[Shape, int]
    )  # with nodes that are down, and those of a lost site

    @property
    def lost(self) -> bool:
        """Nothing runs there any more."""
        return self.observed.lost

    @property
    def power(self) -> PowerModel:
        """How its use becomes power."""
        return self.observed.power

    @property
    def idle_w(self) -> float:
        """The floor that no placement changes."""
        return self.power.idle_w(nodes=sum(self.ready.values()))

    @property
    def full_w(self) -> float:
        """Its power when everything that is ready is in use."""
        cores = sum(count * shape.cpu_milli for shape, count in self.ready.items()) / 1000.0
        devices = sum(count * group.count for shape, count in self.ready.items() for group in shape.devices)
        return self.idle_w + self.power.dynamic_w(cores=cores, gpus=float(devices))

    def battery_w(self, window_s: float) -> float:
        """What its battery can give all through a window."""
        battery = self.observed.battery
        return 0.0 if battery is None else battery.lasting_w(window_s)

    def holds(self, spec: JobSpec) -> bool:
        """The ready nodes, were they empty, hold the whole gang."""
        return not self.lost and _pods(self.ready, spec.resources, spec.parallelism) >= spec.parallelism

    def could_hold(self, spec: JobSpec) -> bool:
        """All its nodes, were they up and empty, hold the whole gang."""
        return _pods(self.ever, spec.resources, spec.parallelism) >= spec.parallelism

    def pods_ever(self, spec: JobSpec) -> int:
        """How many pods of the job all its nodes hold."""
        return _pods(self.ever, spec.resources, _MANY)


def _pods(shapes: dict[Shape, int], resources: Resources, enough: int) -> int:
    pods = 0
    for shape, nodes in shapes.items():
        pods += nodes * shape.pods(resources)
        if pods >= enough:
            break
    return pods


class Sites:
    """All sites that were ever observed. ``generation`` grows with every change of one that matters to a placement."""

    def __init__(self) -> None:
        self.by_name: dict[str, Site] = {}
        self.all: list[Site] = []
        self._published: dict[str, SiteObserved] = {}  # the latest observation of each, without orders
        self._ordered: dict[str, NodesOrdered] = {}
        self.generation = 0
        self.latencies = Latencies()
        self.wan = Wan()

    @property
    def changes(self) -> int:
        """Grows with every change of a site, of how far one is from a place, or of what a pair of sites can move."""
        return self.generation + self.latencies.changes + self.wan.changes

    def latency(self, site: Site, place: str) -> Reading | None:
        """Round trip to a named place; None when nobody knows a way."""
        return self.latencies.reading(site.name, place, self.by_name)

    def fold(self, event: SiteObserved | NodesOrdered) -> Site | None:
        """Take over a newer observation, or what operators ordered about nodes; the site if it changed in anything but its time."""
        ordered, site = self._ordered.get(event.site), self.by_name.get(event.site)
        if isinstance(event, NodesOrdered):
            if ordered is not None and event.revision <= ordered.revision:
                return None
            self._ordered[event.site] = event
            return self._take_over(under(self._published[event.site], event)) if site is not None else None
        if site is not None and event.observed_at <= site.observed.observed_at:
            return None
        self._published[event.site] = event
        return self._take_over(under(event, ordered))

    def _take_over(self, event: SiteObserved) -> Site | None:
        site = self.by_name.get(event.site)
        if site is None:
            site = self.by_name[event.site] = Site(event.site, 0, event)
            # By name, not by appearance: of two sites that are equally good the same one wins after every restart.
            self.all = sorted(self.by_name.values(), key=lambda known: known.name)
            for index, known in enumerate(self.all):
                known.index = index
        elif _same(site.observed, event):
            site.observed = event
            return None
        site.observed = event
        if event.nodes or not event.lost:
            site.ready = _shapes(event, ready_only=True)
            site.ever = _shapes(event, ready_only=False)
        self.generation += 1
        return site

    def candidates(self, spec: JobSpec) -> list[Site] | Refuse | Wait:
        """The sites that may take the job now, or why there is none.

        In words: of the allowed sites, those whose nodes could hold the job; of these, those near enough; of these, those
        that are there and have enough ready nodes.
        """
        allowed = self._allowed(spec)
        if not allowed and spec.allowed_sites:
            names = ", ".join(spec.allowed_sites)
            return Refuse(reason=FinishReason.UNKNOWN_SITE, message=f"no site is named {names}")
        large = [site for site in allowed if site.could_hold(spec)]
        if not large:
            return Refuse(reason=FinishReason.NO_SITE_FITS, message=_too_small(spec, allowed))
        near = [site for site in large if self._within(site, spec.max_latency)]
        if not near and spec.max_latency is not None:
            return self._too_far(spec.max_latency, large)
        now = [site for site in near if site.holds(spec)]
        if not now:
            names = ", ".join(site.name for site in near)
            return Wait(message=f"waits for ready nodes at {names}")
        return now

    def too_far(self, spec: JobSpec) -> bool:
        """Whether latency alone keeps a site from the job now."""
        return any(site.holds(spec) and not self._within(site, spec.max_latency) for site in self._allowed(spec))

    def _allowed(self, spec: JobSpec) -> list[Site]:
        return [site for site in self.all if site.name in spec.allowed_sites] if spec.allowed_sites else self.all

    def _within(self, site: Site, bound: LatencyBound | None) -> bool:
        if bound is None:
            return True
        reading = self.latency(site, bound.to)
        return reading is not None and reading.ms <= bound.max_ms

    def _too_far(self, bound: LatencyBound, sites: Sequence[Site]) -> Refuse | Wait:
        """A bound that is only exceeded as measured now may hold again: the job waits. Else it is refused."""
        known = [(reading, site) for site in sites if (reading := self.latency(site, bound.to)) is not None]
        if not known:
            message = f"no site that can hold it knows its latency to {bound.to}"
            return Refuse(reason=FinishReason.LATENCY_UNREACHABLE, message=message)
        nearest, at = min(known, key=lambda entry: (entry[0].ms, entry[1].name))
        message = (
            f"asks for {bound.max_ms:g} ms to {bound.to}; "
            f"the nearest site that can hold it is {at.name} with {nearest.words}"
        )
        for reading, site in known:
            if reading.ms == inf or site.observed.latency_ms.get(bound.to, inf) <= bound.max_ms:
                return Wait(cause=DeferralCause.LATENCY, message=message)
        return Refuse(reason=FinishReason.LATENCY_UNREACHABLE, message=message)


def _same(one: SiteObserved, other: SiteObserved) -> bool:
    return (
        one.nodes == other.nodes
        and one.lost == other.lost
        and one.power == other.power
        and one.latency_ms == other.latency_ms
        and one.egress_eur_per_gib == other.egress_eur_per_gib
    )


def _shapes(event: SiteObserved, *, ready_only: bool) -> dict[Shape, int]:
    return dict(
        Counter(
            Shape(node.cpu_milli, node.memory_bytes, node.devices)
            for node in event.nodes
            if node.ready or not ready_only
        )
    )


def _too_small(spec: JobSpec, sites: Sequence[Site]) -> str:
    """Which figures of the job no node, or no site, reaches."""
    asked = spec.resources
    shapes = [shape for site in sites for shape in site.ever]
    names = ", ".join(site.name for site in sites)
    where = f"at the allowed sites ({names})" if spec.allowed_sites else f"at any site ({names})"
    if not shapes:
        return f"no node exists {where}"
    needs: list[tuple[str, str]] = []
    largest_cpu = _most(shape.cpu_milli for shape in shapes)
    if asked.cpu_milli > largest_cpu:
        needs.append((f"{asked.cpu_milli / 1000:g} cores", f"{largest_cpu / 1000:g}"))
    largest_memory = _most(shape.memory_bytes for shape in shapes)
    if asked.memory_bytes > largest_memory:
        needs.append((f"{asked.memory_bytes / _GIB:.4g} GiB of memory", f"{largest_memory / _GIB:.4g} GiB"))
    for request in asked.devices:
        most = _most(shape.usable(request) for shape in shapes)
        if request.count > most:
            kind = f"{request.kind} of {' or '.join(request.models)}" if request.models else request.kind
            needs.append((f"{request.count} {kind}", f"{most}"))
    if needs:
        lacking, there = (_listed(words) for words in zip(*needs, strict=True))
        return f"a pod needs {lacking} on one node; the most on a node {where} is {there}"
    pods = {site.name: site.pods_ever(spec) for site in sites}
    if not any(pods.values()):
        return f"no single node {where} has the cores, memory and devices of a pod together"
    name = max(pods, key=lambda site: pods[site])
    return f"needs {spec.parallelism} pods at a time; the largest site, {name}, holds {pods[name]}"


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def _most(values: Iterable[int]) -> int:
    return max(values, default=0)
