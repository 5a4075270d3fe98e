"""Sites, quotas, routes, energy: the latest state of the federation; but for quotas the same for every tenant."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from services.gateway.api.documents import answers, body
from services.gateway.api.parameters import no_nul, tenant_seen
from services.gateway.api.parts import Admin, PartsDep, Viewer, json, read
from services.gateway.api.problem import ApiProblem, invalid_field
from services.gateway.model import EnergyList, GridList, NewNodeState, QuotaList, RouteList, SiteList
from solyx.events import NodesOrdered

router = APIRouter(tags=["federation"])

MAX_NOTE = 500


@router.get("/v1/sites", responses=answers(200, SiteList, 401, 422, 429))
async def list_sites(parts: PartsDep, _principal: Viewer) -> Response:
    """Inventory and power model of each site."""
    sites, orders = await parts.readmodel.sites()
    return json(SiteList(sites=sites, orders=orders))


@router.put(
    "/v1/sites/{site}/nodes/{node}",
    responses=answers(200, NodesOrdered, 401, 403, 404, 422, 429),
    openapi_extra=body(NewNodeState),
)
async def order_node(request: Request, parts: PartsDep, _principal: Admin, site: str, node: str) -> Response:
    """Cordon a node (nothing new starts there), drain it (what runs there leaves, too) or open it again.

    It holds from the next decisions on, beside what the inventory says. The answer is all orders of the site.
    """
    no_nul(site=site, node=node)
    new = read(await request.body(), NewNodeState)
    if len(new.note) > MAX_NOTE or "\0" in new.note:
        raise invalid_field("note", f"is longer than {MAX_NOTE} characters or holds NUL", "shorten it")
    ordered = await parts.nodes.order(site, node, new, parts.clock.now())
    if ordered is None:
        raise ApiProblem("not-found", f"there is no node {node!r} at a site {site!r}")
    return json(ordered)


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
    """Path and backup of each pair of sites, and whether the network has applied it; how far places are from each site, as measured."""
    latencies = await parts.readmodel.latencies(parts.clock.now())
    return json(RouteList(routes=await parts.readmodel.routes(), latencies=latencies))


@router.get("/v1/energy", responses=answers(200, EnergyList, 401, 422, 429))
async def list_energy(parts: PartsDep, _principal: Viewer) -> Response:
    """Price, carbon and renewable share of each site: now, published, forecast."""
    return json(await parts.readmodel.energy(parts.clock.now()))


@router.get("/v1/grid", responses=answers(200, GridList, 401, 422, 429))
async def list_grid(parts: PartsDep, _principal: Viewer) -> Response:
    """Demand-response events of the last week and to come, and what each site delivers."""
    return json(await parts.readmodel.grid(parts.clock.now()))
