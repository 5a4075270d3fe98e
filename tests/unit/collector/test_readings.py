"""Samples that are meters of runs become readings; others do not."""

from datetime import UTC, datetime
from itertools import pairwise

import pytest

from services.collector.core.readings import EVERY_S, RARELY_S, BadMeter, Meters, reading_of
from services.collector.core.series import canonical
from solyx.events import MetricsScraped, WorkloadEnergyRead

AT_S = 1_700_000_000.0
LABELS = {"site": "berlin", "workload": "01job", "revision": "2", "pod": "train-0", "part": "cpu", "zone": "package"}


def series(metric="solyx_workload_joules_total", **labels):
    return canonical({"__name__": metric, **LABELS, **labels})


def readings(events):
    return [event for event in events if isinstance(event, WorkloadEnergyRead)]


def test_a_counter_becomes_a_reading():
    reading = reading_of((series(), 1234.5, AT_S))
    assert reading is not None
    assert (reading.site, reading.job_id, reading.revision) == ("berlin", "01job", 2)
    assert (reading.pod, reading.part, reading.joules, reading.watts) == ("train-0", "cpu", 1234.5, None)
    assert reading.at == datetime.fromtimestamp(AT_S, UTC)


def test_a_gauge_of_the_same_pod_is_another_meter():
    counter, gauge = reading_of((series(), 1.0, AT_S)), reading_of((series("solyx_workload_watts"), 80.0, AT_S))
    assert counter is not None
    assert gauge is not None
    assert (gauge.watts, gauge.joules) == (80.0, None)
    assert counter.meter != gauge.meter
    assert reading_of((series(zone="dram"), 1.0, AT_S)).meter != counter.meter


def test_pod_and_part_may_be_left_out():
    reading = reading_of((series(pod="", part=""), 1.0, AT_S))
    assert (reading.pod, reading.part) == ("", "all")


def test_escaped_labels_are_read_as_they_were_written():
    assert reading_of((series(pod='a"b\\c\n,d="e"'), 1.0, AT_S)).pod == 'a"b\\c\n,d="e"'


@pytest.mark.parametrize(
    ("labels", "value", "words"),
    [
        ({"site": ""}, 1.0, "has no label site"),
        ({"workload": ""}, 1.0, "has no label workload"),
        ({"revision": ""}, 1.0, "has no label revision"),
        ({"revision": "two"}, 1.0, "revision is a whole number from 1 on"),
        ({"revision": "0"}, 1.0, "revision"),
        ({"part": "fan"}, 1.0, "part is cpu, gpu or all"),
        ({}, -1.0, "nothing is below 0"),
    ],
)
def test_a_meter_that_cannot_be_billed_by_is_told_with_the_label_and_the_cure(labels, value, words):
    with pytest.raises(BadMeter, match=words):
        reading_of((series(**labels), value, AT_S))
    events, complaints = Meters().events({"berlin": [(series(**labels), value, AT_S + n) for n in range(3)]})
    assert readings(events) == []
    assert len(complaints) == 1


def test_other_metrics_are_no_readings_and_all_samples_are_kept():
    samples = [("up", 1.0, AT_S), (series("solyx_workload_other"), 1.0, AT_S), (series(), 1.0, AT_S)]
    events, complaints = Meters().events({"berlin": samples})
    (scraped,) = [event for event in events if isinstance(event, MetricsScraped)]
    assert len(scraped.series) == 3
    assert len(readings(events)) == 1
    assert complaints == []


def test_of_each_meter_one_reading_in_a_while_is_handed_on_and_a_repeat_again():
    meters = Meters()
    told = [
        [reading.joules for reading in readings(meters.events({"b": [(series(), stand, AT_S + after)]})[0])]
        for stand, after in ((1.0, 0.0), (2.0, EVERY_S - 1), (3.0, EVERY_S), (3.0, EVERY_S), (4.0, EVERY_S + 1))
    ]
    assert told == [[1.0], [], [3.0], [3.0], []]


@pytest.mark.parametrize(("minutes", "most"), [(10, 41), (60, 120), (1440, 520)])
def test_of_a_meter_that_has_been_there_for_long_fewer_are_handed_on_and_never_too_few(minutes, most):
    meters = Meters()
    samples = [(series(), float(n), AT_S + 15.0 * n) for n in range(minutes * 4 + 1)]
    times = [reading.at.timestamp() - AT_S for reading in readings(meters.events({"b": samples})[0])]
    assert len(times) <= most
    assert all(later - earlier <= RARELY_S for earlier, later in pairwise(times))
    assert minutes * 60 - times[-1] <= max(EVERY_S, minutes * 60 / 40)
