"""Who holds, borrows, lends and waits for what under a site's quotas (topic ``quotas``, written by the DRM)."""

from __future__ import annotations

from typing import ClassVar, Literal

import msgspec

from solyx.events.event import Event, Model, NonNegative, NonNegativeInt, Time


class QuotaFigure(Model, frozen=True, kw_only=True):
    """One resource of an account, in thousandths of cores and devices or in bytes."""

    resource: str  # cpu_milli, memory_bytes, gpu_milli; or a kind of device, "gpu", or kind and model, "gpu/A100"
    guaranteed: NonNegativeInt = 0  # of a cohort: its own, and that of all in it
    most: NonNegativeInt | None = None  # that it may hold while the others hold nothing; None: unlimited
    held: NonNegativeInt = 0
    borrowed: NonNegativeInt = (
        0  # held beyond what is guaranteed; of a cohort: beyond its own and what its members lend
    )
    lent: NonNegativeInt = 0  # of what is guaranteed to it and it does not hold: what others of its cohort hold
    waiting: NonNegativeInt = (
        0  # asked for by jobs that could start by their time; a model only where they name just that
    )


class QuotaAccount(Model, frozen=True, kw_only=True):
    """A tenant or a cohort."""

    name: str
    kind: Literal["tenant", "cohort"]
    cohort: str = ""  # that it belongs to; empty: none
    share: NonNegative = 0.0  # dominant share of the site, over its weight
    waiting_jobs: NonNegativeInt = 0
    figures: tuple[QuotaFigure, ...] = ()  # of what is limited, held or waited for


class QuotasReported(Event, frozen=True, kw_only=True):
    """How a site's quotas are used, whole; a later record replaces it. Without accounts: the site has no quotas any more."""

    TYPE: ClassVar[str] = "io.solyx.quotas.reported.v1"
    TOPIC: ClassVar[str] = "quotas"

    site: str
    capacity: dict[str, int] = msgspec.field(default_factory=dict)  # resource → what the nodes have in all
    accounts: tuple[QuotaAccount, ...] = ()  # cohorts, then tenants
    reported_at: Time

    @property
    def key(self) -> str:
        return self.site

    @property
    def id(self) -> str:
        return f"{self.site}.quotas.{self.reported_at.isoformat()}"
