"""A scenario's jobs in order of arrival, from the published formats of real traces.

``openb``: pods of a GPU-sharing cluster (times in s, ``gpu_milli`` of each GPU). A pod asks for its resources from its creation to
its deletion, so that is its duration: the scenario's stated mean use (44 GPUs, 550 cores) comes out only so. One that was created
before the offset and deleted after it is already running at the start: it arrives at 0 with what remains, bound to its home.
``arrival-length-cpus``: batch jobs (hours, hours, cores), those of many cores as gangs.

A user's estimate is the true duration times lognormal noise with median 1, seeded by the pod's name or the row's number.
"""

from __future__ import annotations

import math
import zlib
from typing import TYPE_CHECKING, Literal

import numpy as np

from solyx.events import SIMULATED_DURATION_LABEL, DataSet, DeviceRequest, JobSpec, Resources
from solyx.events.event import Model
from solyx.scenario.cells import read_rows
from solyx.scenario.inventory import GIB, MIB

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from solyx.scenario.cells import Row
    from solyx.scenario.document import Table

RUNNING_AT_START_LABEL = "solyx.io/running-at-start"
"""Marks a job that was already running when the scenario begins."""

LEAST_DURATION_S = 1.0
"""A pod deleted in the second of its creation still ran: the trace counts whole seconds."""

_PRIORITY = {"LS": 100, "Guaranteed": 100, "Burstable": 50, "BE": 0}
_OPENB = (
    "name",
    "cpu_milli",
    "memory_mib",
    "num_gpu",
    "gpu_milli",
    "gpu_spec",
    "qos",
    "creation_time",
    "deletion_time",
)
_BATCH = ("arrival_time", "length", "cpus")

JobFormat = Literal["openb", "arrival-length-cpus"]


class JobSource(Model, frozen=True):
    """The ``[jobs]`` table."""

    file: Path
    format: JobFormat
    offset_s: float
    tenants: int
    max_delay_h: dict[str, float] | float | None  # by quality of service, or of every job; None: unbounded
    sigma: float  # of the noise on users' estimates; 0: they know
    suspendable: bool
    suspend_overhead_s: float
    task_cpu_max: int  # 0: jobs are never split into gangs
    data_gib_per_gpu: float
    data_gib_per_cpu: float


class ScenarioJob(Model, frozen=True):
    """One job: ``true_duration_s`` is what it takes, ``spec.duration_estimate_s`` what its owner thinks."""

    arrival_s: float  # after the scenario's start
    name: str
    tenant: str
    home_site: str
    spec: JobSpec
    true_duration_s: float


def read_job_source(table: Table) -> JobSource:
    """The ``[jobs]`` table.

    Raises:
        ScenarioError: a value does not fit.
    """
    job_format: JobFormat = (
        "openb" if table.choice("format", ("openb", "arrival-length-cpus")) == "openb" else "arrival-length-cpus"
    )
    sigma = 0.0
    if table.has("duration_estimate"):
        noise = table.table("duration_estimate")
        noise.choice("noise", ("lognormal",))
        sigma = noise.number("sigma")
    data = table.table("data_gib") if table.has("data_gib") else None
    return JobSource(
        file=table.existing_file("file"),
        format=job_format,
        offset_s=table.number("offset_s", 0.0),
        tenants=table.integer("tenants", 1, least=1),
        max_delay_h=_max_delay(table),
        sigma=sigma,
        suspendable=table.flag("suspendable", default=False),
        suspend_overhead_s=table.number("suspend_overhead_s", 0.0),
        task_cpu_max=table.integer("task_cpu_max", 0),
        data_gib_per_gpu=data.number("per_gpu", 0.0) if data else 0.0,
        data_gib_per_cpu=data.number("per_cpu", 0.0) if data else 0.0,
    )


def _max_delay(table: Table) -> dict[str, float] | float | None:
    if not table.has("max_delay_h"):
        return None
    if not table.holds_table("max_delay_h"):
        return table.number("max_delay_h")
    by_quality = table.table("max_delay_h")
    return {quality: by_quality.number(quality) for quality in by_quality.names()}


def read_jobs(source: JobSource, sites: Sequence[str]) -> Iterator[ScenarioJob]:
    """Every job, in order of arrival; jobs that arrive together in order of the file.

    Raises:
        ScenarioError: a cell does not fit, or a quality of service has no maximum delay.
    """
    jobs = _openb(source, sites) if source.format == "openb" else _batch(source, sites)
    return iter(sorted(jobs, key=lambda job: job.arrival_s))


def _openb(source: JobSource, sites: Sequence[str]) -> Iterator[ScenarioJob]:
    rows = list(read_rows(source.file, _OPENB))
    ends = [(row.number("creation_time", least=0.0), row.number_or("deletion_time", math.inf)) for row in rows]
    trace_end_s = max((time for pair in ends for time in pair if time < math.inf), default=0.0)
    for row, (created_s, deleted_s) in zip(rows, ends, strict=True):
        end_s = min(deleted_s, trace_end_s)
        if end_s < created_s:
            raise row.error("deletion_time", "is before creation_time", "Correct the cell, or leave it empty.")
        running = created_s < source.offset_s
        if running and end_s <= source.offset_s:
            continue
        begin_s = max(created_s, source.offset_s)
        duration_s = max(end_s - begin_s, LEAST_DURATION_S)
        yield _pod(row, source, sites, arrival_s=begin_s - source.offset_s, duration_s=duration_s, running=running)


