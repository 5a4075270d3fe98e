"""Jobs: submit one or many, list, look at one, cancel."""

from __future__ import annotations

import asyncio
import hashlib
import re
from datetime import datetime
from typing import Annotated

import msgspec
from fastapi import APIRouter, Header, Query, Request, Response
from prometheus_client import Counter

from services.gateway.api import cursor as cursors
from services.gateway.api.documents import JOB_BODY, answers
from services.gateway.api.parameters import DATE_TIME, label_of, no_nul, tenant_seen, time_of
from services.gateway.api.parts import PartsDep, Submitter, Viewer, json
from services.gateway.api.problem import ApiProblem, invalid, invalid_field
from services.gateway.model import (
    TERMINAL,
    CancelledJob,
    JobDetail,
    JobFilter,
    JobPage,
    JobState,
    KeyMismatch,
    NewJob,
    SubmittedBatch,
    SubmittedJob,
)
from services.gateway.store.jobs import IdempotencyKey, Prepared, prepare
from services.gateway.waiting import broken_bound, why_it_waits
from solyx.clock import new_id
from solyx.jobfile import FieldError, Job, JobFileError, parse_json, parse_ndjson
from solyx.security import Principal
from solyx.telemetry import new_traceparent, step

router = APIRouter(tags=["jobs"])

ACCEPTED = Counter("solyx_jobs_accepted_total", "Jobs stored")
JSON_TYPES = frozenset({"application/json", ""})
NDJSON_TYPES = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl"})
SMALL_BODY = 64 * 1024
"""A body up to this is parsed in the event loop (a millisecond or two), a larger one beside it."""
MAX_LIMIT = 1000
_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_JOB_ID = re.compile(r"[0-9a-z]{1,64}")


class Submission(msgspec.Struct, frozen=True, kw_only=True):
    """What a body of jobs is read with."""

    principal: Principal
    tenant: str | None  # X-Solyx-Tenant
    homes: dict[str, str | None]  # tenant → home site
    traceparent: str | None  # to continue; else each job begins a trace
    now: datetime
    many: bool
    max_jobs: int


@router.post(
    "/v1/jobs",
    status_code=202,
    responses=answers(202, (SubmittedJob, SubmittedBatch), 401, 403, 409, 413, 415, 422, 429),
    openapi_extra=JOB_BODY,
)
async def submit_jobs(
    request: Request,
    parts: PartsDep,
    principal: Submitter,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255)] = None,
    x_solyx_tenant: Annotated[str | None, Header(max_length=253, description="For administrators: whose jobs")] = None,
    traceparent: Annotated[str | None, Header(max_length=200, description="W3C trace context to continue")] = None,
) -> Response:
    """Submit one job (JSON) or up to 10,000 (NDJSON, all or nothing). 202 means: stored, and will be published.

    With an Idempotency-Key a retry returns the ids of the first time.
    """
    many = _is_ndjson(request.headers.get("content-type", ""))
    body = await request.body()
    key = _idempotency(principal, idempotency_key, x_solyx_tenant, body, many=many)
    try:
        accepted = await parts.jobs.find_idempotent(key) if key is not None else None
        if accepted is None:
            submission = Submission(
                principal=principal,
                tenant=x_solyx_tenant,
                homes=await parts.directory.homes(),
                traceparent=traceparent if traceparent is not None and _TRACEPARENT.fullmatch(traceparent) else None,
                now=parts.clock.now(),
                many=many,
                max_jobs=parts.settings.max_batch_jobs,
            )
            beside = len(body) > SMALL_BODY
            prepared = await asyncio.to_thread(read, body, submission) if beside else read(body, submission)
            parts.limit.take_jobs(principal.key_id, len(prepared.ids))
            accepted = await parts.jobs.submit(prepared, key)
            ACCEPTED.inc(0 if accepted.replayed else len(accepted.ids))
    except KeyMismatch:
        detail = "this Idempotency-Key was used for another body; a new request needs a new key"
        raise ApiProblem("conflict", detail) from None
    headers = {"Idempotency-Replayed": "true"} if accepted.replayed else {}
    if many:
        return json(SubmittedBatch(count=len(accepted.ids), ids=accepted.ids), 202, headers)
    job_id = accepted.ids[0]
    return json(SubmittedJob(id=job_id), 202, headers | {"Location": f"/v1/jobs/{job_id}"})


def read(body: bytes, submission: Submission) -> Prepared:
    """Parse a body and make its jobs ready to be stored.

    Raises:
        ApiProblem: 422 with all errors, or 403 when a job is for somebody else.
    """
    try:
        if submission.many:
            jobs = parse_ndjson(body, now=submission.now, max_jobs=submission.max_jobs)
        else:
            jobs = [parse_json(body, now=submission.now)]
    except JobFileError as error:
        raise invalid(error.errors) from None
    accepted = [_new_job(job, submission) for job in jobs]
    return prepare(accepted, submission.now)


