"""Preemption planned for the whole federation, against a model that looks at every site and every set."""

import math
from datetime import timedelta
from itertools import chain, combinations

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.cmo.core.cover import cheapest_cover
from tests.unit.cmo.cmo_builders import at, carbon, core, node, only, placements, prices, running, site, submitted

MODEST = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
NAMES, CORES, RUNS_H, NOW_H = ("a", "b", "c"), 8, 1000.0, 20.0
DELAY, RESTART_H, GRACE_H = 0.01, 60 / 3600, 30 / 3600


def subsets(things):
    return chain.from_iterable(combinations(things, count) for count in range(len(things) + 1))


@settings(max_examples=200)
@given(st.data(), st.integers(1, 3), st.integers(0, 8))
def test_a_cover_costs_no_more_than_any_other(data, things, count):
    needs = np.array(data.draw(st.lists(st.integers(0, 9), min_size=things, max_size=things)), np.int64)
    row = st.lists(st.integers(0, 6), min_size=things, max_size=things)
    offers = np.array(data.draw(st.lists(row, min_size=count, max_size=count)), np.int64).reshape(count, things)
    costs = np.array(data.draw(st.lists(st.floats(0.01, 10), min_size=count, max_size=count)))
    enough = [one for one in subsets(range(count)) if (offers[list(one)].sum(axis=0) >= needs).all()]
    found = cheapest_cover(needs, offers, costs)
    if not enough:
        assert found is None
        return
    assert found in enough
    least = min(sum(costs[index] for index in one) for one in enough)
    assert math.isclose(sum(costs[index] for index in found), least, abs_tol=1e-9)


@given(st.lists(st.tuples(st.integers(1, 40), st.floats(0.01, 10)), min_size=9, max_size=120), st.floats(0.1, 1.0))
def test_of_many_nobody_is_taken_who_can_be_spared(members, share):
    offers = np.array([[offer] for offer, _ in members], np.int64)
    costs = np.array([cost for _, cost in members])
    needs = np.array([max(1, int(offers.sum() * share))], np.int64)
    found = cheapest_cover(needs, offers, costs)
    assert found is not None
    total = offers[list(found)].sum()
    assert total >= needs[0]
    assert all(total - offers[index, 0] < needs[0] for index in found)


running_of = st.fixed_dictionaries(
    {
        "cores": st.sampled_from([1, 2, 3, 4]),
        "priority": st.integers(0, 2),
        "preemptible": st.sampled_from([True, True, True, True, True, False]),
        "suspendable": st.booleans(),
        "began": st.floats(0, 19),
    }
)
# Each site is full but for the last one's cores at most: it takes what the others leave, or leaves that free.
crowd = st.tuples(st.lists(running_of, min_size=2, max_size=5), st.sampled_from([True, True, True, False]))
federations = st.tuples(crowd, crowd, crowd)
costs_of = st.lists(st.sampled_from([10.0, 50.0, 300.0]), min_size=3, max_size=3)


def federation(drawn, eur_per_mwh):
    """A core that knows all of these as running; and by site what runs there, as the model sees it."""
    events, model = [], {}
    for name, price, (asked, fills) in zip(NAMES, eur_per_mwh, drawn, strict=True):
        events += [site(name, node(cores=CORES)), prices(name, *[price] * 200, start=-24), carbon(name)]
        model[name], left = [], CORES
        for number, one in enumerate(asked):
            cores = left if fills and number == len(asked) - 1 else min(left, one["cores"])
            if not cores:
                break
            left -= cores
            one = {**one, "cores": cores}  # noqa: PLW2901
            options = {key: value for key, value in one.items() if key != "began"}
            job = submitted(f"{name}{number}", runs=RUNS_H, hours=one["began"], **options)
            events += running(job, name, one["began"])
            model[name].append((job, one))
    return core(*events, delay_eur_per_job_h=DELAY), model


def free(model, name, without=()) -> int:
    return CORES - sum(one["cores"] for job, one in model[name] if job.job_id not in without)


def loss_eur(model, name, one, price, head_h):
    """Work done again at this price, and the delay; ten watts a core."""
    redo_h = RESTART_H if one["suspendable"] else NOW_H - one["began"]
    elsewhere = any(free(model, other) >= one["cores"] for other in NAMES if other != name)
    wait_h = 0.0 if elsewhere else head_h
    return one["cores"] * 1e-5 * price * redo_h + DELAY * (redo_h + GRACE_H + wait_h)


def scores(model, eur_per_mwh, cores, priority, head_h):
    """Of every site and set that makes room: the highest priority that is stopped, and what it costs."""
    for name, price in zip(NAMES, eur_per_mwh, strict=True):
        may = [(job, one) for job, one in model[name] if one["preemptible"] and one["priority"] < priority]
        for chosen in subsets(may):
            ids = frozenset(job.job_id for job, _ in chosen)
            if free(model, name, ids) < cores:
                continue
            highest = max((one["priority"] for _, one in chosen), default=-math.inf)
            loss = sum(loss_eur(model, name, one, price, head_h) for _, one in chosen)
            yield (name, ids), (highest, loss + cores * 1e-5 * price * head_h)


@MODEST
@given(federations, costs_of, st.sampled_from([2, 4, 5, 8]), st.integers(1, 3), st.sampled_from([1.0, 3.0]))
def test_the_site_and_the_victims_cost_no_more_than_any_other(drawn, eur_per_mwh, cores, priority, head_h):
    cmo, model = federation(drawn, eur_per_mwh)
    assert not placements(cmo.decide(at(NOW_H)))
    cmo.fold(submitted("head", hours=NOW_H, cores=cores, priority=priority, runs=head_h, max_delay=0))
    head = only(placements(cmo.decide(at(NOW_H))))
    named = frozenset(victim.job_id for victim in head.victims)
    if any(free(model, name) >= cores for name in NAMES):
        assert not named
        return
    known = dict(scores(model, eur_per_mwh, cores, priority, head_h))
    if not known:
        assert not named
        return
    least = min(known.values())
    highest, eur = known[head.site, named]
    assert highest == least[0]
    assert eur <= least[1] + 1e-7 * len(named) + 1e-9


@MODEST
@given(federations, st.integers(2, 4), st.lists(st.sampled_from([2, 4, 8]), min_size=2, max_size=4))
def test_no_victim_is_named_for_two_jobs_and_none_of_its_own_rank(drawn, priority, sizes):
    cmo, model = federation(drawn, (50.0, 50.0, 50.0))
    for number, cores in enumerate(sizes):
        cmo.fold(submitted(f"head{number}", hours=NOW_H, cores=cores, priority=priority, max_delay=0))
    heads = placements(cmo.decide(at(NOW_H)))
    named = [victim.job_id for head in heads for victim in head.victims]
    assert len(named) == len(set(named))
    ranks = {job.job_id: (name, one) for name in NAMES for job, one in model[name]}
    for head in heads:
        for victim in head.victims:
            name, one = ranks[victim.job_id]
            assert name == head.site
            assert one["preemptible"]
            assert one["priority"] < priority
    for name in NAMES:  # whoever is told that room is made finds it, with all the others for whom it is made
        told = [head for head in heads if head.site == name and "made room" in head.bound_by]
        if told:
            cores = sum(head.spec.resources.cpu_milli // 1000 for head in told)
            assert free(model, name, set(named)) >= cores
    assert cmo.decide(at(NOW_H) + timedelta(seconds=1)) == []
