"""Taking a node out of service as an operator does it: what runs there goes on elsewhere, nothing new comes, then it is back."""

import json
from typing import Any

from solyx.client import Client
from tests.e2e.conftest import eventually

JOB = {
    "image": "registry.example/train:1",
    "resources": {"cpu": 1, "memory": "1Gi"},
    "duration_estimate": "12h",
    "max_delay": 0,
    "suspendable": True,
    "grace_period": "1m",
}


def test_a_node_is_drained_and_put_back_from_the_command_line(solyx: Any, client: Client) -> None:
    site = client.sites()[0].site
    (answer,) = solyx.json("submit", "-", text=json.dumps(JOB | {"allowed_sites": [site]}))

    job_id = answer["ids"][0]

    def nodes_when_running(after: int) -> list[str] | None:
        job = client.job(job_id)
        allocated = [entry for entry in job.history if entry.type == "io.solyx.job.allocated.v1"]
        if job.state != "running" or len(allocated) <= after:
            return None
        return [pod["node"] for pod in allocated[-1].figures["pods"]]

    (node,) = eventually(lambda: nodes_when_running(0), "the job's first run")
    try:
        assert solyx.run("drain", site, node, "--note", "new disk").stdout == f"{site}/{node}: draining\n"
        (elsewhere,) = eventually(lambda: nodes_when_running(1), "its second run")
        assert elsewhere != node
        released = [e for e in client.job(job_id).history if e.type == "io.solyx.allocation.released.v1"]
        assert [entry.reason for entry in released] == ["drained"]
        shown = {one["name"]: one for one in solyx.json("nodes", site)}
        assert (shown[node]["ready"], shown[node]["draining"], shown[node]["order"]["note"]) == (
            False,
            True,
            "new disk",
        )
        assert shown[elsewhere]["order"] is None
    finally:
        assert solyx.run("uncordon", site, node).returncode == 0
        solyx.run("cancel", job_id)
    assert client.node_orders() == []
