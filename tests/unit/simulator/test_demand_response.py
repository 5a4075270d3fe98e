"""The goal: a quarter of a site's power shed within 30 s and held for 3 h, no protected deadline missed, the work restored after.

Production cores of CMO and DRM under the virtual clock of the benchmark; other days than those that it scores.
"""

import pytest

from benchmarks.demand_response import SHARE, simulate


@pytest.mark.parametrize(("seed", "notice_s"), [(101, 0.0), (102, 900.0)])
def test_a_quarter_of_the_power_is_shed_in_time_held_and_the_work_restored(seed, notice_s):
    outcome = simulate(seed, notice_s=notice_s)
    assert outcome.shed_share >= SHARE - 1e-9
    assert outcome.time_to_cap_s <= 30.0
    assert outcome.held_h >= 3.0 - 30.0 / 3600.0
    assert outcome.protected_deadlines_missed == 0
    assert outcome.protected_stopped == 0
    assert outcome.restored_share >= 0.9
    assert outcome.unfinished == 0
    assert outcome.response.status == "ended"
    assert outcome.response.mean_w is not None
    assert outcome.response.mean_w <= outcome.response.power_cap_w


def test_an_ask_that_only_protected_work_could_answer_is_answered_short_and_says_so():
    outcome = simulate(103, notice_s=900.0, share=0.9)
    assert outcome.protected_deadlines_missed == 0
    assert outcome.protected_stopped == 0
    assert outcome.response.status == "ended"
    assert "above the cap" in outcome.response.detail
