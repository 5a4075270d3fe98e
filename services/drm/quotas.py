"""What each tenant may hold at a site, as operators write it: a tree of cohorts with tenants as its leaves.

The words are those of Kueue's cluster queues and cohorts (kueue.sigs.k8s.io/docs/concepts/cohort): what is guaranteed to one
and unused may be lent to the others of its cohort.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec

from solyx.events.event import Model, NonNegativeInt, Positive

if TYPE_CHECKING:
    from collections.abc import Iterator

Reclaim: TypeAlias = Literal["any", "lower_priority", "never"]


class QuotaError(Exception):
    """The quotas contradict themselves; the message names the field and the cure."""


class Share(Model, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One resource of a tenant or cohort."""

    guaranteed: NonNegativeInt = 0
    borrow: NonNegativeInt | None = None  # most beyond what is guaranteed; None: whatever the cohort has unused
    lend: NonNegativeInt | None = None  # most of what is guaranteed that others may use; None: all


Figure: TypeAlias = NonNegativeInt | Share | None
"""A figure alone is the guaranteed share. None: nothing guaranteed; unlimited where nobody in the tree names the resource."""


class Quota(Model, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is guaranteed to one tenant; one that is in no cohort holds at most that."""

    weight: Positive = 1.0  # of its dominant share: with twice the weight it gets twice as much
    cpu_milli: Figure = None
    memory_bytes: Figure = None
    gpu_milli: Figure = None  # accelerators of any kind


class Cohort(Model, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Tenants, and other cohorts, that lend each other what they do not use. Its own figures are shared by all in it."""

    parent: str = ""
    reclaim: Reclaim = "any"  # whose jobs a tenant may have stopped to get its guaranteed share back
    cpu_milli: Figure = None
    memory_bytes: Figure = None
    gpu_milli: Figure = None
    tenants: dict[str, Quota] = msgspec.field(default_factory=dict)


RESOURCES: tuple[Literal["cpu_milli", "memory_bytes", "gpu_milli"], ...] = ("cpu_milli", "memory_bytes", "gpu_milli")


class SiteQuotas(Model, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The quotas of a site."""

    cohorts: dict[str, Cohort] = msgspec.field(default_factory=dict)
    tenants: dict[str, Quota] = msgspec.field(default_factory=dict)  # in no cohort: limits that nobody shares


class Quotas(SiteQuotas, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The quotas of every site, but for those that have their own."""

    sites: dict[str, SiteQuotas] = msgspec.field(default_factory=dict)

    def at(self, site: str) -> SiteQuotas:
        """The quotas of one site."""
        return self.sites.get(site, self)


def parse_quotas(text: bytes | str) -> Quotas:
    """Read a document: the tree, or the short form tenant → limits.

    Raises:
        QuotaError: it is no such document, or contradicts itself.
    """
    try:
        raw = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
        if raw.keys() <= {"cohorts", "tenants", "sites"}:
            quotas = msgspec.json.decode(text, type=Quotas)
        else:
            quotas = Quotas(tenants=msgspec.json.decode(text, type=dict[str, Quota]))
    except msgspec.MsgspecError as error:
        raise QuotaError(str(error)) from error
    for site, own in (("", quotas), *quotas.sites.items()):
        for problem in _problems(own):
            raise QuotaError(f"sites.{site}.{problem}" if site else problem)
    return quotas


def _problems(quotas: SiteQuotas) -> Iterator[str]:
    """What is wrong, in words, with the field first."""
    homes: dict[str, str] = {}
    for name, cohort in quotas.cohorts.items():
        yield from _misplaced(quotas, name, cohort)
        yield from _lends_too_much(f"cohorts.{name}", cohort)
        for tenant, quota in cohort.tenants.items():
            if tenant in homes:
                yield f"cohorts.{name}.tenants.{tenant}: is in cohort {homes[tenant]} already; take it out of one of the two"
            homes[tenant] = name
            yield from _lends_too_much(f"cohorts.{name}.tenants.{tenant}", quota)
    for tenant, quota in quotas.tenants.items():
        if tenant in homes:
            yield f"tenants.{tenant}: is in cohort {homes[tenant]} already; take it out of one of the two"
        for resource in RESOURCES:
            share = getattr(quota, resource)
            if isinstance(share, Share) and (share.borrow or share.lend):
                yield f"tenants.{tenant}.{resource}: borrows or lends, but is in no cohort; write it into cohorts.NAME.tenants"


def _misplaced(quotas: SiteQuotas, name: str, cohort: Cohort) -> Iterator[str]:
    path = [name]
    while cohort.parent:
        if cohort.parent not in quotas.cohorts:
            yield f"cohorts.{path[-1]}.parent: there is no cohort {cohort.parent}; add it to cohorts, or leave parent out"
            return
        if cohort.parent in path:
            circle = " → ".join([*path[path.index(cohort.parent) :], cohort.parent])
            yield f"cohorts.{path[-1]}.parent: the cohorts form a cycle: {circle}; leave parent out of one of them"
            return
        path.append(cohort.parent)
        cohort = quotas.cohorts[cohort.parent]


def _lends_too_much(where: str, quota: Quota | Cohort) -> Iterator[str]:
    for resource in RESOURCES:
        share = getattr(quota, resource)
        # What a cohort lends to the others comes from its members too, so only a tenant's figure can be judged by itself.
        if isinstance(quota, Quota) and isinstance(share, Share) and (share.lend or 0) > share.guaranteed:
            yield f"{where}.{resource}: lends {share.lend}, more than the guaranteed {share.guaranteed}; lower lend or raise guaranteed"
