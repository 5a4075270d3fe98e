"""The values between the forecaster's pure parts: windows, histories, forecasts."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

QUANTILE_LEVELS = (0.5, 0.9, 0.99)


class WindowSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Windows of ``size_s`` seconds that start at every multiple of ``hop_s``; tumbling when the two are equal."""

    size_s: int
    hop_s: int

    @classmethod
    def parse(cls, text: str) -> WindowSpec:
        """``"60"``: tumbling, 60 s. ``"300/60"``: 300 s long, one every 60 s.

        Raises:
            ValueError: no such window.
        """
        size, _, hop = text.strip().partition("/")
        spec = cls(size_s=int(size), hop_s=int(hop or size))
        if spec.hop_s < 1 or spec.size_s % spec.hop_s:
            msg = f"window {text!r}: the size must be a multiple of the hop, both whole seconds above 0"
            raise ValueError(msg)
        return spec


@dataclass(frozen=True, kw_only=True, eq=False)
class Aggregate:
    """Statistics of the series of one source in ``[start_us, end_us)``; all arrays are parallel to ``series``."""

    start_us: int
    end_us: int
    series: tuple[str, ...]
    count: npt.NDArray[np.int64]
    mean: npt.NDArray[np.float64]
    min: npt.NDArray[np.float64]
    max: npt.NDArray[np.float64]
    last: npt.NDArray[np.float64]
    quantiles: list[npt.NDArray[np.float64]]  # one array for each of QUANTILE_LEVELS


class ForecastPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """What the forecast core is asked to do (settings.py explains each)."""

    model: str = "seasonal_naive"
    level: float = 0.9
    horizon_h: int = 72
    history_days: int = 90
    load_series: tuple[str, ...] = ()
    load_step_s: int = 300
    load_horizon_h: int = 24
    anomaly_series: tuple[str, ...] = ("",)
    anomaly_window_s: int = 60
    anomaly_score: float = 8.0
    anomaly_quiet_s: float = 3600.0
