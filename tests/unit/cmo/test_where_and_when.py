"""Which site and start the CMO chooses, and what it says about it."""

import pytest

from solyx.events import JobPlaced, PlacementReason
from tests.unit.cmo.cmo_builders import (
    T0,
    at,
    cap,
    carbon,
    core,
    flat,
    forecast,
    node,
    only,
    placements,
    prices,
    series,
    site,
    submitted,
)


def two_sites(a=(50,) * 80, b=(60,) * 80, **options):
    return [site("a", **options), site("b", **options), prices("a", *a), prices("b", *b), carbon("a"), carbon("b")]


def place(*events, now=0.0, **policy) -> JobPlaced:
    return only(core(*events, **policy).decide(at(now)))


def test_the_cheapest_site_and_start_win():
    dear = [60.0] * 80
    dear[7] = 5.0
    placed = place(*two_sites(b=dear), submitted())
    assert (placed.site, placed.start_at) == ("b", at(7))
    assert placed.reason is PlacementReason.LEAST_COST
    assert placed.bound_by == ""
    assert (placed.revision, placed.attempt) == (1, 1)


def test_the_cost_has_its_components_and_the_best_alternative():
    events = [site("a", egress=0.5), site("b"), prices("a", *[50] * 80), prices("b", *[20] * 80)]
    placed = place(
        *events,
        carbon("a", 400),
        carbon("b", 200),
        submitted(cores=8, runs=2, data=(0.001, "b"), max_delay=0),
        delay_eur_per_job_h=0.01,
    )
    # 8 cores × 10 W for 2 h = 0.16 kWh
    cost = placed.cost
    assert placed.site == "b"
    assert cost.energy_kwh == pytest.approx(0.16)
    assert cost.energy_eur == pytest.approx(0.16 * 0.020)
    assert cost.carbon_kg == pytest.approx(0.16 * 0.2)
    assert cost.carbon_eur == pytest.approx(0.16 * 0.2 * 0.1)
    assert cost.movement_eur == 0
    assert placed.alternative is not None
    assert placed.alternative.site == "a"
    assert placed.alternative.total_eur == pytest.approx(0.16 * (0.05 + 0.4 * 0.1))
    assert placed.alternative.total_eur > cost.total_eur


def test_carbon_weighs_by_its_price():
    events = [site("dirty"), site("clean"), prices("dirty", *[50] * 80), prices("clean", *[60] * 80)]
    events += [carbon("dirty", 500), carbon("clean", 100), submitted()]
    assert place(*events, carbon_eur_per_t=100).site == "clean"
    assert place(*events, carbon_eur_per_t=0).site == "dirty"


def test_data_keeps_a_job_where_it_lies_unless_the_gain_pays_for_the_movement():
    events = two_sites(egress=0.0005)
    # 1 core for 1 h: 0.01 kWh, 0.1 mEUR between the sites; 1 GiB costs 0.5 mEUR to move
    assert place(*events, submitted(data=(1, "b"), max_delay=0)).site == "b"
    moved = place(*events, submitted(cores=8, runs=5, data=(1, "b"), max_delay=0))
    assert (moved.site, moved.cost.movement_eur) == ("a", pytest.approx(0.0005))


def test_egress_is_paid_where_the_data_leaves():
    events = [site("a", egress=1.0), site("b", egress=0.0), *two_sites()[2:]]
    assert place(*events, submitted(data=(1, "b"), max_delay=0)).cost.movement_eur == 0
    assert place(*events, submitted(data=(1, "a"), sites=("b",), max_delay=0)).cost.movement_eur == pytest.approx(1.0)


def test_delay_costs_and_a_small_gain_is_not_worth_a_long_wait():
    falling = [50.0] * 80
    falling[20] = 49.0
    events = [*two_sites(a=falling), submitted()]
    assert place(*events, delay_eur_per_job_h=0.001).start_at == T0
    waited = place(*events, delay_eur_per_job_h=0.0000001)
    assert waited.start_at == at(20)
    assert waited.cost.delay_eur == pytest.approx(20 * 0.0000001)


def test_of_equal_costs_the_earliest_start_wins():
    assert place(*flat("a", "b"), submitted(), delay_eur_per_job_h=0.0).start_at == T0


def test_negative_prices_are_used_as_they_are():
    negative = [10.0] * 80
    negative[5] = -30.0
    placed = place(*two_sites(a=negative), submitted(runs=1))
    assert placed.start_at == at(5)
    assert placed.cost.energy_eur < 0


def test_a_run_over_the_turn_of_an_hour_pays_each_hour_at_its_price():
    events = [site("a"), prices("a", 10, 30, 1000, 1000), carbon("a"), submitted(hours=0.5, runs=1.0, max_delay=0)]
    placed = place(*events, now=0.5)
    assert placed.cost.energy_eur == pytest.approx(0.00001 * (0.5 * 10 + 0.5 * 30))


