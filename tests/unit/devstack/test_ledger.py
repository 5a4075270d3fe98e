from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest

from solyx.events import (
    AllocationDeferred,
    AllocationReason,
    CostBreakdown,
    DataSet,
    DeferralReason,
    EnergySeriesPublished,
    Event,
    FinishReason,
    JobAllocated,
    JobFinished,
    JobPlaced,
    JobSpec,
    JobSubmitted,
    Node,
    PlacementReason,
    PlacementWithdrawn,
    PowerModel,
    Resources,
    SiteObserved,
    WithdrawalReason,
    WorkloadReason,
    WorkloadReported,
)
from solyx.ledger import Ledger

T0 = datetime(2025, 6, 2, tzinfo=UTC)
GIB = 1024**3
SPEC = JobSpec(
    name="train",
    image="x",
    resources=Resources(cpu_milli=2000),
    duration_estimate_s=3600,
    home_site="home",
    data=DataSet(size_bytes=10 * GIB, site="home"),
)


def at(hours: float) -> datetime:
    return T0 + timedelta(hours=hours)


def site(name: str, *, pue: float = 1.0, lost: bool = False) -> SiteObserved:
    return SiteObserved(
        site=name,
        observed_at=T0,
        nodes=(Node(name="n", cpu_milli=8000, memory_bytes=GIB),),
        power=PowerModel(w_per_core=500, pue=pue),
        egress_eur_per_gib=0.01,
        lost=lost,
    )


def energy(name: str, kind: str, *values: float) -> EnergySeriesPublished:
    return EnergySeriesPublished(site=name, kind=kind, start=T0, values=values, published_at=T0)


WORLD: list[Event] = [
    site("home", pue=1.2),
    site("away"),
    energy("home", "price_eur_per_mwh", *[100.0] * 12),
    energy("home", "carbon_gco2_per_kwh", *[500.0] * 12),
    energy("away", "price_eur_per_mwh", *[40.0] * 12),
    energy("away", "carbon_gco2_per_kwh", *[100.0] * 12),
]


def submitted(job: str = "j", spec: JobSpec = SPEC) -> JobSubmitted:
    return JobSubmitted(job_id=job, tenant="t", spec=spec, submitted_at=T0)


def placed(revision: int = 1, where: str = "away", *, start: datetime = T0, job: str = "j") -> JobPlaced:
    return JobPlaced(
        job_id=job,
        tenant="t",
        spec=SPEC,
        submitted_at=T0,
        site=where,
        start_at=start,
        revision=revision,
        reason=PlacementReason.LEAST_COST,
        cost=CostBreakdown(),
        decided_at=T0,
    )


def allocated(revision: int = 1, where: str = "away", job: str = "j") -> JobAllocated:
    return JobAllocated(
        job_id=job,
        tenant="t",
        spec=SPEC,
        site=where,
        revision=revision,
        pods=(),
        reason=AllocationReason.FITS,
        submitted_at=T0,
        decided_at=T0,
    )


def report(
    status: str, hours: float, *, revision: int = 1, where: str = "away", start: float = 1.0, progress_h: float = 0.0
) -> WorkloadReported:
    return WorkloadReported(
        job_id="j",
        tenant="t",
        site=where,
        revision=revision,
        status=status,
        reason=WorkloadReason.APPLIED,
        started_at=at(start),
        progress_s=3600 * progress_h,
        at=at(hours),
    )


def finished(outcome: str = "succeeded") -> JobFinished:
    return JobFinished(
        job_id="j",
        tenant="t",
        site="away",
        revision=1,
        outcome=outcome,
        reason=FinishReason.COMPLETED,
        finished_at=at(3),
    )


def withdrawn(revision: int = 1) -> PlacementWithdrawn:
    return PlacementWithdrawn(
        job_id="j",
        tenant="t",
        spec=SPEC,
        submitted_at=T0,
        site="away",
        revision=revision,
        reason=WithdrawalReason.MIGRATION,
        decided_at=T0,
    )


def ledger_of(*events: Event) -> Ledger:
    ledger = Ledger()
    for event in events:
        ledger.fold(event)
    return ledger


