"""solyx/energy.py: the one formula for energy, cost and carbon."""

from datetime import UTC, datetime, timedelta

import pytest

from solyx.energy import HourlySeries, curve_of, dynamic_power_w, run_bill
from solyx.events import DeviceRequest, JobSpec, PowerModel, Resources

T0 = datetime(2023, 6, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def curve(*values: float | None, start: datetime = T0, step_s: float = 3600.0):
    result = curve_of(start, step_s, values)
    assert result is not None
    return result


def test_a_run_within_an_hour_pays_that_hours_price():
    bill = run_bill(
        power_w=1000,
        start=T0 + 1.25 * HOUR,
        end=T0 + 1.75 * HOUR,
        price=curve(50, 100, 200),
        carbon=curve(300, 400, 500),
    )
    assert bill.energy_kwh == pytest.approx(0.5)
    assert bill.cost_eur == pytest.approx(0.5 * 0.1)
    assert bill.carbon_kg == pytest.approx(0.5 * 0.4)
    assert bill.held_h == 0


def test_a_run_over_several_hours_pays_each_at_its_price():
    bill = run_bill(power_w=2000, start=T0 + 0.5 * HOUR, end=T0 + 2.5 * HOUR, price=curve(10, 20, 40), carbon=None)
    assert bill.cost_eur == pytest.approx(2 * (0.5 * 0.010 + 1 * 0.020 + 0.5 * 0.040))
    assert bill.carbon_kg == 0
    assert bill.held_h == pytest.approx(2.0)


def test_negative_prices_pay_the_run():
    assert run_bill(power_w=1000, start=T0, end=T0 + HOUR, price=curve(-60), carbon=curve(0)).cost_eur == pytest.approx(
        -0.06
    )


def test_a_run_that_ends_before_it_starts_costs_nothing():
    bill = run_bill(power_w=1000, start=T0 + HOUR, end=T0, price=curve(10), carbon=curve(10))
    assert (bill.energy_kwh, bill.cost_eur, bill.carbon_kg, bill.held_h) == (0, 0, 0, 0)


def test_a_missing_value_holds_the_last_known_one_and_says_so():
    bill = run_bill(power_w=1000, start=T0, end=T0 + 3 * HOUR, price=curve(30, None, 60), carbon=curve(100, 100, 100))
    assert bill.cost_eur == pytest.approx(0.030 + 0.030 + 0.060)
    assert bill.held_h == pytest.approx(1.0)


def test_outside_the_published_span_the_nearest_value_is_held_and_said_so():
    flat = curve(40, 80)
    assert flat.cost_between(T0 - HOUR, T0 + 3 * HOUR) == pytest.approx(40 + 40 + 80 + 80)
    assert flat.held_h_between(T0 - HOUR, T0 + 3 * HOUR) == pytest.approx(2.0)
    assert (flat.at(T0 - HOUR), flat.at(T0 + HOUR), flat.at(T0 + 9 * HOUR)) == (40, 80, 80)


def test_leading_gaps_are_no_part_of_the_curve_and_a_series_of_gaps_has_none():
    assert curve(None, 7).start_hour == curve(7).start_hour + 1
    assert curve_of(T0, 3600.0, (None, None)) is None
    assert HourlySeries().curve() is None


def test_quarter_hours_are_averaged_and_long_steps_repeated():
    assert curve(10, 20, 30, 40, step_s=900).values.tolist() == [25]
    assert curve(10, 20, step_s=7200).values.tolist() == [10, 10, 20, 20]
    assert curve(10, 20, start=T0 + 0.5 * HOUR).values.tolist() == [10, 15, 20]


def test_a_later_record_replaces_and_a_missing_value_does_not_erase():
    series = HourlySeries()
    series.add(T0, 3600.0, (1, 2, 3))
    series.add(T0 + HOUR, 3600.0, (20, None))
    known = series.curve()
    assert known is not None
    assert known.values.tolist() == [1, 20, 3]
    assert not known.held.any()


def test_forgetting_keeps_the_last_known_value():
    series = HourlySeries()
    series.add(T0, 3600.0, (1, 2, 3))
    first = curve(1).start_hour
    series.forget_before(first + 2)
    assert series.curve().values.tolist() == [3]
    series.forget_before(first + 50)
    assert series.curve().values.tolist() == [3]


def test_power_counts_all_pods_and_shares_of_devices():
    spec = JobSpec(
        name="train",
        image="i",
        resources=Resources(cpu_milli=4000, devices=(DeviceRequest(count=1, share_milli=500),)),
        duration_estimate_s=60,
        parallelism=2,
    )
    assert dynamic_power_w(spec, PowerModel(w_per_core=6, w_per_gpu=300, pue=1.25)) == pytest.approx(
        1.25 * (6 * 8 + 300 * 1)
    )