def test_a_long_run_is_priced_by_its_first_week():
    placed = place(*flat("a", price=100), submitted(runs=24 * 30, max_delay=0))
    assert placed.cost.energy_eur == pytest.approx(0.01 * 24 * 30 * 0.1)


@pytest.mark.parametrize(
    ("limits", "latest", "words"),
    [
        ({"max_delay": 4}, 4, "the maximum delay of 4 h"),
        ({"deadline": 5}, 4, "the deadline 2023-06-01T05:00+00:00"),
        ({"max_delay": 4.5}, 4, "the maximum delay of 4.5 h"),
        ({"max_delay": 0.5}, 0, "the maximum delay of 0.5 h"),
    ],
)
def test_no_start_lies_beyond_the_owners_limit(limits, latest, words):
    falling = [100.0 - hour for hour in range(80)]
    placed = place(*two_sites(a=falling, b=falling), submitted(**limits))
    assert placed.start_at == at(latest)
    assert placed.reason is PlacementReason.DEADLINE
    assert placed.bound_by == words


def test_without_a_limit_starts_reach_as_far_as_the_horizon():
    falling = [100.0 - hour for hour in range(100)]
    placed = place(*two_sites(a=falling, b=falling), submitted(), horizon_h=72)
    assert placed.start_at == at(72)
    assert placed.reason is PlacementReason.LEAST_COST


def test_a_delay_that_has_passed_is_made_no_longer():
    falling = [100.0 - hour for hour in range(80)]
    assert place(*two_sites(a=falling, b=falling), submitted(max_delay=1), now=3.0).start_at == at(3)


def test_allowed_sites_are_kept_and_the_one_that_is_left_says_so():
    placed = place(*two_sites(), submitted(sites=("b",)))
    assert (placed.site, placed.reason, placed.bound_by) == ("b", PlacementReason.ONLY_SITE, "allowed_sites: only b")
    assert place(*two_sites(), submitted(sites=("nowhere", "b"))).site == "b"


@pytest.mark.parametrize(
    ("to", "max_ms", "expected"),
    [("a", 1, "a"), ("b", 1, "b"), ("office", 30, "b"), ("office", 90, "a")],
)
def test_latency_to_a_place_is_kept_and_a_site_is_near_itself(to, max_ms, expected):
    events = [site("a", latency={"office": 80, "b": 50}), site("b", latency={"office": 20, "a": 50})]
    assert place(*events, *two_sites()[2:], submitted(latency=(to, max_ms))).site == expected


@pytest.mark.parametrize(
    "job",
    [
        {"cores": 9},
        {"memory_gib": 65},
        {"gpus": 1},
        {"gpus": 1, "models": ("A100",)},
        {"gpus": 1, "share": 500, "models": ("A100",)},
        {"cores": 8, "pods": 2},
    ],
)
def test_a_job_goes_only_where_every_pod_fits_a_node(job):
    small, big = site("a", node()), site("b", node(cores=16, memory_gib=128, gpus=2, model="A100"))
    placed = place(small, big, *two_sites()[2:], submitted(**job))
    assert placed.site == "b"
    assert placed.bound_by == "size: only b can hold it"


def test_a_pod_is_never_split_over_nodes():
    halves, whole = site("a", node("1", cores=4), node("2", cores=4)), site("b", node(cores=8))
    assert place(halves, whole, *two_sites()[2:], submitted(cores=6)).site == "b"


def test_nodes_that_are_not_ready_hold_nothing():
    placed = place(site("a", node(ready=False)), site("b"), *two_sites()[2:], submitted())
    assert placed.site == "b"


def test_higher_priority_chooses_first_then_the_older():
    events = [site("a"), prices("a", 10, 90, 90, 90), carbon("a")]
    jobs = [
        submitted("late", hours=-1, cores=8, max_delay=9),
        submitted("early", hours=-2, cores=8, max_delay=9),
        submitted("important", hours=0, cores=8, priority=5, max_delay=9),
    ]
    decided = placements(core(*events, *jobs).decide(T0))
    assert [placed.job_id for placed in decided] == ["important", "early", "late"]
    assert [placed.start_at for placed in decided] == [at(0), at(1), at(2)]


def test_a_full_hour_sends_the_next_job_elsewhere_and_says_which_capacity_bound():
    jobs = [submitted(f"{n}", cores=8, max_delay=0) for n in range(2)]
    first, second = placements(core(*two_sites(), *jobs).decide(T0))
    assert (first.site, second.site) == ("a", "b")
    assert second.bound_by == "capacity: a has no room from 2023-06-01T00:00+00:00"
    assert first.alternative is not None
    assert first.alternative.site == "b"


