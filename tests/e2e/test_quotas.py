"""Quotas as a tenant meets them: what exceeds one waits, and everybody concerned sees who holds and waits for what."""

import json
from collections.abc import Callable
from typing import Any

from solyx.client import Client
from solyx.client.model import HistoryEntry
from tests.e2e.conftest import QUOTA_TENANT, eventually

DEFERRED = "io.solyx.allocation.deferred.v1"
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

    def told_to_wait() -> list[HistoryEntry]:
        jobs = [client.job(job_id) for job_id in answer["ids"]]
        waiting = [job for job in jobs if job.state == "placed"]
        return [e for job in waiting for e in job.history if e.type == DEFERRED] if len(waiting) == 1 else []

    # who holds what is told in another topic than what became of each job, and may be read before it
    (told,) = eventually(told_to_wait, "two jobs that run and one that is told to wait")
    assert told.figures["detail"] == f"{QUOTA_TENANT} holds 2 of its 2 CPU here and asks for 1"
    for job_id in answer["ids"]:
        own.run("cancel", job_id)

    def freed() -> bool:
        (shown,) = own.json("quotas", "--site", site)
        return not any("held" in figure or "waiting" in figure for figure in shown["accounts"][0]["figures"])

    eventually(freed, "the end of all that is held")
