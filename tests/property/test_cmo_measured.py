"""What holds of measured energy whatever the meters read, and however often that is told."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.cmo.core.metering import run_usage
from services.cmo.core.readings import Readings
from solyx.events import JobSpec, PowerModel, Resources, WorkloadEnergyRead
from tests.unit.cmo.cmo_builders import at

MODEST = settings(max_examples=150, deadline=None)
POWER = PowerModel(w_per_core=10, w_per_gpu=300, pue=1.25)
PODS = ("p0", "p1", "p2")
HOURS = 6.0

increments = st.lists(
    st.tuples(st.sampled_from(PODS), st.sampled_from(("all", "cpu", "gpu")), st.floats(0.01, 0.9), st.floats(0, 1e6)),
    max_size=40,
)


def readings(draws):
    """Counters that grow, each by its own clock; and what they counted in all."""
    stands: dict[tuple[str, str], tuple[float, float]] = {}
    events, total = [], 0.0
    for pod, part, hours, joules in draws:
        begun = (pod, part) in stands
        at_h, stand = stands.get((pod, part), (0.0, 1e7))
        at_h, stand = (at_h + hours, stand + joules) if begun else (at_h, stand)
        if at_h > HOURS:
            continue
        total += joules if begun else 0.0
        stands[pod, part] = at_h, stand
        events.append(
            WorkloadEnergyRead(
                site="a", job_id="j", revision=1, meter=f"{pod}/{part}", pod=pod, part=part, joules=stand, at=at(at_h)
            )
        )
    return events, total


def usage(events, start=0.0, end=HOURS, pods=3):
    kept = Readings()
    for event in events:
        kept.fold(event)
    spec = JobSpec(name="j", image="i", resources=Resources(cpu_milli=4000), duration_estimate_s=3600, parallelism=pods)
    return run_usage(spec, POWER, start=at(start), end=at(end), price=None, carbon=None, traces=kept.of("j", 1))


@MODEST
@given(increments)
def test_all_that_was_counted_within_the_run_is_billed_once(draws):
    events, total = readings(draws)
    assert usage(events).measured_kwh == pytest.approx(1.25 * total / 3.6e6, rel=1e-6, abs=1e-9)


@MODEST
@given(increments, st.randoms(use_true_random=False))
def test_repeats_and_interleavings_of_meters_change_nothing(draws, random):
    events, _ = readings(draws)
    queues = {}
    for event in events:
        queues.setdefault(event.meter, []).append(event)
    mixed = []
    while queues:
        meter = random.choice(sorted(queues))
        mixed.append(queues[meter].pop(0))
        mixed += random.sample(mixed, min(len(mixed), random.randrange(3)))
        if not queues[meter]:
            del queues[meter]
    once, again = usage(events), usage([*mixed, *events])
    assert again.measured_kwh == pytest.approx(once.measured_kwh, rel=1e-9)
    assert again.energy_kwh == pytest.approx(once.energy_kwh, rel=1e-9)


@MODEST
@given(increments, st.floats(0, HOURS))
def test_the_bills_of_two_halves_are_the_bill_of_the_whole(draws, cut):
    events, _ = readings(draws)
    whole, halves = usage(events), usage(events, 0.0, cut).plus(usage(events, cut, HOURS))
    assert halves.energy_kwh == pytest.approx(whole.energy_kwh, rel=1e-6, abs=1e-6)
    assert halves.measured_kwh == pytest.approx(whole.measured_kwh, rel=1e-6, abs=1e-6)


@MODEST
@given(increments)
def test_what_is_not_measured_is_modelled_and_never_below_nothing(draws):
    events, _ = readings(draws)
    found, modelled = usage(events), usage([])
    assert modelled.measured_kwh == 0.0
    assert modelled.energy_kwh == pytest.approx(POWER.dynamic_w(cores=12, gpus=0) * HOURS / 1000)
    assert -1e-9 <= found.energy_kwh - found.measured_kwh <= modelled.energy_kwh + 1e-9
    assert (found.cpu_h, found.gpu_h) == (modelled.cpu_h, modelled.gpu_h)
    assert usage([], 0.0, 0.0).energy_kwh == 0.0