def test_short_jobs_follow_each_other_within_an_hour():
    jobs = [submitted(f"{n}", cores=8, runs=0.25, max_delay=0) for n in range(5)]
    decided = placements(core(site("a"), prices("a", *[50] * 80), carbon("a"), *jobs).decide(T0))
    assert [placed.bound_by.startswith("capacity") for placed in decided] == [False] * 4 + [True]


def test_what_is_left_of_the_present_hour_counts_as_a_whole_one():
    jobs = [submitted(f"{n}", cores=8, runs=0.25, max_delay=0) for n in range(3)]
    decided = placements(core(site("a"), prices("a", *[50] * 80), carbon("a"), *jobs).decide(at(0.5)))
    assert [placed.bound_by.startswith("capacity") for placed in decided] == [False, False, True]


def test_full_everywhere_the_job_queues_at_the_least_loaded_site_and_is_not_lost():
    events = [site("a"), site("b", node("1"), node("2")), *two_sites()[2:]]
    jobs = [submitted(f"{n}", cores=8, max_delay=0) for n in range(6)]
    decided = placements(core(*events, *jobs).decide(T0))
    assert len(decided) == 6
    # three fit; of those that do not, the first two keep the doubled load of each site even
    assert [placed.site for placed in decided] == ["a", "b", "b", "a", "b", "b"]
    for placed in decided[3:]:
        assert placed.start_at == T0
        assert placed.bound_by == (
            "capacity: no feasible site has room within the maximum delay of 0 h; waits in the site's queue"
        )


def test_a_full_site_within_the_delay_defers_the_job_to_when_there_is_room():
    jobs = [submitted(f"{n}", cores=8, runs=2, max_delay=24) for n in range(3)]
    decided = placements(core(*flat("a"), *jobs).decide(T0))
    assert [placed.start_at for placed in decided] == [at(0), at(2), at(4)]


def test_devices_of_each_model_are_counted_apart():
    events = [site("a", node("1", gpus=1, model="V100"), node("2", gpus=1, model="T4")), *two_sites()[2:3], carbon("a")]
    jobs = [
        submitted("0", gpus=1, models=("V100",), max_delay=0),
        submitted("1", gpus=1, models=("V100",), max_delay=0),
        submitted("2", gpus=1, max_delay=0),
        submitted("3", gpus=1, max_delay=0),
    ]
    decided = placements(core(*events, *jobs).decide(T0))
    assert [placed.bound_by.startswith("capacity") for placed in decided] == [False, True, True, True]
    # without the second V100 job there is a T4 for the third
    decided = placements(core(*events, jobs[0], jobs[2], jobs[3]).decide(T0))
    assert [placed.bound_by.startswith("capacity") for placed in decided] == [False, False, True]


def test_shares_of_a_device_add_up():
    events = [site("a", node(gpus=1)), *two_sites()[2:3], carbon("a")]
    jobs = [submitted(f"{n}", cores=0, gpus=1, share=400, max_delay=0) for n in range(3)]
    decided = placements(core(*events, *jobs).decide(T0))
    assert [placed.bound_by.startswith("capacity") for placed in decided] == [False, False, True]


def test_a_grid_event_caps_the_power_in_its_window():
    # 100 W idle and 10 W a core: 140 W leave 4 cores
    events = [*flat("a"), cap("a", 140, 0, 3)]
    jobs = [submitted(f"{n}", cores=4, max_delay=9) for n in range(3)]
    decided = placements(core(*events, *jobs).decide(T0))
    assert [placed.start_at for placed in decided] == [at(0), at(1), at(2)]
    whole = placements(core(*events, submitted(cores=8, max_delay=9)).decide(T0))
    assert only(whole).start_at == at(3)


def test_a_cancelled_grid_event_caps_nothing():
    events = [*flat("a"), cap("a", 100, 0, 3), cap("a", 100, 0, 3, status="cancelled", announced=1)]
    assert place(*events, submitted(cores=8, max_delay=9)).start_at == T0


def test_a_fresh_forecast_reaches_beyond_what_is_published():
    dip = [80.0] * 72
    dip[40] = 1.0
    events = [*flat("a")[:1], prices("a", *[80] * 24), carbon("a"), forecast("a", "price_eur_per_mwh", dip)]
    assert place(*events, submitted()).start_at == at(40)


def test_published_values_win_over_a_forecast():
    dip, published = [80.0] * 72, [80.0] * 24
    dip[10] = 1.0
    published[5] = 2.0
    events = [site("a"), prices("a", *published), carbon("a"), forecast("a", "price_eur_per_mwh", dip)]
    assert place(*events, submitted()).start_at == at(5)


