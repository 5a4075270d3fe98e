"""The whole line on a real broker: a utility's OpenADR event over HTTP, collector, CMO, DRM and actuator, and the report back.

The VTN is the project's own small one; `test_collector_openadr.py` runs the same client against OpenLEADR's. A window of half a minute.
"""

import asyncio
import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from devstack.broker import KafkaBroker
from services.actuator.service import role as actuator_role
from services.actuator.settings import ActuatorSettings
from services.actuator.simulated.course import Chance
from services.actuator.simulated.targets import SimulatedTargets
from services.cmo.service import role as cmo_role
from services.cmo.settings import CmoSettings
from services.drm.service import role as drm_role
from services.drm.settings import DrmSettings
from solyx.bus.kafka import KafkaBus
from solyx.bus.runner import ServiceRunner
from solyx.events import (
    SIMULATED_CHECKPOINT_LABEL,
    SIMULATED_DURATION_LABEL,
    DemandResponseReported,
    EnergySeriesPublished,
    Event,
    JobPlaced,
    JobSpec,
    JobSubmitted,
    Node,
    PowerModel,
    Resources,
    SiteObserved,
    WorkloadReported,
    decode,
    encode,
)
from solyx.settings import Settings
from solyx.topics import TOPICS
from tests.integration.collector_running import running_collector
from tests.vtn import PROGRAM, VEN_ID, VEN_SECRET, small_vtn

pytestmark = pytest.mark.timeout(300)
WINDOW = timedelta(seconds=30)
NOTICE = timedelta(seconds=20)
"""5 s of grace, and what poll, decisions and commands take on a busy machine: what is to be off when the window begins."""
SOON_S = 90.0
CAP_W = 300.0  # of the 400 W that the site takes: a quarter is asked for


def world(now: datetime) -> list[Event]:
    nodes = tuple(Node(name=f"n{n}", cpu_milli=8000, memory_bytes=1 << 36) for n in range(2))
    power = PowerModel(idle_w_per_node=40, w_per_core=20)
    events: list[Event] = [SiteObserved(site="berlin", observed_at=now, nodes=nodes, power=power)]
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    for kind in ("price_eur_per_mwh", "carbon_gco2_per_kwh"):
        values = {"site": "berlin", "kind": kind, "start": midnight, "published_at": now}
        events.append(EnergySeriesPublished(**values, values=(50.0,) * 72))
    return events


def job(name: str, now: datetime, *, suspendable: bool) -> JobSubmitted:
    spec = JobSpec(
        name=name,
        image="train",
        resources=Resources(cpu_milli=4000, memory_bytes=1 << 30),
        duration_estimate_s=3600,
        max_delay_s=0,
        suspendable=suspendable,
        grace_period_s=5,
        labels={SIMULATED_DURATION_LABEL: "3600", SIMULATED_CHECKPOINT_LABEL: "2"},
    )
    return JobSubmitted(job_id=name, tenant="t", spec=spec, submitted_at=now)


class Reader:
    """Everything that was said so far."""

    def __init__(self, bus: KafkaBus) -> None:
        self._tail = bus.tail([topic.name for topic in TOPICS])
        self.events: list[Event] = []

    async def until(self, holds, what: str):
        deadline = time.monotonic() + SOON_S
        while not (found := holds(self.events)):
            assert time.monotonic() < deadline, what
            for one in await asyncio.to_thread(self._tail.read, max_records=500, timeout_s=0.1):
                if one.value is not None:
                    self.events.append(decode(one.value, one.headers).event)
        return found

    def close(self) -> None:
        self._tail.close()


def of(events, kind, **fields):
    return [one for one in events if isinstance(one, kind) and all(getattr(one, n) == v for n, v in fields.items())]


async def test_a_utilitys_event_sheds_a_quarter_in_time_and_is_answered_with_a_report(tmp_path: Path) -> None:
    with ExitStack() as stack:
        broker = stack.enter_context(KafkaBroker(tmp_path / "kafka"))
        bus = stack.enter_context(KafkaBus(broker.bootstrap_servers, client_name="line"))
        bus.ensure_topics(TOPICS)
        cmo, drm, actuator = CmoSettings(), DrmSettings(), ActuatorSettings()
        clock = cmo.clock()
        chance = Chance(failure_rate=0.0, seed=1)
        targets = stack.enter_context(SimulatedTargets(tmp_path / "clusters", clock, chance=chance, outages={}))
        roles: list[tuple[object, Settings]] = [
            (cmo_role(cmo, speed=1.0), cmo),
            (drm_role(drm), drm),
            (actuator_role(targets, actuator), actuator),
        ]
        for role, settings in roles:
            runner = ServiceRunner(role, settings, bus, clock)
            runner.start()
            stack.callback(runner.stop)
        reader = Reader(bus)
        stack.callback(reader.close)
        publisher = bus.publisher(name="test")
        stack.callback(publisher.close)

        now = datetime.now(UTC)
        jobs = [job("kept", now, suspendable=False)] + [job(f"batch-{n}", now, suspendable=True) for n in range(3)]
        publisher.publish([encode(one, source="test", time=now) for one in [*world(now), *jobs]])
        await reader.until(lambda seen: len(of(seen, WorkloadReported, status="started")) == 4, "all four run")

        async with small_vtn() as (utility, _):
            await utility.enroll("berlin")
            feed = {
                "name": "tso",
                "url": utility.url,
                "auth": {"client_id": VEN_ID, "client_secret": VEN_SECRET},
                "program": PROGRAM,
                "sites": [{"site": "berlin"}],
                "every_s": 0.5,
            }
            async with running_collector(tmp_path, {"openadr": [feed]}, bus=bus):
                start = datetime.now(UTC) + NOTICE
                await utility.announce(start=start, duration="PT30S", values=(CAP_W / 1000,))
                stopped = await reader.until(lambda seen: of(seen, WorkloadReported, status="stopped"), "one stops")
                ended = (await reader.until(lambda seen: of(seen, DemandResponseReported, status="ended"), "ended"))[0]
                back = await reader.until(
                    lambda seen: [one for one in of(seen, WorkloadReported, status="started") if one.revision > 1],
                    "it runs again",
                )
                report = await reported(utility)
    # Each job takes 80 W and the idle nodes as much: two of the suspendable ones make room.
    assert {one.job_id for one in stopped} <= {"batch-0", "batch-1", "batch-2"}
    assert all(one.at < start + timedelta(seconds=30) for one in stopped)
    assert all(one.progress_s > 0 for one in stopped)
    assert ended.baseline_w == pytest.approx(400)
    assert ended.peak_w is None or ended.peak_w <= CAP_W
    assert ended.now_w <= CAP_W
    assert ended.suspended == 2
    assert ended.protected_deadlines_missed == 0
    assert back[0].at >= start + WINDOW
    placed = of(reader.events, JobPlaced, job_id=back[0].job_id, revision=back[0].revision)
    assert placed[0].progress_s > 0
    assert report["DEMAND"] <= CAP_W / 1000
    assert report["BASELINE"] == pytest.approx(0.4)


async def reported(utility) -> dict:
    """The last report at the utility, once it says that all is normal again."""
    deadline = time.monotonic() + SOON_S
    while True:
        for report in await utility.reports():
            interval = report["resources"][0]["intervals"][0]
            payloads = {one["type"]: one["values"][0] for one in interval["payloads"]}
            if payloads["OPERATING_STATE"] == "NORMAL":
                return payloads
        assert time.monotonic() < deadline, "no report"
        await asyncio.sleep(0.2)
