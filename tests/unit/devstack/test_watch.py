import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest

from devstack.watch import Watcher, notice_of
from solyx.bus.memory import MemoryBus
from solyx.events import (
    Event,
    FeedReported,
    FinishReason,
    GridEventAnnounced,
    JobFinished,
    JobSpec,
    JobSubmitted,
    MetricsScraped,
    Node,
    PlacementWithdrawn,
    Record,
    Resources,
    RouteDecided,
    RouteReason,
    SiteObserved,
    WithdrawalReason,
    WorkloadReason,
    WorkloadReported,
    encode,
)
from solyx.topics import TOPICS

T0 = datetime(2025, 6, 2, tzinfo=UTC)
SPEC = JobSpec(name="train", image="x", resources=Resources(cpu_milli=2000), duration_estimate_s=3600)
NODE = Node(name="n1", cpu_milli=1000, memory_bytes=1)


def submitted(job: str) -> JobSubmitted:
    return JobSubmitted(job_id=job, tenant="t", spec=SPEC, submitted_at=T0)


def finished(outcome: str, reason: FinishReason, message: str = "") -> JobFinished:
    return JobFinished(job_id="j", tenant="t", outcome=outcome, reason=reason, message=message, finished_at=T0)


def withdrawn(reason: WithdrawalReason) -> PlacementWithdrawn:
    return PlacementWithdrawn(
        job_id="j", tenant="t", spec=SPEC, submitted_at=T0, site="north", revision=1, reason=reason, decided_at=T0
    )


def reported(status: str, reason: WorkloadReason) -> WorkloadReported:
    return WorkloadReported(job_id="j", tenant="t", site="north", revision=2, status=status, reason=reason, at=T0)


def route(reason: RouteReason) -> RouteDecided:
    return RouteDecided(source="a", target="b", revision=1, path=("a", "b"), reason=reason, decided_at=T0)


def observed(*, lost: bool = False, ready: bool = True) -> SiteObserved:
    nodes = (Node(name="n1", cpu_milli=1000, memory_bytes=1, ready=ready),)
    return SiteObserved(site="north", observed_at=T0, nodes=nodes, lost=lost)


@pytest.mark.parametrize(
    ("event", "told"),
    [
        (finished("failed", FinishReason.NO_SITE_FITS, "needs 9 GPUs"), "failed: no_site_fits (needs 9 GPUs)"),
        (finished("succeeded", FinishReason.COMPLETED), None),
        (withdrawn(WithdrawalReason.STUCK), "leaves north: stuck"),
        (withdrawn(WithdrawalReason.CANCELLED), None),
        (reported("failed", WorkloadReason.NODE_LOST), "lost its node at north"),
        (reported("failed", WorkloadReason.EXIT_CODE), "failed at north: exit_code, attempt 2"),
        (reported("started", WorkloadReason.APPLIED), None),
        (observed(lost=True), "site north is lost"),
        (observed(ready=False), "1 of 1 nodes are down (n1)"),
        (observed(), None),
        (FeedReported(feed="prices", status="stale", since=T0, error="503"), "feed prices is stale: 503"),
        (
            GridEventAnnounced(event_id="e", site="north", start=T0, end=T0, power_cap_w=5000, announced_at=T0),
            "at most 5.0 kW",
        ),
        (route(RouteReason.LINK_DOWN), "route a to b: link_down"),
        (route(RouteReason.FIRST), None),
        (submitted("j"), None),
    ],
)
def test_people_hear_of_what_is_out_of_the_ordinary(event: Event, told: str | None) -> None:
    notice = notice_of(event)
    assert notice is None if told is None else notice is not None and told in notice


@pytest.fixture
def bus() -> MemoryBus:
    bus = MemoryBus()
    bus.ensure_topics(TOPICS)
    return bus


@pytest.fixture
def watcher(bus: MemoryBus) -> Iterator[Watcher]:
    watching = Watcher(bus, now=lambda: T0)
    yield watching
    watching.stop()


def publish(bus: MemoryBus, *events: Event) -> None:
    bus.publisher(name="test").publish([encode(event, source="test", time=T0) for event in events])


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_an_earlier_start_left_is_booked_but_is_no_news(bus: MemoryBus, watcher: Watcher) -> None:
    publish(bus, submitted("old"), observed(lost=True))
    watcher.start()
    assert watcher.wait_caught_up(10)
    assert (watcher.events, watcher.notices(9)) == (0, [])
    assert watcher.ask(lambda ledger: ledger.lost(["old"])) == []


def test_every_topic_is_counted_and_each_notice_told_once(bus: MemoryBus, watcher: Watcher) -> None:
    watcher.start()
    assert watcher.wait_caught_up(10)
    metrics = MetricsScraped(source="north", scraped_at=T0, series=("up",), values=(1.0,))
    publish(bus, submitted("new"), metrics, observed(lost=True), observed(lost=True))
    wait_for(lambda: watcher.events == 4)
    wait_for(lambda: watcher.notices(9))
    assert [notice[11:] for notice in watcher.notices(9)] == ["site north is lost"]
    assert watcher.events_per_s() > 0
    watcher.tell("drm ended and is started again")
    assert "drm ended" in watcher.notices(1)[0]


def test_an_unreadable_record_stops_nothing(bus: MemoryBus, watcher: Watcher) -> None:
    watcher.start()
    bus.publisher(name="test").publish([Record("jobs", "k", "k", b"{", []), Record("deadletters", "k", "k", b"{", [])])
    publish(bus, submitted("after"))
    wait_for(lambda: watcher.ask(lambda ledger: "after" in ledger.jobs))
    assert watcher.error is None
