"""The jobs of a run: what each asks for, when it comes and how long it truly takes.

First in the flow: scenario → ``Workload`` → policies → runs → bill. A policy may read ``spec`` and ``arrival_s``; the true
duration is for whoever executes jobs, bills them, or bounds them with perfect knowledge.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from solyx.energy import cores_of, gpus_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from numpy.typing import NDArray

    from solyx.events import DeviceGroup, DeviceRequest, JobSpec, Resources
    from solyx.scenario import Scenario, ScenarioJob, Site

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

_GIB = 1024**3
SUSPEND_OVERHEAD_S = 60.0
"""Work lost by a suspension and resumption where the scenario names none."""


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Job:
    """One job, with what every policy needs of it at hand."""

    index: int
    job_id: str
    tenant: str
    spec: JobSpec
    arrival_s: float  # Unix time, like every time here
    true_duration_s: float
    cores: float  # of all pods
    gpus: float
    home: int  # index of the site where its data lies
    sites: tuple[int, ...]  # that its owner allows and whose nodes, empty, hold it; at least one
    data_gib: float
    limit_s: float  # the latest start that its owner allows; infinite where there is none
    deadline_s: float  # the latest end; infinite where there is none

    @property
    def base(self) -> int:
        """Where it runs if nobody looks for a better site: at home, or if it may not, at the first that it may run at."""
        return self.home if self.home in self.sites else self.sites[0]


@dataclass(frozen=True, kw_only=True, eq=False)
class Workload:
    """The jobs of a run in order of arrival, and how many no site may or can ever hold."""

    jobs: list[Job]
    refused: int

    @property
    def cores(self) -> Floats:
        """Cores by job."""
        return np.array([job.cores for job in self.jobs])

    @property
    def arrival_s(self) -> Floats:
        """Arrival by job."""
        return np.array([job.arrival_s for job in self.jobs])

    @property
    def duration_s(self) -> Floats:
        """True duration by job."""
        return np.array([job.true_duration_s for job in self.jobs])

    @property
    def home(self) -> Ints:
        """Home site by job."""
        return np.array([job.home for job in self.jobs], dtype=np.int64)


def read_workload(scenario: Scenario, since: datetime, until: datetime) -> Workload:
    """The jobs that arrive in [``since``, ``until``). Jobs that no site may or can hold are counted and left out, for every policy."""
    start_s, since_s, until_s = scenario.start.timestamp(), since.timestamp(), until.timestamp()
    sites = {site.name: index for index, site in enumerate(scenario.sites)}
    jobs: list[Job] = []
    refused, holding = 0, _Holding(scenario.sites)
    for given in scenario.jobs():
        arrival_s = start_s + given.arrival_s
        if arrival_s < since_s:
            continue
        if arrival_s >= until_s:
            break
        allowed = holding.sites(given.spec)
        if not allowed:
            refused += 1
            continue
        jobs.append(_job(len(jobs), given, arrival_s, sites[given.home_site], allowed))
    return Workload(jobs=jobs, refused=refused)


def _job(index: int, given: ScenarioJob, arrival_s: float, home: int, sites: tuple[int, ...]) -> Job:
    spec = given.spec
    limit_s = np.inf if spec.max_delay_s is None else arrival_s + spec.max_delay_s
    return Job(
        index=index,
        job_id=given.name,
        tenant=given.tenant,
        spec=spec,
        arrival_s=arrival_s,
        true_duration_s=given.true_duration_s,
        cores=cores_of(spec),
        gpus=gpus_of(spec),
        home=home,
        sites=sites,
        data_gib=spec.data.size_bytes / _GIB if spec.data else 0.0,
        limit_s=limit_s,
        deadline_s=np.inf if spec.deadline is None else spec.deadline.timestamp(),
    )


class _Holding:
    """Which sites may take a job, worked out once for each shape."""

    def __init__(self, sites: Sequence[Site]) -> None:
        self._sites = sites
        self._known: dict[tuple[Resources, int, tuple[str, ...]], tuple[int, ...]] = {}

    def sites(self, spec: JobSpec) -> tuple[int, ...]:
        shape = (spec.resources, spec.parallelism, spec.allowed_sites)
        found = self._known.get(shape)
        if found is None:
            found = self._known[shape] = tuple(
                index
                for index, site in enumerate(self._sites)
                if (not spec.allowed_sites or site.name in spec.allowed_sites) and _holds(site, spec)
            )
        return found


def _holds(site: Site, spec: JobSpec) -> bool:
    """Whether the site's nodes, empty, hold the whole gang."""
    asked, pods = spec.resources, 0
    for node in site.nodes:
        fits = [node.cpu_milli // asked.cpu_milli] if asked.cpu_milli else []
        fits += [node.memory_bytes // asked.memory_bytes] if asked.memory_bytes else []
        if asked.devices:
            fits.append(_device_pods(node.devices, asked.devices[0]))
        pods += min(fits, default=spec.parallelism)
    return pods >= spec.parallelism


def _device_pods(groups: Sequence[DeviceGroup], request: DeviceRequest) -> int:
    usable = sum(
        g.count for g in groups if g.kind == request.kind and (not request.models or g.model in request.models)
    )
    return usable // request.count if request.share_milli == 1000 else usable * (1000 // request.share_milli)
