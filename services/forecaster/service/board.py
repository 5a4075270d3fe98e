"""What HTTP shows: the latest forecast of every subject, and the latest windows of every source, of all replicas.

It follows ``forecasts`` from the beginning (compacted: one record a series) and ``features`` from now on. Windows are kept as
they came and decoded when somebody asks.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

from solyx.bus.port import Bus, Received, Tail, Transient
from solyx.events import ForecastIssued, Poison, SeriesWindowed, decode
from solyx.telemetry import get_logger
from solyx.topics import FEATURES, FORECASTS

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

log = get_logger()

_WINDOWS_OF_SOURCE = 16  # enough for the newest of each size, several being open at a time
_READ_S = 0.5


class Board:
    """Follows two topics on a thread."""

    def __init__(self, bus: Bus) -> None:
        """Reads nothing before ``start``."""
        self._bus = bus
        self._lock: AbstractContextManager[object] = threading.Lock()
        self._forecasts: dict[tuple[str, str], ForecastIssued] = {}
        self._windows: dict[str, OrderedDict[str, Received]] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="forecaster-board", daemon=True)
        self.caught_up = False

    def start(self) -> None:
        """Follow until ``stop``."""
        self._thread.start()

    def stop(self) -> None:
        """Follow no more."""
        self._stopping.set()
        self._thread.join(3.0)

    def forecasts(self) -> list[ForecastIssued]:
        """The latest forecast of each series, by subject and kind."""
        with self._lock:
            return [self._forecasts[key] for key in sorted(self._forecasts)]

    def forecast(self, subject: str, kind: str) -> ForecastIssued | None:
        """The latest forecast of one series."""
        with self._lock:
            return self._forecasts.get((subject, kind))

    def windows(self, source: str) -> list[SeriesWindowed]:
        """The newest window of each size of a source, the shortest first."""
        with self._lock:
            received = list(self._windows.get(source, {}).values())
        newest: dict[float, SeriesWindowed] = {}
        for record in received:
            event = decode(record.value or b"", record.headers).event
            assert isinstance(event, SeriesWindowed)
            size_s = (event.window_end - event.window_start).total_seconds()
            if size_s not in newest or newest[size_s].window_start <= event.window_start:
                newest[size_s] = event
        return [newest[size_s] for size_s in sorted(newest)]

    def sources(self) -> list[str]:
        """The sources whose windows were seen."""
        with self._lock:
            return sorted(self._windows)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._follow()
            except Transient as error:
                log.warning("board_interrupted", error=str(error))
                self._stopping.wait(error.after_s)

    def _follow(self) -> None:
        forecasts = self._bus.tail([FORECASTS.name])
        try:
            windows = self._bus.tail([FEATURES.name], at_end=True)
            try:
                self._follow_both(forecasts, windows)
            finally:
                windows.close()
        finally:
            forecasts.close()

    def _follow_both(self, forecasts: Tail, windows: Tail) -> None:
        while not self._stopping.is_set():
            for record in forecasts.read(max_records=500, timeout_s=0.0 if self.caught_up else _READ_S):
                self._take_forecast(record)
            self.caught_up = self.caught_up or forecasts.caught_up()
            for record in windows.read(max_records=500, timeout_s=_READ_S if self.caught_up else 0.0):
                self._take_window(record)

    def _take_forecast(self, record: Received) -> None:
        if record.value is None:
            return
        try:
            event = decode(record.value, record.headers).event
        except Poison as error:
            log.warning("forecast_unreadable", offset=record.offset, error=str(error))
            return
        if isinstance(event, ForecastIssued):
            with self._lock:
                self._forecasts[event.subject_id, event.kind] = event

    def _take_window(self, record: Received) -> None:
        fields = dict(record.headers)
        if record.value is None or fields.get("ce_type") != SeriesWindowed.TYPE.encode():
            return
        source = record.key.rsplit("/", 2)[0]  # source/window start/window end
        with self._lock:
            known = self._windows.setdefault(source, OrderedDict())
            known[record.key] = record
            known.move_to_end(record.key)
            while len(known) > _WINDOWS_OF_SOURCE:
                known.popitem(last=False)
