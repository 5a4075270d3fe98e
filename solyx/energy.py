"""What a run costs in energy, money and carbon: the one formula that decisions and reports share.

A job's dynamic power is ``pue × (W per core × cores + W per GPU × GPUs)`` while it runs; its energy, cost and carbon are the
integrals of that power over the hourly price and carbon intensity of its site. The idle floor of a site belongs to no job.
Integrals are differences of prefix sums, so that asking for a thousand starts costs as much as asking for one.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import floor
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from numpy.typing import NDArray

    from solyx.events import DataSet, JobSpec, PowerModel

HOUR_S = 3600.0

# A GPU of the energy model is any accelerator: thousandths of devices summed over kinds.
_MILLI = 1000.0
_GIB = 1024**3


def hour_of(moment: datetime) -> int:
    """Whole hours from the Unix epoch to ``moment``."""
    return floor(moment.timestamp() / HOUR_S)


@dataclass(frozen=True, kw_only=True)
class HourlyCurve:
    """A quantity that is constant over each hour, from ``start_hour`` on. Outside, its first and last values are held.

    ``held[k]`` says that no value was published for hour k, and the last known one before it stands there.
    """

    start_hour: int  # hours since the Unix epoch
    values: NDArray[np.float64]  # at least one
    held: NDArray[np.bool_]
    prefix: NDArray[np.float64]  # prefix[k]: integral over the first k hours
    held_prefix: NDArray[np.float64]  # the same of `held`, hours

    @classmethod
    def of(cls, start_hour: int, values: NDArray[np.float64], held: NDArray[np.bool_] | None = None) -> HourlyCurve:
        """A curve over ``values``, none of which is missing."""
        marks = np.zeros(len(values), dtype=np.bool_) if held is None else held
        return cls(
            start_hour=start_hour,
            values=values,
            held=marks,
            prefix=np.concatenate(([0.0], np.cumsum(values))),
            held_prefix=np.concatenate(([0.0], np.cumsum(marks.astype(np.float64)))),
        )

    @property
    def end_hour(self) -> int:
        """The first hour after the curve."""
        return self.start_hour + len(self.values)

    def at(self, moment: datetime) -> float:
        """The value at ``moment``."""
        index = min(max(hour_of(moment) - self.start_hour, 0), len(self.values) - 1)
        return float(self.values[index])

    def cost_between(self, start: datetime, end: datetime) -> float:
        """∫ value dt from ``start`` to ``end``, in value × hours; 0 when ``end`` is not after ``start``.

        Times a power in MW and a price in EUR/MWh this is EUR; in kW and gCO2/kWh, grams.
        """
        return self._integral(self._position(end)) - self._integral(self._position(start)) if end > start else 0.0

    def held_h_between(self, start: datetime, end: datetime) -> float:
        """Hours of the span for which no value was published."""
        if end <= start:
            return 0.0
        first, last, size = self._position(start), self._position(end), float(len(self.values))
        outside = max(0.0, min(last, 0.0) - first) + max(0.0, last - max(first, size))
        inside = _interpolate(self.held_prefix, last) - _interpolate(self.held_prefix, first)
        return outside + inside

    def _position(self, moment: datetime) -> float:
        return moment.timestamp() / HOUR_S - self.start_hour

    def _integral(self, position: float) -> float:
        size = len(self.values)
        if position <= 0:
            return position * float(self.values[0])
        if position >= size:
            return float(self.prefix[-1]) + (position - size) * float(self.values[-1])
        return _interpolate(self.prefix, position)


def _interpolate(prefix: NDArray[np.float64], position: float) -> float:
    """A prefix sum at a fractional index; exact, because the summed quantity is constant between indices."""
    clipped = min(max(position, 0.0), len(prefix) - 1.0)
    index = min(int(clipped), len(prefix) - 2)
    return float(prefix[index] + (clipped - index) * (prefix[index + 1] - prefix[index]))


class HourlySeries:
    """Published values of one site and kind, gathered from records that may come in any order and more than once.

    A later record replaces what an earlier one said of the same hours. A missing value is not guessed: it leaves what is
    known as it is, and in the curve the last known value before the gap is held and marked.
    """

    def __init__(self) -> None:
        self._hours: dict[int, float] = {}
        self._curve: HourlyCurve | None = None

    def __bool__(self) -> bool:
        return bool(self._hours)

    def add(self, start: datetime, step_s: float, values: Sequence[float | None]) -> None:
        """Take over ``values[k]`` for [start + k·step_s, start + (k+1)·step_s); steps other than an hour are averaged by time."""
        self._hours.update(_hourly(start.timestamp(), step_s, values))
        self._curve = None

    def forget_before(self, hour: int) -> None:
        """Drop what no decision will ask for any more, but keep the last known value."""
        if not self._hours or min(self._hours) >= hour:
            return
        kept = {known: value for known, value in self._hours.items() if known >= hour}
        if not kept:
            last = max(self._hours)
            kept = {last: self._hours[last]}
        self._hours, self._curve = kept, None

    def curve(self) -> HourlyCurve | None:
        """The values so far with gaps held, or None while nothing is known."""
        if self._curve is None and self._hours:
            self._curve = _filled(self._hours)
        return self._curve


def curve_of(start: datetime, step_s: float, values: Sequence[float | None]) -> HourlyCurve | None:
    """The curve of one record, or None when every value is missing."""
    hours = _hourly(start.timestamp(), step_s, values)
    return _filled(hours) if hours else None


def _hourly(start_s: float, step_s: float, values: Sequence[float | None]) -> dict[int, float]:
    """Mean of the known values of each hour, weighted by how long each holds in it."""
    if step_s == HOUR_S and start_s % HOUR_S == 0:
        first = int(start_s // HOUR_S)
        return {first + index: value for index, value in enumerate(values) if value is not None}
    sums: dict[int, list[float]] = {}
    for index, value in enumerate(values):
        if value is None:
            continue
        begin, end = start_s + index * step_s, start_s + (index + 1) * step_s
        for hour in range(int(begin // HOUR_S), int(-(-end // HOUR_S))):
            weight = min(end, (hour + 1) * HOUR_S) - max(begin, hour * HOUR_S)
            total = sums.setdefault(hour, [0.0, 0.0])
            total[0] += weight * value
            total[1] += weight
    return {hour: total / weight for hour, (total, weight) in sums.items() if weight > 0}


def _filled(hours: dict[int, float]) -> HourlyCurve:
    first, last = min(hours), max(hours)
    values = np.empty(last - first + 1)
    held = np.zeros(last - first + 1, dtype=np.bool_)
    known = hours[first]
    for index in range(len(values)):
        value = hours.get(first + index)
        held[index] = value is None
        known = known if value is None else value
        values[index] = known
    return HourlyCurve.of(first, values, held)


def cores_of(spec: JobSpec) -> float:
    """Cores that all pods of the job use."""
    return spec.resources.cpu_milli / _MILLI * spec.parallelism


def gpus_of(spec: JobSpec) -> float:
    """Accelerators that all pods of the job use; a shared one counts by its share."""
    return spec.resources.gpu_milli / _MILLI * spec.parallelism


def dynamic_power_w(spec: JobSpec, power: PowerModel) -> float:
    """Power of the job above the site's idle floor, at the meter, in W."""
    return power.dynamic_w(cores=cores_of(spec), gpus=gpus_of(spec))


