"""What is measured: every service on a generated scenario with sites as large as the load needs, or a few on a broker of their own."""

from __future__ import annotations

import contextlib
import re
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import msgspec

from devstack import child
from devstack.broker import KafkaBroker
from devstack.errors import DevstackError
from devstack.options import SERVICES
from devstack.service import ServiceProcess
from devstack.stack import Plan, Stack
from solyx import scenario
from solyx.bus.kafka import KafkaBus
from solyx.clock import ReplayTime, wall_s, write_replay_time
from solyx.events import encode
from solyx.scenario import generate
from solyx.topics import TOPICS

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    from solyx.bus.port import Received
    from solyx.events import SiteObserved

SITES = 3
CORES_PER_NODE = 32
MAX_BATCH = 10_000  # jobs in one request
READY_WITHIN_S = 60.0
STOPPED_WITHIN_S = 10.0


class Installation:
    """Something to submit to, and to read the topics of."""

    def __init__(self, stack: Stack, startup_s: float, state: Path) -> None:
        self.stack, self.startup_s, self.state = stack, startup_s, state
        self.bus = KafkaBus(stack.kafka, client_name="benchmark")
        self._http = httpx.Client(
            base_url=stack.api, headers={"Authorization": f"Bearer {stack.admin_key()}"}, timeout=60.0
        )

    def submit(self, jobs: Sequence[Mapping[str, object]], *, key: str | None = None) -> list[str]:
        """POST one NDJSON batch; tried again under its idempotency key until it is accepted."""
        headers = {"Content-Type": "application/x-ndjson", "X-Solyx-Tenant": "tenant-0"}
        if key is not None:
            headers["Idempotency-Key"] = key
        content = b"\n".join(msgspec.json.encode(job) for job in jobs)
        deadline = time.monotonic() + 120
        while True:
            try:
                response = self._http.post("/v1/jobs", content=content, headers=headers)
            except httpx.TransportError:
                if key is None or time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
                continue
            if response.status_code in (429, 500, 502, 503) and key is not None and time.monotonic() < deadline:
                time.sleep(float(response.headers.get("Retry-After", "0.2")))
                continue
            response.raise_for_status()
            return msgspec.json.decode(response.content)["ids"]

    def submit_one(self, job: Mapping[str, object]) -> str:
        """POST one job."""
        response = self._http.post("/v1/jobs", json=job, headers={"X-Solyx-Tenant": "tenant-0"})
        response.raise_for_status()
        return response.json()["id"]

    def read_all(self, topics: Sequence[str]) -> list[Received]:
        """Everything in the topics up to now."""
        tail = self.bus.tail(topics)
        records: list[Received] = []
        try:
            while not tail.caught_up():
                records.extend(tail.read(max_records=10_000, timeout_s=0.5))
        finally:
            tail.close()
        return records

    def close(self) -> None:
        """Close the connections; the stack is stopped by ``installation``."""
        self._http.close()
        self.bus.close()


@contextlib.contextmanager
def installation(
    *,
    nodes_per_site: int,
    speed: float,
    tell: Callable[[str], None],
    environment: Mapping[str, str] | None = None,
    services: Sequence[str] = SERVICES,
    drains: bool = False,
    edit: Callable[[str], str] = str,
) -> Generator[Installation]:
    """Start everything in a directory of its own, set the clock going, and leave nothing behind.

    ``drains``: from the second hour on each site empties one machine after the other, for an hour each. ``edit``: what else is changed
    in the text of the scenario.
    """
    with tempfile.TemporaryDirectory(prefix="solyx-benchmark-") as directory:
        state = Path(directory)
        world = _scenario(state / "scenario", nodes_per_site, drains=drains)
        document = world / "scenario.toml"
        document.write_text(edit(document.read_text()))
        start = scenario.load(world).start
        clock_file = state / "clock.json"
        (state / "logs").mkdir()
        (state / "services").mkdir()
        shared = {
            "SOLYX_STATE_DIR": str(state / "services"),
            "SOLYX_SCENARIO": str(world),
            "SOLYX_CLOCK_FILE": str(clock_file),
            "SOLYX_CLOCK_START": start.isoformat(),
            "SOLYX_CLOCK_SPEED": str(speed),
        }
        plan = Plan(
            processes=[(service, 0) for service in services],
            environment=shared | dict(environment or {}),
            directory=state,
            logs=state / "logs",
            api_port=0,
            tenants=1,
            home_sites=[scenario.load(world).sites[0].name],
        )
        stack = Stack(plan, tell=tell)
        try:
            startup_s = stack.start()
            write_replay_time(clock_file, ReplayTime(wall_s(), start, speed))
            made = Installation(stack, startup_s, state)
            try:
                yield made
            finally:
                made.close()
        finally:
            stack.stop()


