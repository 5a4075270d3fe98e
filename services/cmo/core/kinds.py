"""What depends only on what a job asks for: which sites may take it, at which power, for which movement of its data."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from services.cmo.core.ledger import Demand
from services.cmo.core.wan import no_way
from services.cmo.model import Refuse, Wait
from solyx.energy import cores_of, gpus_of, movement_eur

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from services.cmo.core.sites import Site, Sites
    from solyx.events import DataSet, JobSpec

    Floats = NDArray[np.float64]

_KEPT = 4096
_GIB = 1024**3


@dataclass(frozen=True, slots=True)
class Kind:
    """What all jobs share that ask for the same, with the same data and constraints."""

    obstacle: Refuse | Wait | None  # no site may take them now
    demand: Demand
    candidates: NDArray[np.bool_]  # by site
    only: str  # in words, why one site is left; empty when there are more
    power_mw: Floats  # by site
    movement_eur: Floats  # by site
    leaving_eur: Floats  # by site: of moving its data away from there
    bias_eur: Floats  # by site, as a column: the movement, infinite where they may not run
    data: DataSet | None  # as it lies now
    transfer_s: Floats | None  # by site: what moving it there takes; None: nothing is known to limit it
    cut_off: str  # in words, which sites no path of the data leads to


class Kinds:
    """Kinds as they are asked for, forgotten when a site changes."""

    def __init__(self, sites: Sites) -> None:
        self._sites = sites
        self._kinds: dict[object, Kind] = {}
        self._kinds_of = -1  # count of the changes of sites

    def of(self, spec: JobSpec, ran_at: str | None) -> Kind:
        """The kind of a job whose data lies where it ran last, or else where its owner put it."""
        data = spec.data
        if data is not None and ran_at is not None:
            data = msgspec.structs.replace(data, site=ran_at)
        key = (
            spec.resources,
            spec.parallelism,
            spec.allowed_sites,
            spec.max_latency,
            data and (data.site, data.size_bytes),
        )
        if self._sites.changes != self._kinds_of or len(self._kinds) >= _KEPT:
            self._kinds.clear()
            self._kinds_of = self._sites.changes
        kind = self._kinds.get(key)
        if kind is None:
            kind = self._kinds[key] = self._make(spec, data)
        return kind

    def _make(self, spec: JobSpec, data: DataSet | None) -> Kind:
        sites, demand = self._sites.all, Demand.of(spec)
        found = self._sites.candidates(spec)
        candidates = np.zeros(len(sites), np.bool_)
        obstacle = found if isinstance(found, Refuse | Wait) else None
        only = cut_off = ""
        transfer = self._transfer_s(data)
        if not isinstance(found, Refuse | Wait):
            only = _only(spec, found[0].name) if len(found) == 1 else ""
            if data is not None and transfer is not None:
                cut_off = "; ".join(no_way(data, site.name) for site in found if transfer[site.index] == inf)
                found = [site for site in found if transfer[site.index] < inf]
            candidates[[site.index for site in found]] = True
            if not found:
                obstacle = Wait(message=f"waits for the network: {cut_off}")
        cores, gpus = cores_of(spec), gpus_of(spec)
        power = np.array([site.power.dynamic_w(cores=cores, gpus=gpus) for site in sites]) / 1e6
        movement, leaving = np.zeros(len(sites)), np.zeros(len(sites))
        if data is not None:
            movement = np.array([self._movement_eur(data, site) for site in sites])
            leaving = np.array([data.size_bytes / _GIB * site.observed.egress_eur_per_gib for site in sites])
        bias = np.where(candidates, movement, inf)[:, None]
        return Kind(obstacle, demand, candidates, only, power, movement, leaving, bias, data, transfer, cut_off)

    def _transfer_s(self, data: DataSet | None) -> Floats | None:
        if data is None:
            return None
        transfer = np.array([self._sites.wan.transfer_s(data, site.name) for site in self._sites.all])
        return transfer if transfer.any() else None

    def _movement_eur(self, data: DataSet, to: Site) -> float:
        """Egress is paid where the data leaves; if nobody knows that place, at the price of the place it goes to."""
        source = self._sites.by_name.get(data.site, to)
        return movement_eur(data, to_site=to.name, egress_eur_per_gib=source.observed.egress_eur_per_gib)


def _only(spec: JobSpec, name: str) -> str:
    if len(spec.allowed_sites) == 1:
        return f"allowed_sites: only {name}"
    if spec.max_latency is not None:
        return f"latency or size: only {name} is within {spec.max_latency.max_ms:g} ms of {spec.max_latency.to} and can hold it"
    return f"size: only {name} can hold it"
