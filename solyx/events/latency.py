"""How the site of a job stands to the latency that the job asks for (topic ``responses``, written by the CMO)."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from solyx.events.event import NonNegative, Positive, Time, WorkloadEvent


class LatencyReason(StrEnum):
    """Why a job stays at a site that is too far; or that it is not too far any more."""

    NOT_SUSPENDABLE = "not_suspendable"  # it runs and keeps no progress: stopping it would lose its work
    NO_NEARER_SITE = "no_nearer_site"  # no other site is nearer than its bound by a margin, and has room
    RECENT = "recent"  # it began to run, or was stopped, only a while ago, and is left in peace for now
    WITHIN = "within"  # its site is near enough again


class LatencyBoundReported(WorkloadEvent, frozen=True, kw_only=True):
    """A job stays although its site has been too far from the place that it must be near, or the site is near enough again.

    Told once for each reason under one revision, and once when it is over. A later record of the job at that site replaces it.
    """

    TYPE: ClassVar[str] = "io.solyx.latency.bound_reported.v1"
    TOPIC: ClassVar[str] = "responses"

    reason: LatencyReason
    to: str  # the place
    max_ms: Positive  # that the job asks for
    round_trip_ms: NonNegative | None = None  # now; None: there is no way
    since: Time | None = None  # it has been at least so far from then on; None: the site declares it
    detail: str = ""  # in words, with the figures
    reported_at: Time

    @property
    def key(self) -> str:
        return f"{self.site}/{self.job_id}/latency"

    @property
    def id(self) -> str:
        return f"{self.job_id}.{self.revision}.latency.{self.reason}.{self.reported_at.isoformat()}"
