"""Builders for the actuator's tests, and the actuator without threads: a log, a core and real simulated clusters."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from services.actuator.backoff import Backoff
from services.actuator.core import ActuatorCore
from services.actuator.model import (
    ClusterOutcome,
    Command,
    CommandsDone,
    Phase,
    Verdict,
    WorkloadState,
)
from services.actuator.simulated.cluster import SimulatedCluster, cluster_file
from services.actuator.simulated.course import Chance, Outage
from services.actuator.workers import ClusterCalls
from solyx.clock import ManualClock
from solyx.events import (
    SIMULATED_CHECKPOINT_LABEL,
    SIMULATED_DURATION_LABEL,
    AllocationReason,
    AllocationReleased,
    DeviceAssignment,
    Event,
    JobAllocated,
    JobSpec,
    PodAssignment,
    ReleaseReason,
    Resources,
    RouteDecided,
    RouteReason,
    WorkloadReason,
    WorkloadReported,
)

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
SITE = "paris"


def allocated(
    job: str = "job",
    revision: int = 1,
    *,
    site: str = SITE,
    node: str = "n1",
    duration_s: float | str | None = None,
    cpu_milli: int = 1000,
    pods: int = 1,
    suspendable: bool = False,
    progress_s: float = 0.0,
    checkpoint_s: float | str | None = None,
) -> JobAllocated:
    labels = {} if duration_s is None else {SIMULATED_DURATION_LABEL: str(duration_s)}
    if checkpoint_s is not None:
        labels[SIMULATED_CHECKPOINT_LABEL] = str(checkpoint_s)
    spec = JobSpec(
        name=job,
        image="registry/image:1",
        resources=Resources(cpu_milli=cpu_milli),
        duration_estimate_s=100.0,
        parallelism=pods,
        suspendable=suspendable,
        labels=labels,
    )
    device = DeviceAssignment(model="A100", index=0, share_milli=500)
    return JobAllocated(
        job_id=job,
        tenant="tenant",
        spec=spec,
        site=site,
        revision=revision,
        pods=tuple(PodAssignment(index=index, node=node, devices=(device,)) for index in range(pods)),
        reason=AllocationReason.FITS,
        progress_s=progress_s,
        submitted_at=START,
        decided_at=START,
    )


def released(
    job: str = "job",
    revision: int = 1,
    reason: ReleaseReason = ReleaseReason.WITHDRAWN,
    *,
    site: str = SITE,
    grace_s: float = 0.0,
) -> AllocationReleased:
    return AllocationReleased(
        job_id=job, tenant="tenant", site=site, revision=revision, reason=reason, grace_s=grace_s, decided_at=START
    )


def reported(job: str = "job", revision: int = 1, status: str = "started") -> WorkloadReported:
    return WorkloadReported(
        job_id=job,
        tenant="tenant",
        site=SITE,
        revision=revision,
        status=status,  # pyright: ignore[reportArgumentType]
        reason=WorkloadReason.APPLIED,
        at=START,
    )


def route(revision: int = 1, source: str = "paris", target: str = "oslo") -> RouteDecided:
    return RouteDecided(
        source=source,
        target=target,
        revision=revision,
        path=(source, "mid", target),
        reason=RouteReason.FIRST,
        decided_at=START,
    )


def state(job: str = "job", revision: int = 1, phase: Phase = Phase.RUNNING, **fields: object) -> WorkloadState:
    values = {"started_at": START, **fields}
    return WorkloadState(job_id=job, revision=revision, phase=phase, **values)  # pyright: ignore[reportArgumentType]


def outcome(command: Command, verdict: Verdict = Verdict.APPLIED, state: WorkloadState | None = None) -> CommandsDone:
    answer = ClusterOutcome(job_id=command.job_id, revision=command.revision, verdict=verdict, state=state)
    return CommandsDone(site=SITE, outcomes=((command, answer),))


def new_core() -> ActuatorCore:
    return ActuatorCore(backoff=Backoff(first_s=1.0, cap_s=8.0))


def story(events: list[Event]) -> list[str]:
    """Reports in short: ``job.1.started``."""
    return [event.id for event in events]


class Actuator:
    """One actuator of a shard, turned by hand. ``log`` is what the topics hold; two actuators may share it and the clusters."""

    def __init__(
        self,
        state_dir: Path,
        clock: ManualClock,
        log: list[Event],
        reports: list[WorkloadReported],
        *,
        chance: Chance | None = None,
        outages: tuple[Outage, ...] = (),
    ) -> None:
        self.clock, self.log, self.reports = clock, log, reports
        self._state_dir, self._chance, self._outages = state_dir, chance, outages
        self.clusters: dict[str, SimulatedCluster] = {}
        self.start()

    def start(self, *, own_first: Sequence[bool] = (), compacted: bool = False) -> None:
        """Come up anew: nothing is known but the log and the own reports, folded in whatever interleaving of the two."""
        self.core = new_core()
        self._calls: dict[str, ClusterCalls] = {}
        self._folded = len(self.log)
        inputs, own = (_compacted(events) if compacted else list(events) for events in (self.log, self.reports))
        inputs.reverse()
        own.reverse()
        for turn in own_first:
            if side := own if turn else inputs:
                self.core.fold(side.pop())
        for event in (*reversed(own), *reversed(inputs)):
            self.core.fold(event)

    def read(self) -> None:
        for event in self.log[self._folded :]:
            self.core.fold(event)
        self._folded = len(self.log)

    def cluster(self, site: str = SITE) -> SimulatedCluster:
        if site not in self.clusters:
            path = cluster_file(self._state_dir, site)
            self.clusters[site] = SimulatedCluster(path, self.clock, chance=self._chance, outages=self._outages)
        return self.clusters[site]

    def calls(self, site: str) -> ClusterCalls:
        if site not in self._calls:
            self._calls[site] = ClusterCalls(site, self.cluster(site))
        return self._calls[site]

    def publish(self) -> list[str]:
        """Decide and commit."""
        events = self.core.decide(self.clock.now())
        self.reports.extend(event for event in events if isinstance(event, WorkloadReported))
        return story(events)

    def look(self, *, complete: bool) -> None:
        for site in list(self.core.sites):
            seen, _ = self.calls(site).look(complete=complete)
            if seen is not None:
                self.core.observe(seen, wall_s=0.0)

    def carry_out(self) -> int:
        """Hand out everything and bring the outcomes in."""
        count = 0
        for site in list(self.core.sites):
            commands = self.core.commands(site, limit=1000, wall_s=0.0)
            count += len(commands)
            if commands:
                self.core.observe(self.calls(site).carry_out(commands), wall_s=0.0)
        return count

    def settle(self) -> list[str]:
        """Turn until nothing is left to do now; what was reported."""
        told: list[str] = []
        self.read()
        self.look(complete=True)
        told += self.publish()
        while self.carry_out():
            told += self.publish()
        self.look(complete=False)
        return told + self.publish()

    def close(self) -> None:
        for cluster in self.clusters.values():
            cluster.close()


def _compacted(events: Sequence[Event]) -> list[Event]:
    """What compaction leaves: the last event of each key, in order."""
    last = {event.key: position for position, event in enumerate(events)}
    return [event for position, event in enumerate(events) if last[event.key] == position]