def movement_eur(data: DataSet | None, *, to_site: str, egress_eur_per_gib: float) -> float:
    """What moving a job's data to the site of a run costs, at the egress price of where the data lies."""
    return 0.0 if data is None or data.site == to_site else data.size_bytes / _GIB * egress_eur_per_gib


@dataclass(frozen=True, kw_only=True)
class RunBill:
    """What a stretch of running used. ``held_h`` hours of it were billed at a held value, because none was published."""

    energy_kwh: float = 0.0
    cost_eur: float = 0.0
    carbon_kg: float = 0.0
    held_h: float = 0.0

    def __add__(self, other: RunBill) -> RunBill:
        return RunBill(
            energy_kwh=self.energy_kwh + other.energy_kwh,
            cost_eur=self.cost_eur + other.cost_eur,
            carbon_kg=self.carbon_kg + other.carbon_kg,
            held_h=self.held_h + other.held_h,
        )


def run_bill(
    *, power_w: float, start: datetime, end: datetime, price: HourlyCurve | None, carbon: HourlyCurve | None
) -> RunBill:
    """The bill of drawing ``power_w`` from ``start`` to ``end``; price in EUR/MWh (as it is, also below zero), carbon in gCO2/kWh.

    Where a curve is None nothing was ever published: that part of the bill is 0 and all its hours count as held.
    """
    hours = max(0.0, (end - start).total_seconds() / HOUR_S)
    kilowatts = power_w / 1000.0
    return RunBill(
        energy_kwh=kilowatts * hours,
        cost_eur=0.0 if price is None else kilowatts / 1000.0 * price.cost_between(start, end),
        carbon_kg=0.0 if carbon is None else kilowatts / 1000.0 * carbon.cost_between(start, end),
        held_h=max(
            hours if price is None else price.held_h_between(start, end),
            hours if carbon is None else carbon.held_h_between(start, end),
        ),
    )
