"""What each tenant may hold at a site, as operators write it: a tree of cohorts with tenants as its leaves.

The words are those of Kueue's cluster queues and cohorts (kueue.sigs.k8s.io/docs/concepts/cohort): what is guaranteed to one
and unused may be lent to the others of its cohort.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

import msgspec

from solyx.events.event import Model, NonNegativeInt, Positive
from solyx.events.job import DeviceKind

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

KINDS: Final[tuple[str, ...]] = get_args(DeviceKind)


class Quota(Model, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is guaranteed to one tenant; one that is in no cohort holds at most that."""

    weight: Positive = 1.0  # of its dominant share: with twice the weight it gets twice as much
    cpu_milli: Figure = None
    memory_bytes: Figure = None
    gpu_milli: Figure = None  # accelerators of any kind
    devices_milli: dict[str, Figure] = msgspec.field(
        default_factory=dict
    )  # by kind, "gpu", or kind and model, "gpu/A100"


class Cohort(Model, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Tenants, and other cohorts, that lend each other what they do not use. Its own figures are shared by all in it."""

    parent: str = ""
    reclaim: Reclaim = "any"  # whose jobs a tenant may have stopped to get its guaranteed share back
    weight: Positive | None = (
        None  # of its share among its siblings, 1 if others have one; no cohort: shares are of tenants alone
    )
    cpu_milli: Figure = None
    memory_bytes: Figure = None
    gpu_milli: Figure = None
    devices_milli: dict[str, Figure] = msgspec.field(default_factory=dict)
    tenants: dict[str, Quota] = msgspec.field(default_factory=dict)


RESOURCES: Final = ("cpu_milli", "memory_bytes", "gpu_milli")
"""What every site counts. What its quotas name in ``devices_milli`` is counted beside it, under its name there."""


def figures(quota: Quota | Cohort) -> dict[str, Figure]:
    """Every resource that it may name → its figure."""
    return {
        "cpu_milli": quota.cpu_milli,
        "memory_bytes": quota.memory_bytes,
        "gpu_milli": quota.gpu_milli,
        **quota.devices_milli,
    }


def device_of(resource: str) -> tuple[str, str]:
    """The kind and the model, empty for any, of a resource that ``devices_milli`` names."""
    kind, _, model = resource.partition("/")
    return kind, model


class SiteQuotas(Model, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The quotas of a site."""

    cohorts: dict[str, Cohort] = msgspec.field(default_factory=dict)
    tenants: dict[str, Quota] = msgspec.field(default_factory=dict)  # in no cohort: limits that nobody shares

    def resources(self) -> tuple[str, ...]:
        """All that is counted, in the order of every vector of amounts."""
        named = {name for cohort in self.cohorts.values() for name in cohort.devices_milli}
        for quotas in (self.tenants, *(cohort.tenants for cohort in self.cohorts.values())):
            named.update(name for quota in quotas.values() for name in quota.devices_milli)
        return (*RESOURCES, *sorted(named))


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
        yield from _misnamed(f"cohorts.{name}", cohort)
        for tenant, quota in cohort.tenants.items():
            if tenant in homes:
                yield f"cohorts.{name}.tenants.{tenant}: is in cohort {homes[tenant]} already; take it out of one of the two"
            homes[tenant] = name
            yield from _misnamed(f"cohorts.{name}.tenants.{tenant}", quota)
            yield from _lends_too_much(f"cohorts.{name}.tenants.{tenant}", quota)
    for tenant, quota in quotas.tenants.items():
        if tenant in homes:
            yield f"tenants.{tenant}: is in cohort {homes[tenant]} already; take it out of one of the two"
        yield from _misnamed(f"tenants.{tenant}", quota)
        for resource, share in figures(quota).items():
            if isinstance(share, Share) and (share.borrow or share.lend):
                field = _field(resource)
                yield f"tenants.{tenant}.{field}: borrows or lends, but is in no cohort; write it into cohorts.NAME.tenants"


def _misnamed(where: str, quota: Quota | Cohort) -> Iterator[str]:
    kinds = ", ".join(KINDS)
    for resource in quota.devices_milli:
        kind, model = device_of(resource)
        if kind not in KINDS:
            yield f"{where}.{_field(resource)}: there is no kind {kind!r}; write one of {kinds}, alone or with a model: gpu/A100"
        elif not model and "/" in resource:
            yield f"{where}.{_field(resource)}: names no model; write {kind}/MODEL, or {kind} for all models"
        elif model != model.strip():
            yield f"{where}.{_field(resource)}: has spaces around its model; write {kind}/{model.strip()}"


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


def _lends_too_much(where: str, quota: Quota) -> Iterator[str]:
    # What a cohort lends to the others comes from its members too, so only a tenant's figure can be judged by itself.
    for resource, share in figures(quota).items():
        if isinstance(share, Share) and (share.lend or 0) > share.guaranteed:
            field = _field(resource)
            yield f"{where}.{field}: lends {share.lend}, more than the guaranteed {share.guaranteed}; lower lend or raise guaranteed"


def _field(resource: str) -> str:
    return resource if resource in RESOURCES else f"devices_milli.{resource}"
