"""docs/api.md says what the code does."""

import json
import re
from pathlib import Path

import pytest

from services.gateway.api.application import openapi
from services.gateway.api.problem import KINDS
from solyx.jobfile import parse_job
from solyx.jobschema import EXAMPLE, JOB_SCHEMA

PAGE = (Path(__file__).parents[3] / "docs" / "api.md").read_text()
JOBS = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)]


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.get("name", "unnamed"))
def test_every_job_on_the_page_is_accepted(job: dict[str, object]) -> None:
    assert parse_job(job).spec.image


def test_the_first_job_on_the_page_is_the_documents_example() -> None:
    assert JOBS[0] == EXAMPLE


def test_every_path_field_and_problem_is_on_the_page() -> None:
    for path in openapi()["paths"]:
        assert f"`{path}`" in PAGE or path == "/openapi.json", path
    for field in JOB_SCHEMA["properties"]:
        assert f"`{field}`" in PAGE, field
    for slug, (status, _) in KINDS.items():
        assert f"| `/problems/{slug}` | {status} |" in PAGE