@contextlib.contextmanager
def services_alone(
    services: Sequence[str], sites: Sequence[SiteObserved], environment: Mapping[str, str] | None = None
) -> Generator[tuple[KafkaBus, list[ServiceProcess]]]:
    """A broker, one process of each of these services, and sites that are already known to them; nothing is left behind."""
    with (
        tempfile.TemporaryDirectory(prefix="solyx-benchmark-") as name,
        KafkaBroker(f"{name}/kafka") as broker,
        KafkaBus(broker.bootstrap_servers, client_name="benchmark") as bus,
    ):
        bus.ensure_topics(TOPICS)
        now = datetime.fromtimestamp(wall_s(), UTC)
        publisher = bus.publisher(name="sites")
        publisher.publish([encode(site, source="benchmark", time=now) for site in sites])
        publisher.close()
        shared = {
            "SOLYX_KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
            "SOLYX_STATE_DIR": f"{name}/state",
            "SOLYX_LOG_LEVEL": "warning",
        }
        processes = [
            ServiceProcess(
                service, 0, port=child.free_port(), environment=shared | dict(environment or {}), logs=Path(name)
            )
            for service in services
        ]
        try:
            for process in processes:
                process.start()
            _wait_ready(processes)
            yield bus, processes
        finally:
            for process in processes:
                process.ask_to_stop()
            for process in processes:
                process.ensure_stopped(by=time.monotonic() + STOPPED_WITHIN_S)


def _wait_ready(processes: Sequence[ServiceProcess]) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while not all(process.ready for process in processes):
        for process in processes:
            process.tend()
        if time.monotonic() > deadline:
            late = next(process for process in processes if not process.ready)
            raise DevstackError(f"{late.name} is not ready within {READY_WITHIN_S:.0f} s", f"read {late.log_file}")
        time.sleep(0.05)


def _scenario(directory: Path, nodes_per_site: int, *, drains: bool) -> Path:
    """The generated scenario with sites of the wanted size, without planned outages."""
    generate(directory, sites=SITES, jobs=1)
    file = directory / "scenario.toml"
    text = re.sub(r"nodes = \{ count = \d+", f"nodes = {{ count = {nodes_per_site}", file.read_text())
    text = re.sub(r"\[\[sites\.outages\]\][^\n]*\n(?:\w+ = [^\n]*\n)+", "", text)
    text = re.sub(r"\noutages = [^\n]*", "", text)
    if drains:
        text = re.sub(
            r'(\[\[sites\]\]\nname = "(\w+)"\n(?:\w+ = [^\n]*\n)+)',
            lambda site: site[1] + "".join(_drain(site[2], index) for index in range(nodes_per_site)),
            text,
        )
    file.write_text(text)
    return directory


def _drain(site: str, index: int) -> str:
    times = f"from_h = {2 + index}\nuntil_h = {3 + index}\n"
    return f'\n[[sites.maintenance]]\nnode = "{site}-{index:03d}"\naction = "drain"\n{times}'


def job(*, seconds: float, cpu: float = 1, max_delay: float = 0.0) -> dict[str, object]:
    """A job of one pod that runs for scenario ``seconds`` and starts at once unless it may be delayed."""
    return {
        "image": "benchmark",
        "resources": {"cpu": cpu, "memory": "1Gi"},
        "duration_estimate": seconds,
        "max_delay": max_delay,
    }