def test_a_stale_forecast_is_not_used():
    dip = [80.0] * 72
    dip[40] = 1.0
    events = [site("a"), prices("a", *[80] * 24), carbon("a"), forecast("a", "price_eur_per_mwh", dip, issued=-4)]
    assert place(*events, submitted(), now=0).start_at == T0


def test_no_start_lies_in_an_hour_without_a_price():
    falling = [100.0 - hour for hour in range(10)]
    assert place(site("a"), prices("a", *falling), carbon("a"), submitted()).start_at == at(9)


@pytest.mark.parametrize(
    "known",
    [
        [],
        [prices("home", *[50] * 80), prices("a", *[50] * 80)],
        [carbon("home"), carbon("a")],
        [prices("home", 50, start=-30), carbon("home")],
        [prices("home", None, None), carbon("home")],
    ],
    ids=["nothing", "no carbon", "no price", "a price of yesterday", "nothing but gaps"],
)
def test_without_prices_or_carbon_a_job_runs_at_home_at_once(known):
    placed = place(site("a"), site("home"), *known, submitted(home="home"))
    assert (placed.site, placed.start_at) == ("home", T0)
    assert placed.reason is PlacementReason.NO_FORECAST
    assert placed.bound_by == "prices or carbon intensity are unknown"


def test_without_prices_and_room_at_home_it_runs_elsewhere_at_once():
    jobs = [submitted(f"{n}", cores=8, home="home") for n in range(3)]
    decided = placements(core(site("a"), site("home"), *jobs).decide(T0))
    assert [placed.site for placed in decided] == ["home", "a", "a"]
    assert "no feasible site has room" in decided[2].bound_by


def test_without_prices_and_a_home_the_first_allowed_site_is_home():
    assert place(site("a"), site("b"), submitted(sites=("b", "a"))).site == "b"


def test_a_site_without_prices_is_left_out_while_another_has_them():
    placed = place(site("a"), site("b"), prices("b", *[500] * 80), carbon("b"), submitted(home="a"))
    assert (placed.site, placed.reason) == ("b", PlacementReason.LEAST_COST)


def test_at_a_carbon_price_of_zero_carbon_need_not_be_known():
    placed = place(site("a"), prices("a", *[50] * 80), submitted(max_delay=0), carbon_eur_per_t=0)
    assert placed.reason is not PlacementReason.NO_FORECAST


def test_a_batch_has_a_bound_and_the_rest_follows_in_the_next():
    cmo = core(*flat("a"), *[submitted(f"{n}") for n in range(5)], batch_jobs=2)
    assert [len(cmo.decide(T0)) for _ in range(4)] == [2, 2, 1, 0]


def test_a_sites_own_generation_takes_its_share_off_price_and_carbon():
    # Both cost the same; at full use each takes 100 W idle and 80 W for its cores, and "b" makes half of that itself.
    made = core(*flat("a", "b"), series("b", "on_site_w", [90.0] * 24))
    made.fold(submitted(cores=8, max_delay=0))
    placed = only(placements(made.decide(at(0))))
    assert placed.site == "b"
    assert placed.cost.energy_eur == pytest.approx(0.08 * 50 / 1000 / 2)


def test_generation_that_is_not_published_is_not_counted_on():
    made = core(*flat("a", "b"), series("b", "on_site_w", [90.0] * 24, start=-24))
    made.fold(submitted(cores=8, max_delay=0))
    assert only(placements(made.decide(at(0)))).site == "a"


@pytest.mark.parametrize(
    ("best", "taken", "limit", "says"),
    [
        ((3, 4, 6), False, 9, ""),
        ((3, 4, 6), True, 9, "capacity: a has no room from 2023-06-01T03:00+00:00"),
        ((3, 4, 5), False, 3, "the maximum delay of 3 h"),
        ((0, 1, 5), False, 3, ""),
        ((0, 1, 2), False, 0, "the maximum delay of 0 h"),
    ],
)
def test_what_bound_a_job_that_may_pause_is_said_of_its_plan(best, taken, limit, says):
    hours = [10.0 if hour in best else 200.0 for hour in range(80)]
    cmo = core(*two_sites(a=hours, b=[300.0] * 80))
    if taken:
        cmo.fold(submitted("x", cores=8, runs=2, max_delay=72, sites=("a",)))
        assert only(cmo.decide(T0)).start_at == at(3)
    cmo.fold(submitted("j", cores=8, runs=3, max_delay=limit, suspendable=True))
    placed = only(cmo.decide(T0))
    assert placed.bound_by == says
    assert placed.start_at == at(best[0]) or taken
    assert (placed.reason is PlacementReason.DEADLINE) == says.startswith("the maximum delay")
