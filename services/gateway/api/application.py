"""The FastAPI application: routers, error documents, the guard and the OpenAPI document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import FastAPI

from services.gateway.api import admin, federation, jobs, operations, problem, stream, usage
from services.gateway.api.documents import document
from services.gateway.api.guard import Guard
from services.gateway.settings import GatewaySettings

if TYPE_CHECKING:
    from services.gateway.api.parts import Parts


def make_application(parts: Parts | None) -> FastAPI:
    """Without parts the application answers nothing but its OpenAPI document."""
    app = FastAPI(title="Solyx gateway", docs_url=None, redoc_url=None)
    settings = parts.settings if parts is not None else GatewaySettings()
    app.add_middleware(Guard, max_body_bytes=settings.max_body_bytes)
    for module in (jobs, federation, stream, usage, admin, operations):
        app.include_router(module.router)
    problem.install(app)
    app.openapi = lambda: document(app)
    app.state.parts = parts
    return app


def openapi() -> dict[str, Any]:
    """The OpenAPI document of the gateway; what ``schemas/openapi.yaml`` is generated from."""
    return document(make_application(None))
