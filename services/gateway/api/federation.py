"""Sites, quotas, routes, energy: the latest state of the federation; but for quotas the same for every tenant."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from services.gateway.api.documents import answers
from services.gateway.api.parameters import no_nul, tenant_seen
from services.gateway.api.parts import PartsDep, Viewer, json
from services.gateway.model import EnergyList, GridList, QuotaList, RouteList, SiteList

router = APIRouter(tags=["federation"])


@router.get("/v1/sites", responses=answers(200, SiteList, 401, 422, 429))
async def list_sites(parts: PartsDep, _principal: Viewer) -> Response:
    """Inventory and power model of each site."""
    return json(SiteList(sites=await parts.readmodel.sites()))


@router.get("/v1/quotas", responses=answers(200, QuotaList, 401, 403, 422, 429))
async def list_quotas(
    parts: PartsDep,
    principal: Viewer,
    site: Annotated[str | None, Query(max_length=253)] = None,
    tenant: Annotated[str | None, Query(max_length=253, description="For administrators")] = None,
) -> Response:
    """What each cohort and tenant is guaranteed, holds, borrows, lends and waits for at each site that has quotas."""
    no_nul(site=site, tenant=tenant)
    shown = tenant_seen(principal, tenant, "quotas")
    return json(QuotaList(sites=await parts.readmodel.quotas(site, shown)))


@router.get("/v1/routes", responses=answers(200, RouteList, 401, 422, 429))
async def list_routes(parts: PartsDep, _principal: Viewer) -> Response:
    """Path and backup of each pair of sites, and whether the network has applied it."""
    return json(RouteList(routes=await parts.readmodel.routes()))


@router.get("/v1/energy", responses=answers(200, EnergyList, 401, 422, 429))
async def list_energy(parts: PartsDep, _principal: Viewer) -> Response:
    """Price, carbon and renewable share of each site: now, published, forecast."""
    return json(await parts.readmodel.energy(parts.clock.now()))


@router.get("/v1/grid", responses=answers(200, GridList, 401, 422, 429))
async def list_grid(parts: PartsDep, _principal: Viewer) -> Response:
    """Demand-response events of the last week and to come, and what each site delivers."""
    return json(await parts.readmodel.grid(parts.clock.now()))
