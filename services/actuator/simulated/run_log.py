"""What really ran on the simulated clusters, for checkers: each run with its nodes, devices, start and end.

The log is append-only and written in the transaction that starts or ends a run, so it is the truth even about an actuator
that was killed before it could report.
"""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from contextlib import closing
from datetime import datetime
from typing import TYPE_CHECKING
from urllib.parse import unquote

import msgspec

from services.actuator.model import Phase
from services.actuator.simulated.course import from_us
from solyx.events import PodAssignment, WorkloadReason

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from solyx.events import Node

_PODS = msgspec.json.Decoder(tuple[PodAssignment, ...])

Use = tuple[str, str]  # node and what of it: "cpu", "memory" or "gpu/MODEL/INDEX"


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A workload from its start to its end."""

    site: str
    job_id: str
    revision: int
    pods: tuple[PodAssignment, ...]  # nodes and devices
    cpu_milli: int  # of one pod
    memory_bytes: int  # of one pod
    started_at: datetime
    ended_at: datetime | None  # None: still running (or ended, and nobody has looked since)
    phase: Phase
    reason: WorkloadReason
    from_s: float = 0.0  # work that earlier runs had done and kept
    whole_s: float = 0.0  # the job's whole work
    kept_s: float = 0.0  # work that a checkpoint kept at its end, of this run and those before it


def run_log(path: Path) -> list[Run]:
    """All runs in a cluster's file, by start."""
    with closing(sqlite3.connect(f"file:{path}?mode=rw", uri=True, timeout=5)) as db:
        rows = db.execute(
            "SELECT job_id, revision, pods, cpu_milli, memory_bytes, started_us, ended_us, phase, reason,"
            " json_extract(work, '$.done_us'), json_extract(work, '$.whole_us'), kept_us"
            " FROM runs LEFT JOIN run_ends USING (run_id) ORDER BY started_us, run_id"
        ).fetchall()
    return [
        Run(
            site=unquote(path.stem),
            job_id=job_id,
            revision=revision,
            pods=_PODS.decode(pods),
            cpu_milli=cpu_milli,
            memory_bytes=memory_bytes,
            started_at=from_us(started_us),
            ended_at=None if ended_us is None else from_us(ended_us),
            phase=Phase(phase or Phase.RUNNING),
            reason=WorkloadReason(reason or WorkloadReason.APPLIED),
            from_s=from_us_ / 1e6,
            whole_s=whole_us / 1e6,
            kept_s=(kept_us or 0) / 1e6,
        )
        for job_id, revision, pods, cpu_milli, memory_bytes, started_us, ended_us, phase, reason, from_us_, whole_us, kept_us in rows
    ]


def run_logs(state_dir: Path) -> list[Run]:
    """The runs of all simulated clusters, by start."""
    runs = [run for path in sorted((state_dir / "clusters").glob("*.sqlite")) for run in run_log(path)]
    return sorted(runs, key=lambda run: run.started_at)


def doubled(runs: Iterable[Run]) -> list[tuple[Run, Run]]:
    """Pairs of runs of one job that overlap in time, at whatever sites: there must be none."""
    by_job: defaultdict[str, list[Run]] = defaultdict(list)
    for run in runs:
        by_job[run.job_id].append(run)
    pairs: list[tuple[Run, Run]] = []
    for of_job in by_job.values():
        of_job.sort(key=lambda run: (run.started_at, run.revision))  # one that died as it started comes first
        longest = of_job[0]
        for run in of_job[1:]:
            if longest.ended_at is None or run.started_at < longest.ended_at:
                pairs.append((longest, run))
            if longest.ended_at is not None and (run.ended_at is None or run.ended_at > longest.ended_at):
                longest = run
    return pairs


def overcommitted(runs: Iterable[Run], nodes: Mapping[str, Iterable[Node]]) -> list[str]:
    """Where more was in use than a node has, in words; there must be nothing. ``nodes``: the inventory of each site.

    The simple algorithm: walk through all starts and ends by time, ends first (a successor may start the moment its
    predecessor ends), and keep the sum for each node and device.
    """
    capacity: dict[tuple[str, Use], int] = {}
    for site, inventory in nodes.items():
        for node in inventory:
            capacity[site, (node.name, "cpu")] = node.cpu_milli
            capacity[site, (node.name, "memory")] = node.memory_bytes
            numbers: Counter[str] = Counter()  # equal devices are numbered through, however the inventory groups them
            for group in node.devices:
                name = f"{group.kind}/{group.model}"
                for _ in range(group.count):
                    capacity[site, (node.name, f"{name}/{numbers[name]}")] = 1000
                    numbers[name] += 1
    steps: list[tuple[datetime, int, Run]] = []
    for run in runs:
        steps.append((run.started_at, 1, run))
        if run.ended_at is not None:
            steps.append((run.ended_at, -1, run))
    steps.sort(key=lambda step: step[:2])
    used: defaultdict[tuple[str, Use], int] = defaultdict(int)
    found: dict[tuple[str, Use], str] = {}
    for at, sign, run in steps:
        for use, amount in _uses(run):
            place = (run.site, use)
            used[place] += sign * amount
            if sign > 0 and used[place] > capacity.get(place, 0) and place not in found:
                found[place] = (
                    f"{run.site}: {use[1]} of node {use[0]} at {used[place]} of {capacity.get(place, 0)} "
                    f"from {at.isoformat()} on, when {run.job_id}.{run.revision} started"
                )
    return list(found.values())


def _uses(run: Run) -> Iterable[tuple[Use, int]]:
    for pod in run.pods:
        yield (pod.node, "cpu"), run.cpu_milli
        yield (pod.node, "memory"), run.memory_bytes
        for device in pod.devices:
            yield (pod.node, f"{device.kind}/{device.model}/{device.index}"), device.share_milli
