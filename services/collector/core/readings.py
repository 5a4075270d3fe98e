"""Metric series that are meters of runs, to readings that the CMO bills by.

Two metrics are meant: ``solyx_workload_joules_total``, a counter of energy, and ``solyx_workload_watts``, a gauge of power. Their labels say
whose they are: ``site``, ``workload`` (the job's id) and ``revision``; ``pod`` and ``part`` (``cpu`` or ``gpu``; without it all of the pod) are
optional, and any others tell two meters apart. README.md shows how they are made from Kepler's.

Not every reading of a meter is handed on: one in ``EVERY_S``, and of a meter that has been there for long one in a fortieth of that time, at
most ``RARELY_S``. What is billed by the hour needs no more, what is lost at a run's end stays small, and whoever reads the topic from its
beginning has hundreds of readings of a meter's day and not thousands.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from services.collector.core.series import batches, instant
from solyx.events import WorkloadEnergyRead

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from services.collector.core.series import Sample
    from solyx.events import Event

EVERY_S = 15.0
RARELY_S = 240.0  # below the gap of five minutes after which nobody knows the power that a gauge shows
_SHARE = 1.0 / 40.0
MAX_METERS = 200_000
"""Meters whose last reading is remembered; past it the memory is emptied and fills again: a reading too many harms nobody."""

PREFIX = "solyx_workload_"
_FIELDS = {"solyx_workload_joules_total": "joules", "solyx_workload_watts": "watts"}
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')
_ESCAPED = re.compile(r"\\(.)")


class BadMeter(Exception):  # noqa: N818 - says which label is wrong
    """A series of one of the two metrics that cannot be billed by; says why and what to do."""


class Meters:
    """Finds readings among samples; remembers when it last handed one on."""

    def __init__(self) -> None:
        self._told: dict[str, tuple[float, float]] = {}  # by series: the first, and the last that was handed on
        self._bad: set[str] = set()

    def events(self, by_source: Mapping[str, Iterable[Sample]]) -> tuple[list[Event], list[str]]:
        """Everything as it is, then the readings in it; and complaints, one for each series that is wrong."""
        events: list[Event] = []
        readings: list[Event] = []
        complaints: list[str] = []
        for source, samples in by_source.items():
            kept = list(samples)
            events.extend(batches(source, kept))
            for sample in kept:
                if sample[0].startswith(PREFIX):
                    self._read(sample, readings, complaints)
        return events + readings, complaints

    def _read(self, sample: Sample, readings: list[Event], complaints: list[str]) -> None:
        series, _, at_s = sample
        first_s, last_s = self._told.get(series, (at_s, at_s))
        if 0.0 < at_s - last_s < min(max(EVERY_S, (at_s - first_s) * _SHARE), RARELY_S):
            return  # but the same again passes: its sender may repeat what was not safe
        try:
            reading = reading_of(sample)
        except BadMeter as error:
            if series not in self._bad and len(self._bad) < MAX_METERS:
                self._bad.add(series)
                complaints.append(str(error))
            return
        if reading is not None:
            if len(self._told) >= MAX_METERS:
                self._told.clear()
            self._told[series] = first_s, at_s
            readings.append(reading)


def reading_of(sample: Sample) -> WorkloadEnergyRead | None:
    """The reading that a sample is; None: another metric.

    Raises:
        BadMeter: a label is missing or does not fit, or the value is negative.
    """
    series, value, at_s = sample
    name, _, rest = series.partition("{")
    field = _FIELDS.get(name)
    if field is None:
        return None
    labels = {label: _ESCAPED.sub(_unescaped, text) for label, text in _LABEL.findall(rest)}
    for label in ("site", "workload", "revision"):
        if not labels.get(label):
            raise BadMeter(f"{series[:200]} has no label {label}; it must say whose it is: site, workload and revision")
    document = {
        "site": labels["site"],
        "job_id": labels["workload"],
        "revision": int(labels["revision"]) if labels["revision"].isdecimal() else 0,
        "meter": rest.removesuffix("}") + f"/{field}",
        "pod": labels.get("pod", ""),
        "part": labels.get("part", "all"),
        field: value,
    }
    try:
        return msgspec.convert(document | {"at": instant(at_s)}, WorkloadEnergyRead)
    except (msgspec.ValidationError, OverflowError) as error:
        cure = "revision is a whole number from 1 on, part is cpu, gpu or all, and nothing is below 0"
        raise BadMeter(f"{series[:200]} {value:g}: {error}; {cure}") from error


def _unescaped(match: re.Match[str]) -> str:
    return "\n" if match[1] == "n" else match[1]
