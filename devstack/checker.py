"""Reads the topics of an installation and says what went wrong, from the log alone: jobs lost or doubled, capacity exceeded, left-overs, work left out.

Pure: records in, findings out. Used after a chaos run; an operator can use it on any installation's topics.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

import msgspec

from devstack.work import wrong_work
from solyx.events import (
    AllocationReleased,
    Event,
    JobAllocated,
    JobFinished,
    JobSubmitted,
    Node,
    PlacementWithdrawn,
    Poison,
    SiteObserved,
    WorkloadReported,
    decode,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from solyx.bus.port import Received

TOPICS = ("jobs", "sites", "placements", "allocations", "actuations")
"""What ``read`` needs, from their beginnings."""

_ENDS = frozenset({"succeeded", "failed", "stopped"})


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A workload from its start to its end, as the actuator reported them. None: no end was reported."""

    job_id: str
    site: str
    revision: int
    start: datetime
    end: datetime | None


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that must be empty, and what was looked at."""

    jobs: int  # submitted
    outcomes: dict[str, int]
    runs: int
    lost: list[str]  # accepted, and no terminal outcome (or no event at all)
    doubled: list[str]  # more than one terminal outcome, allocated twice under a revision, or running twice at a time
    exceeded: list[str]  # where more was allocated and running than there is
    left_over: list[str]  # allocations that were never released
    unworked: list[str]  # runs whose useful work does not add up to their job's (devstack/work.py)

    @property
    def clean(self) -> bool:
        """Whether nothing went wrong."""
        return not (self.lost or self.doubled or self.exceeded or self.left_over or self.unworked)


def check(records: Iterable[Received], *, accepted: Sequence[str]) -> Findings:
    """Judge a finished installation: every accepted job is expected to have ended."""
    return judge(_events(records), accepted=accepted)


def _events(records: Iterable[Received]) -> Iterable[Event]:
    for received in records:
        if received.value is None:
            continue
        try:
            yield decode(received.value, received.headers).event
        except Poison:
            continue  # the dead letters are another matter


def judge(events: Iterable[Event], *, accepted: Sequence[str]) -> Findings:
    """The same from events: each topic's order is kept, topics may interleave in any way."""
    submitted: set[str] = set()
    finished: Counter[str] = Counter()
    outcomes: Counter[str] = Counter()
    allocated: dict[tuple[str, int], JobAllocated] = {}
    twice: list[str] = []
    released: set[tuple[str, int]] = set()
    reports: defaultdict[tuple[str, int], list[WorkloadReported]] = defaultdict(list)
    nodes: defaultdict[str, dict[str, Node]] = defaultdict(dict)
    withdrawn: list[PlacementWithdrawn] = []
    for event in events:
        match event:
            case JobSubmitted():
                submitted.add(event.job_id)
            case JobFinished():
                finished[event.job_id] += 1
                outcomes[event.outcome] += 1
            case JobAllocated():
                if (event.job_id, event.revision) in allocated:
                    twice.append(f"{event.job_id} was allocated twice under revision {event.revision}")
                allocated[event.job_id, event.revision] = event
            case AllocationReleased():
                released.add((event.job_id, event.revision))
            case WorkloadReported():
                reports[event.job_id, event.revision].append(event)
            case PlacementWithdrawn():
                withdrawn.append(event)
            case SiteObserved():
                nodes[event.site].update({node.name: node for node in event.nodes})
            case _:
                pass
    runs = [run for of_one in reports.values() if (run := _run(of_one)) is not None]
    return Findings(
        jobs=len(submitted),
        outcomes=dict(outcomes),
        runs=len(runs),
        lost=[job_id for job_id in accepted if job_id not in submitted or not finished[job_id]],
        doubled=[f"{job_id} ended {count} times" for job_id, count in finished.items() if count > 1]
        + twice
        + list(_overlaps(runs)),
        exceeded=list(_exceeded(runs, allocated, nodes)),
        left_over=[
            f"{job_id} revision {revision} at {event.site}"
            for (job_id, revision), event in allocated.items()
            if (job_id, revision) not in released
        ],
        unworked=list(wrong_work(allocated, reports, withdrawn)),
    )


def _run(reports: Sequence[WorkloadReported]) -> Run | None:
    started = next((report for report in reports if report.status == "started"), None)
    ended = next((report for report in reports if report.status in _ENDS), None)
    start = (started.started_at or started.at) if started else (ended.started_at if ended else None)
    if start is None:
        return None  # stopped before it started
    one = reports[0]
    return Run(job_id=one.job_id, site=one.site, revision=one.revision, start=start, end=ended.at if ended else None)


def _overlaps(runs: Sequence[Run]) -> Iterable[str]:
    by_job: defaultdict[str, list[Run]] = defaultdict(list)
    for run in runs:
        by_job[run.job_id].append(run)
    for job_id, of_job in by_job.items():
        of_job.sort(key=lambda run: (run.start, run.revision))  # one that died as it started comes first
        for i, earlier in enumerate(of_job):
            for later in of_job[i + 1 :]:
                if earlier.end is None or later.start < earlier.end:
                    yield (
                        f"{job_id} ran at {earlier.site} (revision {earlier.revision}) and at {later.site} "
                        f"(revision {later.revision}) at {later.start.isoformat()}"
                    )


def _exceeded(
    runs: Sequence[Run],
    allocated: dict[tuple[str, int], JobAllocated],
    nodes: defaultdict[str, dict[str, Node]],
) -> Iterable[str]:
    """Walk through all starts and ends by time, ends first: a successor may start the moment its predecessor ends."""
    capacity = {
        (site, *use): amount
        for site, of_site in nodes.items()
        for node in of_site.values()
        for use, amount in _has(node)
    }
    steps: list[tuple[datetime, int, Run]] = []
    for run in runs:
        steps.append((run.start, 1, run))
        if run.end is not None:
            steps.append((run.end, -1, run))
    steps.sort(key=lambda step: step[:2])
    used: defaultdict[tuple[str, str, str], int] = defaultdict(int)
    told: set[tuple[str, str, str]] = set()
    for at, sign, run in steps:
        allocation = allocated.get((run.job_id, run.revision))
        if allocation is None:
            if sign > 0:
                yield f"{run.job_id} ran at {run.site} under revision {run.revision} without an allocation"
            continue
        for use, amount in _takes(allocation):
            place = (run.site, *use)
            used[place] += sign * amount
            if used[place] > capacity.get(place, 0) and place not in told:
                told.add(place)
                yield f"{'/'.join(place)}: {used[place]} of {capacity.get(place, 0)} in use at {at.isoformat()}"


def _has(node: Node) -> Iterable[tuple[tuple[str, str], int]]:
    yield (node.name, "cpu"), node.cpu_milli
    yield (node.name, "memory"), node.memory_bytes
    numbers: Counter[str] = Counter()  # equal devices are numbered through, however the inventory groups them
    for group in node.devices:
        name = f"{group.kind}/{group.model}"
        for _ in range(group.count):
            yield (node.name, f"{name}/{numbers[name]}"), 1000
            numbers[name] += 1


def _takes(allocation: JobAllocated) -> Iterable[tuple[tuple[str, str], int]]:
    wants = allocation.spec.resources
    for pod in allocation.pods:
        yield (pod.node, "cpu"), wants.cpu_milli
        yield (pod.node, "memory"), wants.memory_bytes
        for device in pod.devices:
            yield (pod.node, f"{device.kind}/{device.model}/{device.index}"), device.share_milli
