"""Jobs as people write them (REST bodies, NDJSON lines, YAML files), parsed at the edge into ``solyx.events.JobSpec``.

Pure: no I/O and no clock. Every error names the field's path, what is wrong with it and the cure; all errors of a document
are reported together. The format is documented in docs/api.md, ``JOB_SCHEMA`` (solyx/jobschema.py) is its JSON Schema.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from solyx.events.job import JobSpec, LatencyBound, Resources
from solyx.jobfields import JOB, Errors, FieldError, read_fields

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_JOB_BYTES = 256 * 1024  # of a JSON document: its events stay far below Kafka's 1 MiB for a record
MAX_ERRORS = 100
DEFAULT_NAME = "job"

__all__ = ["FieldError", "Job", "JobFileError", "parse_job", "parse_json", "parse_ndjson"]


class JobFileError(ValueError):
    """The document is no job. ``errors`` holds at most ``MAX_ERRORS``."""

    def __init__(self, errors: Sequence[FieldError]) -> None:
        super().__init__("\n".join(str(error) for error in errors))
        self.errors = tuple(errors)


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A parsed document: what to run, and for whom where an administrator says so."""

    spec: JobSpec
    tenant: str | None = None


def parse_job(document: object, *, now: datetime | None = None) -> Job:
    """The job in a decoded JSON or YAML document; ``now`` (scenario time) rejects a deadline that has passed.

    Raises:
        JobFileError: with every error of the document.
    """
    errors = Errors()
    values = read_fields(document, JOB, "", errors)
    _latency(values, errors)
    _check_whole(values, now, errors)
    if errors.found:
        raise JobFileError(errors.found[:MAX_ERRORS])
    tenant = values.pop("tenant", None)
    values.setdefault("name", DEFAULT_NAME)
    return Job(spec=JobSpec(**values), tenant=tenant)


_decode_line = msgspec.json.Decoder().decode


def parse_json(body: bytes, *, now: datetime | None = None) -> Job:
    """One job as JSON.

    Raises:
        JobFileError: no JSON, or no job.
    """
    if len(body) > MAX_JOB_BYTES:
        too_large = FieldError(field="", message=f"is larger than {MAX_JOB_BYTES} bytes", cure="shorten env or command")
        raise JobFileError([too_large])
    try:
        document = _decode_line(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise JobFileError([_no_json(error)]) from error
    return parse_job(document, now=now)


def parse_ndjson(body: bytes, *, now: datetime | None = None, max_jobs: int = 10_000) -> list[Job]:
    """One job a line; empty lines are skipped. All or nothing.

    Raises:
        JobFileError: errors name line and field; also when there are no jobs, or more than ``max_jobs``.
    """
    jobs: list[Job] = []
    errors: list[FieldError] = []
    for number, line in enumerate(body.split(b"\n"), start=1):
        if not line or line.isspace():
            continue
        if len(jobs) >= max_jobs:
            too_many = FieldError(
                field="", message=f"has more than {max_jobs} jobs", cure="send it in several requests"
            )
            raise JobFileError([*errors, too_many])
        try:
            jobs.append(parse_json(line, now=now))
        except JobFileError as error:
            errors.extend(msgspec.structs.replace(found, line=number) for found in error.errors)
            if len(errors) >= MAX_ERRORS:
                break
    if errors:
        raise JobFileError(errors[:MAX_ERRORS])
    if not jobs:
        raise JobFileError([FieldError(field="", message="holds no job", cure="write one JSON object on each line")])
    return jobs


def _no_json(error: Exception) -> FieldError:
    return FieldError(field="", message=f"is no JSON: {error}", cure="write one JSON object, in UTF-8")


def _latency(values: dict[str, Any], errors: Errors) -> None:
    """``max_latency_ms`` with ``to`` is the flat form of ``max_latency``."""
    if "max_latency_ms" not in values and "to" not in values:
        return
    flat = {"max_ms": values.pop("max_latency_ms", None), "to": values.pop("to", None)}
    if "max_latency" in values:
        errors.add("max_latency_ms", "stands beside max_latency", "keep one of the two forms")
    elif flat["to"] is None:
        errors.add("to", "is missing beside max_latency_ms", "name the place that the latency is measured to")
    elif flat["max_ms"] is None:
        errors.add("max_latency_ms", "is missing beside to", "add the longest round trip in milliseconds")
    else:
        values["max_latency"] = LatencyBound(**flat)


def _check_whole(values: dict[str, Any], now: datetime | None, errors: Errors) -> None:
    """What only the fields together show."""
    for canonical, name, example in (
        ("image", "image", 'name a container image ("ghcr.io/acme/train:1.4")'),
        ("resources", "resources", 'say what one pod needs ({"cpu": 2, "memory": "4Gi"})'),
        ("duration_estimate_s", "duration_estimate", 'say how long it will take, roughly ("2h")'),
    ):
        if canonical not in values:
            errors.add(name, "is missing", example)
    resources = values.get("resources")
    if isinstance(resources, Resources) and not (resources.cpu_milli or resources.devices):
        errors.add("resources", "asks for no cores and no devices", "give at least cpu or devices")
    deadline = values.get("deadline")
    if deadline is None:
        return
    if values.get("max_delay_s") is not None:
        errors.add("max_delay", "stands beside deadline", "keep one of the two")
    if now is None:
        return
    needed = timedelta(seconds=values.get("duration_estimate_s") or 0.0)
    if deadline <= now:
        errors.add("deadline", "is in the past", f"write a time after {now.isoformat(timespec='seconds')}")
    elif deadline < now + needed:
        errors.add(
            "deadline",
            "comes before the job could end, by its own duration_estimate",
            f"write a time after {(now + needed).isoformat(timespec='seconds')}, or estimate less",
        )
