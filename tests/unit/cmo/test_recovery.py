"""What a core that was started again knows from the topics, and what a finished job leaves in one."""

from tests.unit.cmo.cmo_builders import (
    T0,
    at,
    cancelled,
    core,
    flat,
    only,
    outcomes,
    placed_job,
    placements,
    report,
    site,
    submitted,
    withdrawals,
)


def test_a_recovered_core_decides_nothing_anew():
    inputs = [*flat("a", "b"), *[submitted(f"{n}", cores=8, max_delay=9) for n in range(5)]]
    cmo = core(*inputs)
    decided = cmo.decide(T0)
    reports = [report(decided[0], "started"), report(decided[1], "succeeded", 0.5)]
    for event in reports:
        cmo.fold(event)
    decided += cmo.decide(at(0.5))
    assert core(*decided, *reversed(reports), *inputs).decide(at(0.6)) == []
    assert core(*inputs, *reports, *decided).decide(at(0.6)) == []


def test_a_withdrawal_stands_for_the_placement_that_compaction_removed():
    job = submitted(max_delay=0)
    cmo, placed = placed_job(job=job)
    cmo.fold(cancelled(job))
    withdrawn = only(cmo.decide(at(0.1)))
    recovered = core(*flat("a", "b"), cancelled(job), withdrawn)
    assert recovered.decide(at(0.2)) == []
    recovered.fold(report(placed, "stopped", 0.3))
    assert only(recovered.decide(at(0.3))).outcome == "cancelled"


def test_a_stuck_withdrawal_is_remembered_over_a_restart():
    cmo, placed = placed_job(stuck_s=7200.0)
    withdrawn = only(cmo.decide(at(2.1)))
    recovered = core(*flat("a", "b"), submitted(max_delay=0), placed, withdrawn, stuck_s=7200.0)
    assert recovered.decide(at(9)) == []
    recovered.fold(report(placed, "stopped", 9))
    assert only(recovered.decide(at(9))).site == "b"


def test_a_lost_site_that_came_back_does_not_revive_what_was_withdrawn():
    job = submitted(max_delay=0)
    cmo, placed = placed_job(job=job, names=("a",))
    cmo.fold(site("a", hours=1, lost=True))
    withdrawn = only(withdrawals(cmo.decide(at(1))))
    recovered = core(*flat("a"), site("a", hours=2), job, placed, withdrawn)
    assert only(recovered.decide(at(2))).revision == 2


def test_finished_jobs_leave_nothing_but_their_ids():
    cmo = core(*flat("a"), *[submitted(f"{n}", runs=0.01, max_delay=0) for n in range(50)])
    for placed in placements(cmo.decide(T0)):
        cmo.fold(report(placed, "started"))
        cmo.fold(report(placed, "succeeded"))
    assert len(outcomes(cmo.decide(T0))) == 50
    assert not cmo._jobs
    assert len(cmo._ledger) == 0
    assert list(cmo._use.everywhere()) == []
    cmo.decide(at(100))
    assert len(cmo._timers) == 0
