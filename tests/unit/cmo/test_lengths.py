"""How long jobs are expected to take: owners' estimates, and what was learned from the runs that ended."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from services.cmo.core.lengths import Ahead, Lengths
from solyx.events import JobPlaced, WorkloadReason
from tests.unit.cmo.cmo_builders import at, core, flat, only, placements, report, running, submitted


def learned(pairs, times=400):
    lengths = Lengths()
    for count in range(times):
        lengths.learn(*pairs[count % len(pairs)])
    return lengths


def test_lengths_are_the_owners_until_enough_runs_have_ended():
    lengths = Lengths()
    assert lengths.left_s(100, 0) == 100
    assert lengths.left_s(100, 30) == 70
    assert lengths.left_s(100, 1000) == pytest.approx(100)  # a tenth of what it has taken


def test_ratios_are_learned():
    lengths = learned([(100, 200)])
    assert lengths.left_s(100, 0) == pytest.approx(200, rel=0.1)
    assert lengths.left_s(100, 150) == pytest.approx(50, rel=0.4)
    assert lengths.left_s(100, 100_000) > 0


def test_an_estimate_of_what_hardly_ever_occurs_is_believed_less():
    """Estimates that are off by e either way, of jobs of which nearly all are short: one that looks long is probably short."""
    rng = np.random.default_rng(1)
    lengths = Lengths()
    for _ in range(4000):
        true_s = 1000.0 if rng.random() < 0.98 else 8000.0
        lengths.learn(true_s * float(np.exp(rng.normal(0, 1))), true_s)
    assert lengths.left_s(3000, 0) < 2000
    assert lengths.left_s(1000, 0) == pytest.approx(1000, rel=0.2)


def test_probabilities_follow_the_runs():
    lengths = learned([(100, 50), (100, 400)])
    ahead = lengths.ahead(100, 0)
    assert ahead.share.sum() == pytest.approx(1)
    done_s, beyond = ahead.after(np.array([100.0, 1e9]))
    assert beyond[0] == pytest.approx(0.5, abs=0.05)
    assert done_s[1] == pytest.approx(ahead.mean_s)
    assert lengths.ahead(100, 100).after(np.array([200.0]))[1] == pytest.approx(1, abs=0.05)


def test_what_runs_longer_is_expected_to_go_on_for_longer():
    rng = np.random.default_rng(2)
    lengths = Lengths()
    for _ in range(2000):
        lengths.learn(1000.0, 1000.0 * float(np.exp(rng.normal(0, 0.5))))
    ends = [done + lengths.left_s(1000, done) for done in (0, 500, 1000, 2000, 3000)]
    assert ends == sorted(ends)


@given(
    st.lists(st.tuples(st.integers(1, 400), st.floats(0.01, 1)), min_size=1, max_size=8, unique_by=lambda one: one[0]),
    st.lists(st.integers(0, 400), min_size=1, max_size=5),
)
def test_what_is_ahead_is_as_probable_as_the_lengths_that_reach_so_far(lengths, spans):
    left, share = (np.array(values, dtype=float) for values in zip(*sorted(lengths), strict=True))
    share /= share.sum()
    ahead = Ahead(left, share)
    for span, done, beyond in zip(spans, *ahead.after(np.array(spans)), strict=True):
        assert beyond == pytest.approx(sum(one for long, one in zip(left, share, strict=True) if long > span))
        assert done == pytest.approx(sum(min(long, span) * one for long, one in zip(left, share, strict=True)))
    assert ahead.after(left[-1:])[1] == 0.0


def test_what_was_learned_counts_for_a_job_that_was_asked_about_before():
    lengths = Lengths()
    assert lengths.left_s(100, 30) == 70
    for _ in range(400):
        lengths.learn(100, 200)
    assert lengths.left_s(100, 30) > 120


@pytest.mark.parametrize(("kept_h", "ran_h"), [(0.0, 2.0), (1.0, 1.0)])
def test_a_core_learns_from_all_the_work_of_a_job_what_was_kept_included(kept_h, ran_h):
    """Owners say an hour, and it is two."""
    cmo = core(*flat("a"))
    for number in range(400):
        job, placed, started = running(submitted(f"job-{number}", cores=0.01), "a")
        assert isinstance(placed, JobPlaced)
        placed = structs.replace(placed, progress_s=kept_h * 3600.0)
        for event in (job, placed, started, report(placed, "succeeded", ran_h, reason=WorkloadReason.COMPLETED)):
            cmo.fold(event)
    cmo.decide(at(ran_h))
    cmo.fold(submitted("next", hours=ran_h, max_delay=0))
    cost = only(placements(cmo.decide(at(ran_h)))).cost
    (unlearned,) = placements(core(*flat("a"), submitted("next", max_delay=0)).decide(at(0)))
    assert cost.energy_kwh == pytest.approx(2 * unlearned.cost.energy_kwh, rel=0.1)
