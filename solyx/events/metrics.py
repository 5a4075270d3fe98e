"""Metric samples, their windows, forecasts, and what meters of runs read (topics ``metrics``, ``features``, ``forecasts``, ``anomalies``,
``readings``).
"""

from __future__ import annotations

from typing import ClassVar, Literal

from solyx.events.event import Event, NonNegative, Positive, PositiveInt, SiteEvent, Time


class MetricsScraped(Event, frozen=True, kw_only=True):
    """Samples that one source yielded in one scrape or one remote write.

    ``values[i]`` is the sample of ``series[i]``. All were taken at ``scraped_at`` unless ``times_s`` gives each its own
    time (seconds since the Unix epoch). A sample is identified by series and time, so a repeat is harmless.
    """

    TYPE: ClassVar[str] = "io.solyx.metrics.scraped.v1"
    TOPIC: ClassVar[str] = "metrics"

    source: str  # site, target or remote writer
    scraped_at: Time
    series: tuple[str, ...]  # canonical name: metric{label="value",…}, labels sorted
    values: tuple[float, ...]
    times_s: tuple[float, ...] = ()

    @property
    def key(self) -> str:
        return self.source

    @property
    def id(self) -> str:
        return f"{self.source}.{self.scraped_at.isoformat()}.{len(self.series)}"


class SeriesWindowed(Event, frozen=True, kw_only=True):
    """Statistics of a source's series in one window so far; a later record of the same window replaces it.

    The arrays are parallel to ``series``; ``quantiles[q][i]`` belongs to ``levels[q]`` and ``series[i]``.
    """

    TYPE: ClassVar[str] = "io.solyx.metrics.windowed.v1"
    TOPIC: ClassVar[str] = "features"

    source: str
    window_start: Time
    window_end: Time
    series: tuple[str, ...]
    count: tuple[int, ...]
    mean: tuple[float, ...]
    min: tuple[float, ...]
    max: tuple[float, ...]
    last: tuple[float, ...]
    levels: tuple[float, ...] = ()
    quantiles: tuple[tuple[float, ...], ...] = ()

    @property
    def key(self) -> str:
        return f"{self.source}/{self.window_start.isoformat()}/{self.window_end.isoformat()}"

    @property
    def ordering_key(self) -> str:
        return self.source

    @property
    def id(self) -> str:
        return f"{self.key}.{sum(self.count)}"


class ForecastIssued(Event, frozen=True, kw_only=True):
    """What a series will be: the mean and an interval for each step from ``start`` on.

    ``subject_id`` is a site for prices and carbon, a source for load. ``known_steps`` leading steps are published values
    (their interval has no width), the rest is forecast by ``model``.
    """

    TYPE: ClassVar[str] = "io.solyx.forecast.issued.v1"
    TOPIC: ClassVar[str] = "forecasts"

    subject_id: str
    kind: str  # price_eur_per_mwh, carbon_gco2_per_kwh, or the name of a metric series
    issued_at: Time
    start: Time
    step_s: Positive
    mean: tuple[float, ...]
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    level: NonNegative = 0.9  # share of outcomes that the interval is meant to hold
    known_steps: int = 0
    model: str  # what really made it; a fallback carries its own name

    @property
    def key(self) -> str:
        return f"{self.subject_id}/{self.kind}"

    @property
    def ordering_key(self) -> str:
        return self.subject_id

    @property
    def id(self) -> str:
        return f"{self.key}.{self.issued_at.isoformat()}"


class AnomalyDetected(Event, frozen=True, kw_only=True):
    """A series left the range that its own past explains."""

    TYPE: ClassVar[str] = "io.solyx.anomaly.detected.v1"
    TOPIC: ClassVar[str] = "anomalies"

    source: str
    series: str
    at: Time
    value: float
    score: float  # robust z-score of the window's mean
    expected: float

    @property
    def key(self) -> str:
        return f"{self.source}/{self.series}"

    @property
    def ordering_key(self) -> str:
        return self.source

    @property
    def id(self) -> str:
        return f"{self.key}.{self.at.isoformat()}"


class WorkloadEnergyRead(SiteEvent, frozen=True, kw_only=True):
    """What a meter of one pod of a run stood at: a counter of energy or a gauge of power, above the idle floor, before the site's PUE.

    Readings of one meter are in the order of their times; one that is not later than the last is a repeat.
    """

    TYPE: ClassVar[str] = "io.solyx.workload.energy_read.v1"
    TOPIC: ClassVar[str] = "readings"

    site: str
    job_id: str
    revision: PositiveInt  # of the placement under which it runs
    meter: str  # the series, so that two meters of one pod are told apart
    pod: str = ""  # empty: the meter is its only one
    part: Literal["all", "cpu", "gpu"] = "all"  # what of the pod it measures; the rest is modelled
    joules: NonNegative | None = None  # a counter, which may begin anew; one of the two is given
    watts: NonNegative | None = None  # a gauge
    at: Time

    @property
    def key(self) -> str:
        return f"{self.site}/{self.job_id}/{self.revision}/{self.meter}"

    @property
    def subject(self) -> str:
        return self.job_id

    @property
    def id(self) -> str:
        return f"{self.key}.{self.at.isoformat()}"
