"""The DRM on a bus: settings, topics in and out, and shards that go on where another replica stopped."""

import time
from collections.abc import Iterator

import pytest

from services.drm import __main__ as entry
from services.drm.quotas import Quota, Quotas
from services.drm.service import role
from services.drm.settings import DrmSettings
from solyx.bus.memory import MemoryBus
from solyx.bus.runner import ServiceRunner, run_roles
from solyx.clock import ManualClock
from solyx.events import decode, encode
from solyx.settings import SettingsError, load
from solyx.topics import SITE_PARTITIONS
from tests.unit.drm.drm_world import at, job_spec, node, observed, placed, reported

CLOCK = ManualClock(at(0))
SITES = ("north", "south", "east", "west", "centre")  # more than there are shards


@pytest.fixture
def bus() -> Iterator[MemoryBus]:
    with MemoryBus() as bus:
        yield bus


def start(bus: MemoryBus, replica: str = "0") -> ServiceRunner:
    settings = DrmSettings(replica=replica)
    (runner,) = run_roles([role(settings)], settings, bus, CLOCK)
    return runner


def publish(bus: MemoryBus, *events) -> None:
    bus.publisher(name="test").publish([encode(event, source="test", time=at(0)) for event in events])


def wait_for(tail, count: int) -> list:
    found = []
    deadline = time.monotonic() + 20
    while len(found) < count and time.monotonic() < deadline:
        found += [decode(r.value, r.headers).event for r in tail.read(max_records=100, timeout_s=0.1)]
    assert len(found) == count
    return found


def test_quotas_come_from_the_environment_as_json() -> None:
    text = '{"lab": {"cpu_milli": 64000, "gpu_milli": 8000}, "guests": {"gpu_milli": 0}}'
    settings = load(DrmSettings, "drm", {"SOLYX_DRM_QUOTAS": text})
    limits = {"lab": Quota(cpu_milli=64000, gpu_milli=8000), "guests": Quota(gpu_milli=0)}
    assert settings.parsed_quotas() == Quotas(tenants=limits)
    assert DrmSettings().parsed_quotas() == Quotas()


@pytest.mark.parametrize("text", ["{", '{"lab": 5}', '{"lab": {"cpu_milli": -1}}', "[]"])
def test_wrong_quotas_are_refused_by_name_before_anything_starts(text, monkeypatch, capsys) -> None:
    with pytest.raises(SettingsError, match="SOLYX_DRM_QUOTAS"):
        role(DrmSettings(quotas=text))
    monkeypatch.setenv("SOLYX_DRM_QUOTAS", text)
    assert entry.main([]) == 2
    assert "SOLYX_DRM_QUOTAS" in capsys.readouterr().err


def test_sites_are_shared_out_by_partition() -> None:
    drm = role(DrmSettings())
    assert (drm.shards, drm.by, drm.standby) == (SITE_PARTITIONS, "site", False)
    assert [topic.name for topic in drm.inputs] == ["placements", "sites", "nodes", "energy", "actuations"]
    assert [topic.name for topic in drm.outputs] == ["allocations", "grid", "quotas"]


def test_placements_on_the_bus_become_allocations_on_the_bus(bus) -> None:
    runner = start(bus)
    try:
        tail = bus.tail(["allocations"])
        publish(bus, *(observed(node("a"), site=site) for site in SITES))
        publish(bus, *(placed(f"job-{site}", site=site) for site in SITES))
        allocated = wait_for(tail, len(SITES))
        assert {event.site: event.job_id for event in allocated} == {site: f"job-{site}" for site in SITES}
        publish(bus, *(reported(event, "succeeded", seconds=1) for event in allocated))
        assert {event.job_id for event in wait_for(tail, len(SITES))} == {f"job-{site}" for site in SITES}
    finally:
        runner.stop()
    assert runner.failed is None


def test_another_replica_goes_on_where_one_stopped_and_allocates_nothing_twice(bus) -> None:
    first = start(bus)
    tail = bus.tail(["allocations"])
    try:
        publish(bus, *(observed(node("a"), site=site) for site in SITES))
        jobs = [placed(f"{site}-{n}", job_spec(cpu=8), site=site, submitted=n) for site in SITES for n in range(2)]
        publish(bus, *jobs)
        events = wait_for(tail, 2 * len(SITES))  # one allocated, one deferred at each site
        allocated = [event for event in events if event.TYPE.endswith("allocated.v1")]
        assert {event.job_id for event in allocated} == {f"{site}-0" for site in SITES}
    finally:
        first.stop()
    second = start(bus, replica="1")
    try:
        publish(bus, *(reported(event, "succeeded", seconds=1) for event in allocated))
        events = wait_for(tail, 2 * len(SITES))  # a release and an allocation at each site
        assert {e.job_id for e in events if e.TYPE.endswith("allocated.v1")} == {f"{site}-1" for site in SITES}
        assert {e.job_id for e in events if e.TYPE.endswith("released.v1")} == {f"{site}-0" for site in SITES}
    finally:
        second.stop()