def _pod(
    row: Row, source: JobSource, sites: Sequence[str], *, arrival_s: float, duration_s: float, running: bool
) -> ScenarioJob:
    name, quality = row.required("name"), row.required("qos")
    gpus, share_milli = row.integer("num_gpu"), row.integer("gpu_milli")
    if gpus and not 1 <= share_milli <= 1000:
        raise row.error("gpu_milli", f"is {share_milli}", "It must be 1 to 1000, thousandths of each GPU.")
    if gpus > 1 and share_milli < 1000:
        raise row.error(
            "gpu_milli", f"is {share_milli} of each of {gpus} GPUs", "Only a single GPU can be shared: make it 1000."
        )
    models = tuple(model for model in row.text("gpu_spec").split("|") if model)
    resources = Resources(
        cpu_milli=row.integer("cpu_milli"),
        memory_bytes=row.integer("memory_mib") * MIB,
        devices=(DeviceRequest(models=models, count=gpus, share_milli=share_milli),) if gpus else (),
    )
    home, tenant, seed = _owner(name, source, sites)
    return ScenarioJob(
        arrival_s=arrival_s,
        name=name,
        tenant=tenant,
        home_site=home,
        true_duration_s=duration_s,
        spec=JobSpec(
            name=name,
            image="scenario/openb",
            resources=resources,
            duration_estimate_s=_estimate_s(duration_s, source.sigma, seed),
            max_delay_s=0.0 if running else _delay_s(source, quality, row),
            priority=_PRIORITY.get(quality, 0),
            preemptible=quality == "BE",
            suspendable=source.suspendable,
            data=_data(source, home, gpus=resources.gpu_milli / 1000, cpus=resources.cpu_milli / 1000),
            allowed_sites=(home,) if running else (),
            home_site=home,
            labels={
                SIMULATED_DURATION_LABEL: f"{duration_s:.3f}",
                "solyx.io/qos": quality,
                **({RUNNING_AT_START_LABEL: "true"} if running else {}),
            },
        ),
    )


def _batch(source: JobSource, sites: Sequence[str]) -> Iterator[ScenarioJob]:
    for number, row in enumerate(read_rows(source.file, _BATCH)):
        duration_s = max(row.number("length", least=0.0) * 3600, LEAST_DURATION_S)
        cpus = row.number("cpus", least=0.0)
        pods = max(math.ceil(cpus / source.task_cpu_max), 1) if source.task_cpu_max else 1
        home, tenant, seed = _owner(str(number), source, sites)
        arrival_s = row.number("arrival_time", least=0.0) * 3600 - source.offset_s
        if arrival_s < 0:
            continue
        name = f"{source.file.stem}-{number:06d}"
        yield ScenarioJob(
            arrival_s=arrival_s,
            name=name,
            tenant=tenant,
            home_site=home,
            true_duration_s=duration_s,
            spec=JobSpec(
                name=name,
                image="scenario/batch",
                resources=Resources(cpu_milli=math.ceil(cpus * 1000 / pods)),
                parallelism=pods,
                duration_estimate_s=_estimate_s(duration_s, source.sigma, seed),
                max_delay_s=_delay_s(source, "", row),
                suspendable=source.suspendable,
                data=_data(source, home, gpus=0.0, cpus=cpus),
                home_site=home,
                labels={SIMULATED_DURATION_LABEL: f"{duration_s:.3f}"},
            ),
        )


def _owner(seed_text: str, source: JobSource, sites: Sequence[str]) -> tuple[str, str, int]:
    """Home site, tenant and seed: tenant k is crc32 mod tenants, its home site k mod sites."""
    seed = zlib.crc32(seed_text.encode())
    tenant = seed % source.tenants
    return sites[tenant % len(sites)], f"tenant-{tenant}", seed


def _estimate_s(duration_s: float, sigma: float, seed: int) -> float:
    if sigma == 0:
        return duration_s
    return max(duration_s * math.exp(sigma * np.random.default_rng(seed).standard_normal()), LEAST_DURATION_S)


def _delay_s(source: JobSource, quality: str, row: Row) -> float | None:
    match source.max_delay_h:
        case None:
            return None
        case dict() as by_quality:
            if quality not in by_quality:
                cure = f"Add it to jobs.max_delay_h, which has {', '.join(sorted(by_quality))}."
                raise row.error("qos", f"is {quality!r}, which has no maximum delay", cure)
            return by_quality[quality] * 3600
        case hours:
            return hours * 3600


def _data(source: JobSource, home: str, *, gpus: float, cpus: float) -> DataSet | None:
    size_bytes = round((source.data_gib_per_gpu * gpus + source.data_gib_per_cpu * cpus) * GIB)
    return DataSet(size_bytes=size_bytes, site=home) if size_bytes else None