@pytest.mark.parametrize(
    ("events", "state"),
    [
        ([submitted()], "submitted"),
        ([submitted(), placed()], "placed"),
        ([submitted(), placed(), allocated()], "allocated"),
        ([submitted(), placed(), allocated(), report("started", 1)], "running"),
        ([submitted(), placed(), allocated(), report("started", 1), report("failed", 2)], "submitted"),
        ([submitted(), placed(), allocated(), report("started", 1), report("failed", 2), placed(2)], "placed"),
        ([submitted(), placed(), withdrawn()], "submitted"),
        ([submitted(), placed(), allocated(), report("started", 1), withdrawn()], "running"),
        ([submitted(), placed(), allocated(), report("started", 1), withdrawn(), report("stopped", 2)], "submitted"),
        ([submitted(), placed(), allocated(), withdrawn(), report("stopped", 2), placed(2, start=at(5))], "placed"),
        ([submitted(), placed(), allocated(), report("started", 1), report("succeeded", 2), finished()], "succeeded"),
        ([submitted(), finished("cancelled")], "cancelled"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_jobs_state_is_that_of_its_highest_revision(events: list[Event], state: str) -> None:
    ledger = ledger_of(*events)
    assert ledger.jobs["j"].state == state
    assert {name: count for name, count in ledger.counts.items() if count} == {state: 1}


def test_topics_may_be_read_in_any_order_and_twice() -> None:
    life = [submitted(), placed(), allocated(), report("started", 1), report("succeeded", 3), finished()]
    expected = ledger_of(*WORLD, *life).books(at(9))
    for order in permutations(life):
        ledger = ledger_of(*order, *WORLD, *order)
        books = ledger.books(at(9))
        assert ledger.jobs["j"].state == "succeeded"
        assert books.own.cost_eur == pytest.approx(expected.own.cost_eur)
        assert books.baseline.cost_eur == pytest.approx(expected.baseline.cost_eur)


def test_a_run_is_billed_at_its_site_and_the_same_work_at_home_from_submission_on() -> None:
    life = [submitted(), placed(), allocated(), report("started", 1), report("succeeded", 3), finished()]
    books = ledger_of(*WORLD, *life).books(at(9))
    # 2 cores × 500 W = 1 kW for 2 h; away at 40 EUR/MWh and 100 g/kWh, and 10 GiB moved for 0.01 EUR each
    assert books.own.energy_kwh == pytest.approx(2.0)
    assert books.own.cost_eur == pytest.approx(0.08 + 0.10)
    assert books.own.movement_eur == pytest.approx(0.10)
    assert books.own.carbon_kg == pytest.approx(0.2)
    # at home 1.2 kW for 2 h at 100 EUR/MWh and 500 g/kWh, nothing moved
    assert books.baseline.energy_kwh == pytest.approx(2.4)
    assert books.baseline.cost_eur == pytest.approx(0.24)
    assert books.baseline.carbon_kg == pytest.approx(1.2)
    assert books.by_site["away"].cost_eur == pytest.approx(books.own.cost_eur)


def test_what_still_runs_is_billed_up_to_now_on_both_sides() -> None:
    ledger = ledger_of(*WORLD, submitted(), placed(), allocated(), report("started", 1))
    assert ledger.books(at(2)).own.energy_kwh == pytest.approx(1.0)
    assert ledger.books(at(2)).baseline.energy_kwh == pytest.approx(1.2)
    assert ledger.books(at(4)).own.energy_kwh == pytest.approx(3.0)


def test_repeated_work_counts_on_our_side_only() -> None:
    ledger = ledger_of(
        *WORLD,
        submitted(),
        *(placed(), allocated(), report("started", 1), report("failed", 2)),
        *(placed(2), allocated(2), report("started", 2, revision=2, start=2.0)),
        report("succeeded", 4, revision=2, start=2.0),
        finished(),
    )
    books = ledger.books(at(9))
    assert books.own.energy_kwh == pytest.approx(3.0)
    assert books.baseline.energy_kwh == pytest.approx(2.4)


SUSPENDED: list[Event] = [
    submitted(),
    *(placed(), allocated(), report("started", 1)),
    report("stopped", 2.25, progress_h=1),  # told to stop after an hour; its checkpoint took a quarter of one
]
RESUMED: list[Event] = [
    *(placed(2, start=at(5)), allocated(2)),
    report("started", 5, revision=2, start=5.0, progress_h=1),
]


def test_a_suspended_job_is_billed_for_each_run_and_its_baseline_is_one_run_of_its_whole_work() -> None:
    ending: list[Event] = [report("succeeded", 7.5, revision=2, start=5.0, progress_h=3), finished()]
    ledger = ledger_of(*WORLD, *SUSPENDED, *RESUMED, *ending)
    books = ledger.books(at(9))
    assert books.own.energy_kwh == pytest.approx(1.25 + 2.5)  # the restart took half an hour
    assert books.own.movement_eur == pytest.approx(2 * 0.10)
    assert books.baseline.energy_kwh == pytest.approx(1.2 * 3)
    assert ledger.books(at(99)) == books


def test_the_baseline_of_a_suspended_job_waits_with_it() -> None:
    ledger = ledger_of(*WORLD, *SUSPENDED)
    assert ledger.books(at(2.5)).baseline.energy_kwh == pytest.approx(1.2)
    assert ledger.books(at(4.5)).baseline.energy_kwh == pytest.approx(1.2)
    for event in RESUMED:
        ledger.fold(event)
    assert ledger.books(at(6)).baseline.energy_kwh == pytest.approx(1.2 * 2)


def test_a_job_that_is_not_suspendable_has_done_the_work_of_its_longest_run() -> None:
    life = [submitted(), placed(), report("started", 1), report("stopped", 4), placed(2)]
    again = [report("started", 5, revision=2, start=5.0), report("succeeded", 7, revision=2, start=5.0), finished()]
    books = ledger_of(*WORLD, *life, *again).books(at(9))
    assert books.own.energy_kwh == pytest.approx(5.0)
    assert books.baseline.energy_kwh == pytest.approx(1.2 * 2), "it succeeded after two hours: that is its whole work"


def test_a_settled_bill_is_opened_again_by_a_late_report() -> None:
    life = [submitted(), placed(2), allocated(2), report("succeeded", 3, revision=2), finished()]
    ledger = ledger_of(*WORLD, *life)
    assert ledger.books(at(9)).own.energy_kwh == pytest.approx(2.0)
    ledger.fold(report("failed", 1, revision=1, start=0.0))
    assert ledger.books(at(9)).own.energy_kwh == pytest.approx(3.0)
    assert ledger.books(at(10)).own.energy_kwh == pytest.approx(3.0)


def test_hours_without_a_published_value_are_counted() -> None:
    known = [
        site("home"),
        site("away"),
        energy("away", "price_eur_per_mwh", 40.0),
        energy("home", "price_eur_per_mwh", 100.0),
    ]
    life = [submitted(), placed(), allocated(), report("started", 1), report("succeeded", 3), finished()]
    ledger = ledger_of(*known, *life)
    assert ledger.books(at(9)).own.held_h == pytest.approx(2.0)
    for late in WORLD[2:]:
        ledger.fold(late)
    assert ledger.books(at(9)).own.held_h == 0.0


def test_an_accepted_job_that_the_log_does_not_know_is_lost() -> None:
    ledger = ledger_of(submitted("known"), placed(job="known"))
    assert ledger.lost(["known", "vanished"]) == ["vanished"]


def test_a_decision_about_a_job_that_was_never_submitted_is_a_loss_too() -> None:
    assert ledger_of(placed(job="ghost")).lost([]) == ["ghost"]


def test_a_job_that_has_left_jobs_after_its_end_is_not_lost() -> None:
    assert ledger_of(placed(), allocated(), finished()).lost(["j"]) == []


def test_a_queued_job_is_not_lost() -> None:
    assert ledger_of(submitted("waiting")).lost(["waiting"]) == []


def test_latency_runs_from_acceptance_to_the_first_allocation() -> None:
    ledger = Ledger()
    ledger.fold(submitted(), timestamp_ms=1_000_050)
    ledger.fold(placed(), timestamp_ms=1_000_060)
    ledger.fold(allocated(), timestamp_ms=1_000_100)
    assert ledger.latencies_ms({"j": 1_000_000}) == [100]
    assert ledger.latencies_ms() == [50]


def test_a_job_that_was_put_off_on_purpose_has_no_latency() -> None:
    ledger = Ledger()
    for event in (submitted(), placed(start=at(5)), allocated()):
        ledger.fold(event, timestamp_ms=5)
    assert ledger.latencies_ms() == []


def test_a_job_that_waited_for_room_has_no_latency() -> None:
    deferred = AllocationDeferred(
        job_id="j", tenant="t", site="away", revision=1, reason=DeferralReason.NO_CAPACITY, decided_at=T0
    )
    ledger = Ledger()
    for event in (submitted(), placed(), deferred, allocated()):
        ledger.fold(event, timestamp_ms=5)
    assert ledger.latencies_ms() == []


def test_use_counts_what_jobs_hold_at_their_site() -> None:
    ledger = ledger_of(*WORLD, submitted(), placed(), allocated())
    use = {found.site: found for found in ledger.use(at(1))}
    assert (use["away"].cores_used, use["away"].cores, use["away"].jobs) == (2.0, 8.0, 1)
    assert use["home"].jobs == 0
    assert (use["home"].price_eur_per_mwh, use["home"].carbon_gco2_per_kwh) == (100.0, 500.0)
    for event in (report("succeeded", 3), finished()):
        ledger.fold(event)
    assert all(found.jobs == 0 for found in ledger.use(at(4)))


def test_years_of_history_before_the_first_job_are_dropped() -> None:
    ledger = ledger_of(*WORLD)
    history = EnergySeriesPublished(
        site="home",
        kind="price_eur_per_mwh",
        start=T0 - timedelta(days=400),
        values=(1.0,) * (400 * 24),
        published_at=T0,
    )
    ledger.fold(history)
    ledger.fold(submitted())
    ledger.books(at(1))
    assert ledger.use(at(-24 * 300))[1].price_eur_per_mwh == 1.0  # the first value that is left is held before it
