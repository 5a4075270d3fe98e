"""What operators look at: dead letters, readiness, and errors."""

from __future__ import annotations

from typing import Literal

import msgspec

from services.gateway.model.view import View


class ParkedRecord(View, frozen=True, kw_only=True):
    """A record that no service could read."""

    topic: str
    partition: int
    offset: int
    key: str
    error: str
    service: str
    time: str
    value: str  # as text, cut after 10,000 characters
    headers: dict[str, str]


class DeadLetterList(View, frozen=True, kw_only=True):
    deadletters: list[ParkedRecord]


class Readiness(View, frozen=True, kw_only=True):
    ready: bool
    database: str
    broker: str
    relay: str
    projector: str
    lag_records: int | None  # read model behind the log; null: this replica does not write it
    oldest_unpublished_s: (
        float | None
    )  # age of the oldest outbox row, wall seconds; 0: none; null: the database does not say


class Health(View, frozen=True, kw_only=True):
    status: Literal["ok"] = "ok"


class FieldProblem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One field of a request that must change."""

    field: str
    message: str
    cure: str
    line: int | None = None


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """RFC 9457 problem details."""

    type: str  # a URI reference: /problems/<slug>, explained in docs/api.md
    title: str
    status: int
    detail: str
    instance: str = ""
    errors: tuple[FieldProblem, ...] = ()
