"""The OpenAPI document says what the routes do."""

import json

from services.gateway.api.application import openapi

DOCUMENT = openapi()


def test_every_reference_leads_somewhere() -> None:
    text = json.dumps(DOCUMENT)
    references = {part.split('"')[0] for part in text.split('"#/components/schemas/')[1:]}
    assert references <= set(DOCUMENT["components"]["schemas"])


def test_the_routes_of_the_contract_are_there() -> None:
    routes = {(method.upper(), path) for path, methods in DOCUMENT["paths"].items() for method in methods}
    assert {
        ("POST", "/v1/jobs"),
        ("GET", "/v1/jobs"),
        ("GET", "/v1/jobs/{job_id}"),
        ("DELETE", "/v1/jobs/{job_id}"),
        ("GET", "/v1/sites"),
        ("GET", "/v1/routes"),
        ("GET", "/v1/energy"),
        ("GET", "/v1/grid"),
        ("GET", "/v1/events"),
        ("GET", "/v1/deadletters"),
        ("GET", "/v1/tenants"),
        ("POST", "/v1/tenants"),
        ("POST", "/v1/tenants/{tenant}/keys"),
        ("DELETE", "/v1/tenants/{tenant}/keys/{key_id}"),
        ("GET", "/healthz"),
        ("GET", "/readyz"),
        ("GET", "/metrics"),
    } <= routes


def test_every_v1_route_needs_a_key_and_answers_problems_as_such() -> None:
    for path, methods in DOCUMENT["paths"].items():
        for operation in methods.values():
            if not path.startswith("/v1/"):
                continue
            assert operation["security"] == [{"key": []}]
            assert "401" in operation["responses"]
            for status, response in operation["responses"].items():
                if int(status) >= 400:
                    assert list(response["content"]) == ["application/problem+json"], (path, status)
