"""The forecaster's settings (README.md)."""

from __future__ import annotations

from typing import Literal

from services.forecaster.model import ForecastPolicy, WindowSpec
from solyx.settings import Settings, SettingsError

_MAX_HORIZON_H = 120  # a week ahead of the newest value, which may be two days old


class ForecasterSettings(Settings, frozen=True, kw_only=True):
    """Read from ``SOLYX_FORECASTER_<FIELD>`` or ``SOLYX_<FIELD>``."""

    # Windows
    windows: str = "60,300/60"  # sizes in s; "300/60" hops by 60 s
    allowed_lateness_s: float = 60.0  # a sample whose pane ended longer ago than this, in event time, is dropped
    window_update_s: float = 1.0  # an open window is published at most this often (wall time)
    table_flush_s: float = 1.0  # windows are saved at least this often; offsets are committed only behind that
    max_series: int = 5000  # of one source in one window; more are dropped and counted
    stall_s: float = 60.0  # no progress on waiting metrics for so long ends the process
    processing_guarantee: str = "at_least_once"  # the only one that holds (README.md); any other is refused
    # Forecasts
    model: Literal["seasonal_naive", "prophet"] = "seasonal_naive"
    level: float = 0.9  # share of outcomes that an interval is meant to hold
    horizon_h: int = 72
    history_days: int = 90  # of each series, kept for the models
    load_series: str = "solyx_service_load"  # comma-separated prefixes of metric series to forecast; empty: none
    load_step_s: int = 300  # a tumbling window of this size, or a hopping one, must be in `windows`
    load_horizon_h: int = 24
    anomaly_series: str = ""  # comma-separated prefixes of the series to watch; empty: every series
    anomaly_score: float = 8.0  # robust z-score from which on a window is an anomaly
    anomaly_quiet_s: float = 3600.0  # after an anomaly of a series no other of it is reported for so long

    def window_specs(self) -> tuple[WindowSpec, ...]:
        """The windows to keep.

        Raises:
            SettingsError: no such windows.
        """
        try:
            return tuple(dict.fromkeys(WindowSpec.parse(text) for text in self.windows.split(",")))
        except ValueError as error:
            msg = f"SOLYX_FORECASTER_WINDOWS: {error}"
            raise SettingsError(msg) from error

    def policy(self) -> ForecastPolicy:
        """What the forecast core needs of these."""
        return ForecastPolicy(
            model=self.model,
            level=self.level,
            horizon_h=self.horizon_h,
            history_days=self.history_days,
            load_series=_prefixes(self.load_series),
            load_step_s=self.load_step_s,
            load_horizon_h=self.load_horizon_h,
            anomaly_series=_prefixes(self.anomaly_series) or ("",),
            anomaly_window_s=min(spec.size_s for spec in self.window_specs()),
            anomaly_score=self.anomaly_score,
            anomaly_quiet_s=self.anomaly_quiet_s,
        )

    def check(self) -> None:
        """Refuse what cannot work.

        Raises:
            SettingsError: names the setting and the cure.
        """
        if self.processing_guarantee != "at_least_once":
            msg = (
                f"SOLYX_FORECASTER_PROCESSING_GUARANTEE: {self.processing_guarantee!r} is refused: faust-streaming writes "
                "its output outside the transaction, so nothing would be exactly once; use at_least_once"
            )
            raise SettingsError(msg)
        if not 0.0 < self.level < 1.0:
            msg = f"SOLYX_FORECASTER_LEVEL: {self.level} is no share between 0 and 1, both excluded"
            raise SettingsError(msg)
        if not 1 <= self.horizon_h <= _MAX_HORIZON_H or not 1 <= self.load_horizon_h <= _MAX_HORIZON_H:
            msg = f"SOLYX_FORECASTER_HORIZON_H and _LOAD_HORIZON_H: the seasonal model sees 1 to {_MAX_HORIZON_H} hours ahead"
            raise SettingsError(msg)
        sizes = {spec.size_s: spec for spec in self.window_specs()}
        if self.load_series and self.load_step_s not in sizes:
            msg = f"SOLYX_FORECASTER_LOAD_STEP_S: no window of {self.load_step_s} s in SOLYX_FORECASTER_WINDOWS"
            raise SettingsError(msg)


def _prefixes(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
