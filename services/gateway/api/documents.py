"""The OpenAPI document: paths from the routes, schemas from the msgspec types that the routes really return."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from fastapi.openapi.utils import get_openapi

from services.gateway import model
from solyx import __version__
from solyx.events import NodesOrdered
from solyx.jobschema import EXAMPLE, JOB_SCHEMA

if TYPE_CHECKING:
    from fastapi import FastAPI

_REF = "#/components/schemas/{name}"
_PROBLEMS = {
    401: "No valid API key",
    403: "The key's role does not allow it",
    404: "No such thing, or not yours",
    409: "Contradicts the present state",
    413: "Body too large",
    415: "Content type not taken",
    422: "Some fields are wrong",
    429: "Too many requests; see Retry-After",
}
_SCHEMAS: tuple[type[Any], ...] = (
    model.SubmittedJob,
    model.SubmittedBatch,
    model.JobPage,
    model.JobDetail,
    model.CancelledJob,
    model.HistoryEntry,
    model.SiteList,
    model.QuotaList,
    model.RouteList,
    model.EnergyList,
    model.GridList,
    model.UsageReport,
    model.UsageRow,
    model.BudgetList,
    model.TenantBudgets,
    model.NewBudgets,
    model.NewNodeState,
    NodesOrdered,
    model.DeadLetterList,
    model.TenantList,
    model.Tenant,
    model.NewTenant,
    model.KeyList,
    model.NewKey,
    model.IssuedKey,
    model.Readiness,
    model.Health,
    model.Problem,
)

JOB_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": _REF.format(name="Job")}, "example": EXAMPLE},
            "application/x-ndjson": {
                "schema": {
                    "type": "string",
                    "description": "One Job as JSON on each line, at most 10,000. All are accepted or none.",
                }
            },
        },
    }
}


def body(kind: type[Any]) -> dict[str, Any]:
    """``openapi_extra`` of a route that reads a msgspec type."""
    schema = {"$ref": _REF.format(name=kind.__name__)}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def answers(
    status: int, kind: type[Any] | tuple[type[Any], ...] | None, *problems: int, stream: bool = False
) -> dict[int | str, dict[str, Any]]:
    """``responses`` of a route: one success, and the problems it may answer. 500 and 503 go without saying."""
    kinds: list[type[Any]] = list(kind) if isinstance(kind, tuple) else [kind] if kind is not None else []
    references: list[dict[str, Any]] = [{"$ref": _REF.format(name=one.__name__)} for one in kinds]
    success: dict[str, Any] = {"description": "Done" if status == 204 else "As asked"}
    if stream:
        name = kinds[0].__name__
        success["content"] = {"text/event-stream": {"schema": {"type": "string", "description": f"data: {name}"}}}
    elif references:
        schema = references[0] if len(references) == 1 else {"oneOf": references}
        success["content"] = {"application/json": {"schema": schema}}
    problem = {"application/problem+json": {"schema": {"$ref": _REF.format(name="Problem")}}}
    result: dict[int | str, dict[str, Any]] = {status: success}
    for code in problems:
        result[code] = {"description": _PROBLEMS[code], "content": problem}
    result[503] = {"description": "Not available at the moment; see Retry-After", "content": problem}
    return result


def document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI 3.1 document of the application. Needs neither broker nor database."""
    if app.openapi_schema is not None:
        return app.openapi_schema
    result = get_openapi(
        title="Solyx gateway",
        version=__version__,
        description="Submit jobs and see what was decided about them. Errors are RFC 9457 problem details.",
        routes=app.routes,
    )
    _, schemas = msgspec.json.schema_components(_SCHEMAS, ref_template=_REF)
    schemas["HistoryEntry"]["properties"]["figures"] = {"type": "object"}
    schemas["Job"] = JOB_SCHEMA
    components = result.setdefault("components", {})
    components["schemas"] = schemas
    components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer", "bearerFormat": "sk_…"}}
    for path, operations in result["paths"].items():
        for operation in operations.values():
            if path.startswith("/v1/"):
                operation["security"] = [{"key": []}]
            if "422" in operation["responses"] and "content" in operation["responses"]["422"]:
                operation["responses"]["422"]["content"] = {
                    "application/problem+json": {"schema": {"$ref": _REF.format(name="Problem")}}
                }
    app.openapi_schema = result
    return result
