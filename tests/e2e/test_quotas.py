"""Quotas as a tenant meets them: what exceeds one waits, and everybody concerned sees who holds and waits for what."""

import json
from collections.abc import Callable
from typing import Any

from solyx.client import Client
from tests.e2e.conftest import QUOTA_TENANT, eventually

JOB = {
    "image": "registry.example/train:1",
    "resources": {"cpu": 1, "memory": "1Gi"},
    "duration_estimate": "6h",
    "max_delay": 0,
}


def test_who_holds_and_waits_for_a_quota_is_seen_by_its_tenant(
    client: Client, tenant_key: Callable[[str], str], command_line: Callable[[str], Any]
) -> None:
    site = client.sites()[0].site
    own = command_line(tenant_key(QUOTA_TENANT))
    job = JOB | {"allowed_sites": [site]}
    (answer,) = own.json("submit", "-", text="---\n".join(json.dumps(job) + "\n" for _ in range(3)))

    def settled() -> Any:
        (shown,) = own.json("quotas", "--site", site)
        (account,) = shown["accounts"]
        (figure,) = (one for one in account["figures"] if one["resource"] == "cpu_milli")
        return account if (figure.get("held"), figure.get("waiting")) == (2000, 1000) else None

    account = eventually(settled, "two jobs that hold the quota and one that waits")
    assert (account["name"], account["waiting_jobs"]) == (QUOTA_TENANT, 1)
    assert "cores" in own.run("quotas").stdout
    waiting = [job_id for job_id in answer["ids"] if client.job(job_id).state == "placed"]
    assert len(waiting) == 1
    (told,) = (entry for entry in client.job(waiting[0]).history if entry.type == "io.solyx.allocation.deferred.v1")
    assert told.figures["detail"] == f"{QUOTA_TENANT} holds 2 of its 2 CPU here and asks for 1"
    for job_id in answer["ids"]:
        own.run("cancel", job_id)

    def freed() -> bool:
        (shown,) = own.json("quotas", "--site", site)
        return not any("held" in figure or "waiting" in figure for figure in shown["accounts"][0]["figures"])

    eventually(freed, "the end of all that is held")
