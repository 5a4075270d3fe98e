"""A clock that moves, and a network whose links, sites and jobs are one line each."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from services.sdn.core import SdnCore
from services.sdn.model import Policy
from solyx.events import (
    CostBreakdown,
    DataSet,
    Event,
    JobFinished,
    JobPlaced,
    JobSpec,
    LinkObserved,
    PlacementReason,
    PlacementWithdrawn,
    Resources,
    RouteDecided,
    RouteReported,
    Run,
    SiteLatenciesMeasured,
    SiteObserved,
    WithdrawalReason,
)

START = datetime(2025, 6, 2, tzinfo=UTC)
GBPS = 1e9
POLICY = Policy(settle_s=0.0, smoothing_s=0.0, evaluation_interval_s=1.0)


class Network:
    """A core with its time; what it decided is kept by pair."""

    def __init__(self, policy: Policy = POLICY) -> None:
        self.core = SdnCore(policy)
        self.now = START
        self.log: list[Event] = []
        self.decided: list[RouteDecided] = []
        self.measured: list[SiteLatenciesMeasured] = []

    def tell(self, *events: Event) -> None:
        self.log.extend(events)
        for event in events:
            self.core.fold(event)

    def link(
        self,
        a: str,
        b: str,
        *,
        latency_ms: float = 10,
        load: float = 0,
        up: bool = True,
        gbps: float = 10,
        both: bool = True,
    ) -> None:
        """Observe a link in both directions, or one."""
        for source, target in ((a, b), (b, a))[: 2 if both else 1]:
            self.tell(
                LinkObserved(
                    link=f"{source}>{target}",
                    source=source,
                    target=target,
                    capacity_bps=gbps * GBPS,
                    rate_bps=load * gbps * GBPS,
                    latency_ms=latency_ms,
                    up=up,
                    observed_at=self.now,
                )
            )

    def site(self, *names: str, at: str = "", declares: dict[str, float] | None = None) -> None:
        for name in names:
            self.tell(
                SiteObserved(site=name, observed_at=self.now, nodes=(), network_node=at, latency_ms=declares or {})
            )

    def place(
        self,
        job: str,
        site: str,
        *,
        data_at: str,
        gib: float,
        revision: int = 1,
        start_in_s: float = 0,
        moves_s: tuple[float, float] | None = None,
        ran_at: str = "",
    ) -> None:
        """``moves_s``: from when until when its data moves, from now."""
        begin, end = (None, None) if moves_s is None else (self.now + timedelta(seconds=each) for each in moves_s)
        runs = (Run(revision=1, site=ran_at, started_at=self.now, ended_at=self.now),) if ran_at else ()
        spec = JobSpec(
            name=job,
            image="i",
            resources=Resources(),
            duration_estimate_s=60,
            data=DataSet(size_bytes=int(gib * 1024**3), site=data_at),
        )
        self.tell(
            JobPlaced(
                job_id=job,
                tenant="t",
                spec=spec,
                submitted_at=self.now,
                site=site,
                start_at=self.now + timedelta(seconds=start_in_s),
                data_from=begin,
                data_at=end,
                runs=runs,
                revision=revision,
                reason=PlacementReason.LEAST_COST,
                cost=CostBreakdown(),
                decided_at=self.now,
            )
        )

    def withdraw(self, job: str, site: str, *, revision: int = 1) -> None:
        spec = JobSpec(name=job, image="i", resources=Resources(), duration_estimate_s=60)
        self.tell(
            PlacementWithdrawn(
                job_id=job, tenant="t", spec=spec, submitted_at=self.now, site=site, revision=revision,
                reason=WithdrawalReason.CANCELLED, decided_at=self.now,
            )
        )  # fmt: skip

    def finish(self, job: str, site: str, *, revision: int = 1) -> None:
        self.tell(
            JobFinished(
                job_id=job,
                tenant="t",
                site=site,
                revision=revision,
                outcome="succeeded",
                reason="completed",
                finished_at=self.now,
            )
        )

    def report(self, route: RouteDecided, status: str) -> None:
        self.tell(
            RouteReported(source=route.source, target=route.target, revision=route.revision, status=status, at=self.now)
        )

    def wait(self, seconds: float = 0) -> list[RouteDecided]:
        """Let time pass, then decide; the routes among the decisions."""
        self.now += timedelta(seconds=seconds)
        decisions = list(self.core.decide(self.now))
        decided = [route for route in decisions if isinstance(route, RouteDecided)]
        measured = [event for event in decisions if isinstance(event, SiteLatenciesMeasured)]
        assert [*decided, *measured] == decisions
        self.log.extend(decisions)
        self.decided.extend(decided)
        self.measured.extend(measured)
        return decided

    def round_trips(self, site: str) -> dict[str, float | None]:
        """What was last told of a site."""
        told = [event for event in self.measured if event.site == site]
        return {place: latency.round_trip_ms for place, latency in told[-1].places.items()} if told else {}

    def route(self, source: str, target: str) -> RouteDecided:
        """The last decision on a pair."""
        return [route for route in self.decided if (route.source, route.target) == (source, target)][-1]


@pytest.fixture
def network() -> Network:
    return Network()


@pytest.fixture
def make_network() -> Callable[[Policy], Network]:
    return Network


@pytest.fixture
def diamond(network: Network) -> Network:
    """a and z over b (20 ms) or over c (30 ms)."""
    network.link("a", "b", latency_ms=10)
    network.link("b", "z", latency_ms=10)
    network.link("a", "c", latency_ms=15)
    network.link("c", "z", latency_ms=15)
    network.site("a", "z")
    network.wait()
    return network