def _new_job(job: Job, submission: Submission) -> NewJob:
    principal = submission.principal
    tenant = job.tenant or submission.tenant or principal.tenant
    if tenant != principal.tenant and not principal.is_admin:
        raise ApiProblem("forbidden", "only an administrator's key may submit for another tenant")
    if tenant not in submission.homes:
        cure = "create it with POST /v1/tenants, or name one of GET /v1/tenants"
        raise invalid([FieldError(field="tenant", message=f"{tenant[:80]!r} is not known", cure=cure)])
    spec = job.spec
    home = submission.homes[tenant]
    if spec.home_site is None and home is not None:
        spec = msgspec.structs.replace(spec, home_site=home)
    job_id = new_id()
    parent = submission.traceparent or new_traceparent()
    traceparent = step("gateway accept", parent, {"job_id": job_id, "tenant": tenant}) or parent
    return NewJob(id=job_id, tenant=tenant, spec=spec, traceparent=traceparent)


def _is_ndjson(content_type: str) -> bool:
    kind = content_type.split(";", maxsplit=1)[0].strip().lower()
    if kind in NDJSON_TYPES:
        return True
    if kind in JSON_TYPES:
        return False
    detail = "send application/json for one job, application/x-ndjson for several"
    raise ApiProblem("unsupported-media-type", detail)


def _idempotency(
    principal: Principal, key: str | None, tenant: str | None, body: bytes, *, many: bool
) -> IdempotencyKey | None:
    if key is None:
        return None
    digest = hashlib.sha256(body)
    digest.update(f"|{many}|{tenant}".encode())
    return IdempotencyKey(tenant=principal.tenant, key=key, body_digest=digest.digest())


@router.get("/v1/jobs", responses=answers(200, JobPage, 401, 403, 422, 429))
async def list_jobs(
    *,
    parts: PartsDep,
    principal: Viewer,
    state: Annotated[list[JobState], Query(description="One or several")] = [],  # noqa: B006 - FastAPI copies it
    site: Annotated[str | None, Query(max_length=253)] = None,
    tenant: Annotated[str | None, Query(max_length=253, description="For administrators")] = None,
    label: Annotated[list[str], Query(description="key=value; several: all of them")] = [],  # noqa: B006
    name: Annotated[str | None, Query(max_length=253, description="How the name begins")] = None,
    since: Annotated[
        str | None, Query(description="Submitted at or after, RFC 3339", json_schema_extra=DATE_TIME)
    ] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = 100,
    cursor: Annotated[str | None, Query(max_length=200, description="`next` of the page before")] = None,
) -> Response:
    """Jobs, newest first, page by page. Jobs that arrive while you page do not shift the pages."""
    no_nul(site=site, tenant=tenant, name=name)
    chosen = JobFilter(
        tenant=tenant_seen(principal, tenant, "jobs"),
        state=tuple(state),
        site=site,
        labels=tuple(label_of(text) for text in label),
        name_prefix=name,
        since=time_of("since", since),
        before_id=_before(cursor),
        limit=limit + 1,  # one more tells whether there is a next page
    )
    jobs = await parts.jobs.list(chosen)
    more = len(jobs) > limit
    page = jobs[:limit]
    return json(JobPage(jobs=page, next=cursors.encode(page[-1].id) if more else None))


def _before(cursor: str | None) -> str | None:
    if cursor is None:
        return None
    try:
        return cursors.decode(cursor)
    except ValueError:
        raise invalid_field("cursor", "is none of ours", "use `next` of the page before, unchanged") from None


@router.get("/v1/jobs/{job_id}", responses=answers(200, JobDetail, 401, 404, 422, 429))
async def get_job(parts: PartsDep, principal: Viewer, job_id: str) -> Response:
    """A job's specification, state and history: each decision with its reason and figures."""
    tenant = None if principal.is_admin else principal.tenant
    job = await parts.jobs.get(job_id, tenant=tenant) if _JOB_ID.fullmatch(job_id) else None
    if job is None:
        raise _no_job()
    waits, breach = why_it_waits(job, job.history), broken_bound(job, job.history)
    return json(msgspec.structs.replace(job, waits=waits, breach=breach))


@router.delete("/v1/jobs/{job_id}", status_code=202, responses=answers(202, CancelledJob, 401, 403, 404, 409, 422, 429))
async def cancel_job(parts: PartsDep, principal: Submitter, job_id: str) -> Response:
    """Ask for the job to be stopped. Asking again changes nothing."""
    tenant = None if principal.is_admin else principal.tenant
    now = parts.clock.now()
    job = await parts.jobs.cancel(job_id, tenant=tenant, now=now) if _JOB_ID.fullmatch(job_id) else None
    if job is None:
        raise _no_job()
    if job.state in TERMINAL:
        because = f" ({job.reason})" if job.reason else ""
        raise ApiProblem("conflict", f"the job has already {_ENDED[job.state]}{because}")
    if job.cancel_requested_at is None:
        raise ApiProblem("conflict", "the job's specification has not been read yet; try again in a moment")
    return json(CancelledJob(id=job.id, state=job.state, cancel_requested_at=job.cancel_requested_at), 202)


_ENDED = {"succeeded": "succeeded", "failed": "failed", "cancelled": "been cancelled"}


def _no_job() -> ApiProblem:
    return ApiProblem("not-found", "there is no job of that id among those that this key may see")
