"""For the platform: is it alive, is it ready, how is it doing."""

from __future__ import annotations

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from services.gateway.api.documents import answers
from services.gateway.api.parts import PartsDep, json
from services.gateway.model import Health, Readiness

router = APIRouter(tags=["operations"])


@router.get("/healthz", responses=answers(200, Health))
async def healthz() -> Response:
    """The process answers. It says nothing about broker or database."""
    return json(Health())


_NOT_READY = {503: {**answers(200, Readiness)[200], "description": "Not ready; the fields say why"}}


@router.get("/readyz", responses=answers(200, Readiness) | _NOT_READY)
async def readyz(parts: PartsDep) -> Response:
    """Whether jobs are taken, published and shown; 503 when not, and which part is why."""
    readiness = await parts.watch.readiness()
    return json(readiness, 200 if readiness.ready else 503)


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(parts: PartsDep) -> Response:
    """In Prometheus' text format."""
    await parts.watch.look_at_database()
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
