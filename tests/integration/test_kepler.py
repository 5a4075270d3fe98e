"""Kepler's counters of pods become readings of runs: by the recording rules of the collector's README, in a real Prometheus.

The exporters here say what Kepler 0.11.4 and kube-state-metrics 2 say, in their names and labels, of three pods: one of a job, the one
of its next run under the same name, and one that is not ours.
"""

import asyncio
import re
import textwrap
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import yaml
from aiohttp import web

from services.collector.core.readings import reading_of
from solyx.events import MetricsScraped, WorkloadEnergyRead
from tests.integration.collector_running import Running, running_collector
from tests.integration.prometheus_binary import running_prometheus

README = Path(__file__).parents[2] / "services" / "collector" / "README.md"
CONFIG = """
global: {{scrape_interval: 500ms, evaluation_interval: 500ms}}
rule_files: [rules.yml]
scrape_configs:
  - job_name: kepler
    static_configs: [{{targets: ['{kepler}']}}]
  - job_name: kube-state-metrics
    static_configs: [{{targets: ['{states}', '{replica}']}}]
remote_write:
  - url: {collector}/api/v1/write
    queue_config: {{batch_send_deadline: 200ms, max_backoff: 1s}}
"""
JOB, OTHER = "01m7yvf6sq171scm68ntz8f5z8", "01m7yvf6sq171scm68ntz8f600"
FIRST, SECOND, FOREIGN = "9a3e7c10-0001", "9a3e7c10-0002", "9a3e7c10-0003"
NAMES = {FIRST: "train-0", SECOND: "train-0", FOREIGN: "coredns-x2x"}
JOULES = {"package": 10.0, "core": 7.0, "uncore": 2.0, "dram": 1.0, "psys": 20.0}  # a scrape's
GPU_JOULES = 100.0
pytestmark = pytest.mark.timeout(400)  # the first test may install Prometheus


class Node:
    """What Kepler counted on a node; the first pod ends while the second begins."""

    def __init__(self) -> None:
        self.scrapes = 0
        self.ends_after = 6

    def text(self) -> str:
        self.scrapes += 1
        lines = list(self._pod(FOREIGN, "running", self.scrapes))
        lines += (
            self._pod(FIRST, "running", min(self.scrapes, self.ends_after)) if self.scrapes <= self.ends_after else ()
        )
        if self.scrapes in {self.ends_after, self.ends_after + 1}:
            lines += self._pod(FIRST, "terminated", self.ends_after)
        if self.scrapes > self.ends_after:
            lines += self._pod(SECOND, "running", self.scrapes - self.ends_after)
        return "\n".join(lines) + "\n"

    def _pod(self, pod_id: str, state: str, times: int) -> list[str]:
        labels = f'pod_id="{pod_id}",pod_name="{NAMES[pod_id]}",pod_namespace="lab",state="{state}",node_name="gpu-1"'
        return [
            f'kepler_pod_cpu_joules_total{{{labels},zone="{zone}"}} {joules * times}' for zone, joules in JOULES.items()
        ] + [f"kepler_pod_gpu_joules_total{{{labels}}} {GPU_JOULES * times}"]


def states() -> str:
    """Labels of pods as kube-state-metrics shows them; it says of a pod that has ended what it said before."""
    pods = ((FIRST, JOB, 1), (SECOND, JOB, 2))
    ours = (
        f'kube_pod_labels{{namespace="lab",pod="{NAMES[uid]}",uid="{uid}",'
        f'label_solyx_io_job="{job}",label_solyx_io_revision="{revision}"}} 1'
        for uid, job, revision in pods
    )
    return "\n".join((*ours, f'kube_pod_labels{{namespace="lab",pod="{NAMES[FOREIGN]}",uid="{FOREIGN}"}} 1')) + "\n"


@asynccontextmanager
async def exporter(say) -> AsyncIterator[str]:
    """host:port of something to scrape."""

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(text=say())

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def documented_rules() -> str:
    """The rules as they stand in the README."""
    (block,) = re.findall(r"^    groups:\n(?:(?:    .*)?\n)+?(?=\S)", README.read_text(), re.MULTILINE)
    rules = textwrap.dedent(block)
    assert len(yaml.safe_load(rules)["groups"][0]["rules"]) == 3
    return rules


def counted(collector: Running, revision: int, part: str) -> list[float]:
    """What the meter of that run said, in order."""
    found: dict[float, float] = {}
    for event in collector.events(MetricsScraped):
        for series, value, at in zip(event.series, event.values, event.times_s, strict=True):
            if series.startswith("solyx_workload_"):
                reading = reading_of((series, value, at))
                assert reading is not None
                assert (reading.site, reading.job_id, reading.pod) == ("frankfurt", JOB, "train-0")
                if (reading.revision, reading.part) == (revision, part):
                    found[at] = value
    return [value for _, value in sorted(found.items())]


async def test_the_documented_rules_make_readings_of_the_right_run_from_keplers_counters(tmp_path: Path) -> None:
    node = Node()
    (tmp_path / "rules.yml").write_text(documented_rules())
    async with AsyncExitStack() as stack:
        addresses = [await stack.enter_async_context(exporter(say)) for say in (node.text, states, states)]
        collector = await stack.enter_async_context(running_collector(tmp_path, {}))
        kepler, first, replica = addresses
        config = CONFIG.format(kepler=kepler, states=first, replica=replica, collector=collector.url)
        server = running_prometheus(tmp_path, config)
        await asyncio.to_thread(server.__enter__)
        try:
            await collector.until(lambda: len(counted(collector, 2, "cpu")) >= 3, "meters of the second run")
            await collector.until(lambda: len(collector.events(WorkloadEnergyRead)) >= 4, "readings of both runs")
        finally:
            await asyncio.to_thread(server.__exit__, None, None, None)
        read = {(one.revision, one.part): one for one in collector.events(WorkloadEnergyRead)}
    assert set(read) == {(1, "cpu"), (1, "gpu"), (2, "cpu"), (2, "gpu")}
    assert all((one.site, one.job_id, one.pod) == ("frankfurt", JOB, "train-0") for one in read.values())
    for revision in (1, 2):
        # Zones that hold one another are not counted twice, nor a pod that is running and terminated at once.
        assert all(value % 11 == 0 for value in counted(collector, revision, "cpu"))
        assert all(value % GPU_JOULES == 0 for value in counted(collector, revision, "gpu"))
    for part, once in (("cpu", 11.0), ("gpu", GPU_JOULES)):
        first_run, second_run = counted(collector, 1, part), counted(collector, 2, part)
        assert first_run == sorted(first_run)
        assert max(first_run) == node.ends_after * once
        assert min(second_run) < max(first_run)  # what the pod of the same name had counted is not its own
