"""A replay in which a link grows slow: a job that must be near a place moves, and the command line says why."""

import re
from collections.abc import Iterator

import pytest

from benchmarks.installation import Installation, installation
from solyx.client import Client, Job
from tests.e2e.conftest import CommandLine, eventually

JOB = {
    "image": "registry.example/serve:1",
    "resources": {"cpu": 1, "memory": "1Gi"},
    "duration_estimate": "6h",
    "max_delay": 0,
    "suspendable": True,
    "max_latency": {"to": "core-1", "ms": 13},
}
SLOW = """slowdowns = [
  { link = "north>core-1", latency_ms = 40, from_h = 0, until_h = 1.5 },
  { link = "east>core-1", latency_ms = 40, from_h = 1.6 },
]"""


def network(text: str) -> str:
    """East is near `core-1` for an hour and a half, which leaves a busy machine time for the first run; north from then on.

    Nobody is by way of the other core.
    """
    text = text.replace('name = "north"', 'name = "north"\nlatency_ms = { core-1 = 1 }')
    for site, latency_ms in (("north", 5.5), ("east", 4.6), ("south", 30.0)):
        text = re.sub(rf'(a = "{site}", b = "core-1", [^}}]*latency_ms = )[\d.]+', rf"\g<1>{latency_ms}", text)
    text = re.sub(r'(a = "core-1", b = "core-2", [^}]*latency_ms = )[\d.]+', r"\g<1>20.0", text)
    return re.sub(r"(\[network\]\n)", rf"\g<1>{SLOW}\n", text)


@pytest.fixture(scope="module")
def replay() -> Iterator[Installation]:
    with installation(nodes_per_site=2, speed=60.0, tell=print, edit=network) as running:
        yield running


@pytest.mark.timeout(500)
def test_a_job_moves_when_the_link_of_its_site_grows_slow(replay: Installation, tmp_path) -> None:
    key = replay.stack.admin_key()
    with Client(replay.stack.api, key=key) as client:
        eventually(lambda: len([site for site in client.latencies() if "core-1" in site.places]) == 3, "measurements")
        job_id = client.submit(JOB).id

        def at(site: str) -> Job | None:
            job = client.job(job_id)
            return job if (job.state, job.site) == ("running", site) else None

        eventually(lambda: at("east"), "its run near core-1")
        moved = eventually(lambda: at("north"), "its move", within_s=260.0)
        client.cancel(job_id)
    (withdrawn,) = [entry for entry in moved.history if entry.type == "io.solyx.placement.withdrawn.v1"]
    assert withdrawn.reason == "latency"
    placed = [entry for entry in moved.history if entry.type == "io.solyx.job.placed.v1"]
    assert [(entry.site, entry.reason) for entry in placed[1:]] == [("north", "latency")]
    own = CommandLine(replay, key, tmp_path)
    shown = " ".join(own.run("job", job_id, "--json").stdout.split())
    assert re.search(r"east is \d+(\.\d)? ms from core-1 \(measured\); the job asks for at most 13 ms", shown)
    assert "core-1" in own.run("latencies").stdout
