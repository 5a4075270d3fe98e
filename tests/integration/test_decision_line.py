"""The line of decisions as one: CMO, DRM, SDN and actuator on one bus, from submitted jobs to their terminal outcomes."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Self

import pytest

from services.actuator.service import role as actuator_role
from services.actuator.settings import ActuatorSettings
from services.actuator.simulated.course import Chance
from services.actuator.simulated.targets import SimulatedTargets
from services.cmo.service import role as cmo_role
from services.cmo.settings import CmoSettings
from services.drm.service import role as drm_role
from services.drm.settings import DrmSettings
from solyx.bus.memory import MemoryBus
from solyx.bus.runner import Role, ServiceRunner
from solyx.clock import ManualClock
from solyx.events import (
    SIMULATED_DURATION_LABEL,
    EnergySeriesPublished,
    Event,
    JobAllocated,
    JobCancellationRequested,
    JobFinished,
    JobSpec,
    JobSubmitted,
    Node,
    PowerModel,
    Resources,
    SiteObserved,
    WorkloadReported,
    decode,
    encode,
)
from solyx.settings import Settings
from solyx.telemetry import new_traceparent, trace_id_of
from solyx.topics import TOPICS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

START = datetime(2026, 6, 1, tzinfo=UTC)
SITES = ("north", "south")


class Line:
    """All deciding services in this process, on scenario time that the test moves."""

    def __init__(self, state: Path, *, failure_rate: float = 0.0) -> None:
        self.clock = ManualClock(START)
        self.bus = MemoryBus()
        self.bus.ensure_topics(TOPICS)
        self.targets = SimulatedTargets(state, self.clock, chance=Chance(failure_rate=failure_rate, seed=1), outages={})
        roles: list[tuple[Role, Settings]] = [
            (cmo_role(CmoSettings(), speed=1.0), CmoSettings()),
            (drm_role(DrmSettings()), DrmSettings()),
            (actuator_role(self.targets, ActuatorSettings()), ActuatorSettings()),
        ]
        self.runners = [ServiceRunner(role, settings, self.bus, self.clock) for role, settings in roles]

    def __enter__(self) -> Self:
        self.targets.__enter__()
        for runner in self.runners:
            runner.start()
        return self

    def __exit__(self, *_: object) -> None:
        for runner in self.runners:
            runner.stop()
        self.targets.__exit__(None, None, None)

    def publish(self, *events: Event) -> list[str]:
        """Write events with a trace each; returns the trace ids."""
        parents = [new_traceparent() for _ in events]
        self.bus.append(
            [
                encode(e, source="test", time=self.clock.now(), traceparent=p)
                for e, p in zip(events, parents, strict=True)
            ]
        )
        return [trace_id_of(parent) for parent in parents]

    def events(self, topic: str) -> list[Event]:
        return [decode(r.value, r.headers).event for r in self.bus.records(topic) if r.value is not None]

    def outcomes(self) -> dict[str, str]:
        return {e.job_id: e.outcome for e in self.events("placements") if isinstance(e, JobFinished)}

    def until(self, condition: Callable[[], bool], *, advance_s: float = 0.0, seconds: float = 30.0) -> None:
        """Wait, moving scenario time forward at each look."""
        deadline = time.monotonic() + seconds
        while not condition():
            failed = [runner.failed for runner in self.runners if runner.failed]
            assert not failed, failed
            assert time.monotonic() < deadline, "condition not met in time"
            self.clock.advance(advance_s)
            time.sleep(0.02)


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    with Line(tmp_path) as made:
        made.publish(*(site(name) for name in SITES), *(curve(name, kind) for name in SITES for kind in CURVES))
        yield made


CURVES = {"price_eur_per_mwh": {"north": 100.0, "south": 20.0}, "carbon_gco2_per_kwh": {"north": 500.0, "south": 50.0}}


def site(name: str, nodes: int = 2) -> SiteObserved:
    return SiteObserved(
        site=name,
        observed_at=START,
        nodes=tuple(Node(name=f"{name}-{n}", cpu_milli=8000, memory_bytes=32 * 2**30) for n in range(nodes)),
        power=PowerModel(idle_w_per_node=100, w_per_core=10, pue=1.2),
    )


def curve(name: str, kind: str) -> EnergySeriesPublished:
    return EnergySeriesPublished(
        site=name,
        kind=kind,  # type: ignore[arg-type]
        start=START - timedelta(days=1),
        values=(CURVES[kind][name],) * 96,
        published_at=START,
    )


def job(number: int, *, cpu: int = 1000, seconds: float = 600.0, home: str = "north") -> JobSubmitted:
    spec = JobSpec(
        name=f"job-{number}",
        image="test",
        resources=Resources(cpu_milli=cpu, memory_bytes=2**30),
        duration_estimate_s=seconds,
        max_delay_s=6 * 3600.0,
        home_site=home,
        labels={SIMULATED_DURATION_LABEL: str(seconds)},
    )
    return JobSubmitted(job_id=f"job-{number:04d}", tenant="t", spec=spec, submitted_at=START)


def test_a_job_runs_at_the_cheap_site_and_succeeds_under_one_trace(line: Line) -> None:
    (trace,) = line.publish(job(1))
    line.until(lambda: line.outcomes() == {"job-0001": "succeeded"}, advance_s=30)
    allocated = [e for e in line.events("allocations") if isinstance(e, JobAllocated)]
    assert [e.site for e in allocated] == ["south"]
    for topic in ("jobs", "placements", "allocations", "actuations"):
        records = [r for r in line.bus.records(topic) if r.key.endswith("job-0001")]
        assert records
        for record in records:
            assert trace_id_of(dict(record.headers)["traceparent"].decode()) == trace, (topic, record)


def test_more_work_than_fits_waits_and_all_of_it_ends_once(line: Line) -> None:
    line.publish(*(job(n, cpu=4000) for n in range(60)))
    line.until(lambda: len(line.outcomes()) == 60, advance_s=60, seconds=60)
    assert set(line.outcomes().values()) == {"succeeded"}
    finished = [e.job_id for e in line.events("placements") if isinstance(e, JobFinished)]
    assert len(finished) == len(set(finished))
    started = [
        (e.job_id, e.revision)
        for e in line.events("actuations")
        if isinstance(e, WorkloadReported) and e.status == "started"
    ]
    assert len(started) == len(set(started))


def test_a_running_job_is_cancelled_and_ends_as_cancelled(line: Line) -> None:
    submitted = job(1, seconds=1e6)
    line.publish(submitted)
    line.until(lambda: any(isinstance(e, WorkloadReported) for e in line.events("actuations")), advance_s=1)
    line.publish(
        JobCancellationRequested(
            job_id=submitted.job_id,
            tenant="t",
            spec=submitted.spec,
            submitted_at=START,
            requested_at=line.clock.now(),
        )
    )
    line.until(lambda: line.outcomes() == {"job-0001": "cancelled"}, advance_s=1)


def test_failing_workloads_are_tried_again_and_end(tmp_path: Path) -> None:
    with Line(tmp_path, failure_rate=0.5) as line:
        line.publish(*(site(name) for name in SITES), *(curve(name, kind) for name in SITES for kind in CURVES))
        line.publish(*(job(n) for n in range(20)))
        line.until(lambda: len(line.outcomes()) == 20, advance_s=60, seconds=60)
        assert set(line.outcomes().values()) <= {"succeeded", "failed"}
        revisions = {e.revision for e in line.events("actuations") if isinstance(e, WorkloadReported)}
        assert max(revisions) > 1
