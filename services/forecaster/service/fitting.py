"""Slow models are fitted here, in a process of their own: neither their time nor their memory touches the decision threads.

The process starts with the first request, reads requests as JSON lines on its standard input and answers on its standard
output; when its parent dies it reads the end of the input and ends. A fit that fails or takes too long yields no prediction,
and the core goes on with its quick model under that model's name.
"""

from __future__ import annotations

import logging
import queue
import select
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from services.forecaster.core import Fit, FitRequest
from services.forecaster.core.models import Prediction
from services.forecaster.core.prophet import Prophet
from solyx.clock import monotonic_s
from solyx.telemetry import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

log = get_logger()

FIT_TIMEOUT_S = 60.0
_WAITING_FITS = 1000


class _Job(msgspec.Struct, frozen=True):
    values: list[float | None]
    step_s: int
    steps: int
    level: float


class _Answer(msgspec.Struct, frozen=True):
    mean: list[float] = []
    lower: list[float] = []
    upper: list[float] = []
    model: str = ""
    error: str = ""


class FitFailedError(Exception):
    """No prediction; the message says why."""


class Fitting:
    """A queue of fits and the process that makes them."""

    def __init__(self) -> None:
        """Starts nothing yet."""
        self._requests: queue.Queue[tuple[FitRequest, Callable[[Fit], None]] | None] = queue.Queue(_WAITING_FITS)
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._run, name="forecaster-fitting", daemon=True)

    def start(self) -> None:
        """Wait for requests."""
        self._thread.start()

    def submit(self, request: FitRequest, done: Callable[[Fit], None]) -> None:
        """Fit ``request`` in time; ``done`` is called on another thread."""
        try:
            self._requests.put_nowait((request, done))
        except queue.Full:
            done(_failed(request))

    def stop(self) -> None:
        """End the process; fits that wait are forgotten."""
        process = self._process
        if process is not None:
            process.kill()
        if self._thread.is_alive():
            self._requests.put(None, timeout=1.0)
            self._thread.join(2.0)

    def _run(self) -> None:
        while (item := self._requests.get()) is not None:
            request, done = item
            try:
                prediction = self._fit(request)
            except FitFailedError as error:
                log.warning("fit_failed", subject=request.key[0], kind=request.key[1], error=str(error))
                self._end_process()
                done(_failed(request))
                continue
            start_s = request.start_s + len(request.values) * request.step_s
            done(Fit(key=request.key, start_s=start_s, prediction=prediction))
        self._end_process()

    def _fit(self, request: FitRequest) -> Prediction:
        values = [None if np.isnan(value) else value for value in request.values.tolist()]
        job = _Job(values, request.step_s, request.steps, request.level)
        if self._process is not None and self._process.poll() is not None:
            self._end_process()
        process = self._process
        if process is None:
            command = [sys.executable, "-m", "services.forecaster.service.fitting"]
            process = self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
        assert process.stdin is not None
        try:
            process.stdin.write(msgspec.json.encode(job) + b"\n")
            process.stdin.flush()
            answer = msgspec.json.decode(_read_line(process), type=_Answer)
        except (OSError, msgspec.DecodeError) as error:
            raise FitFailedError(str(error)) from error
        if answer.error:
            raise FitFailedError(answer.error)
        mean, lower, upper = (np.array(row, np.float64) for row in (answer.mean, answer.lower, answer.upper))
        return Prediction(mean=mean, lower=lower, upper=upper, model=answer.model)

    def _end_process(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()


def _failed(request: FitRequest) -> Fit:
    return Fit(key=request.key, start_s=request.start_s, prediction=None)


def _read_line(process: subprocess.Popen[bytes]) -> bytes:
    """One line of the process's output.

    Raises:
        FitFailedError: none came in time, or the process ended.
    """
    assert process.stdout is not None
    deadline = monotonic_s() + FIT_TIMEOUT_S
    line = b""
    while not line.endswith(b"\n"):
        if not select.select([process.stdout], [], [], max(deadline - monotonic_s(), 0.0))[0]:
            msg = f"no fit in {FIT_TIMEOUT_S:.0f} s"
            raise FitFailedError(msg)
        piece = process.stdout.read1(1 << 16)  # type: ignore[attr-defined]
        if not piece:
            msg = f"the fitting process ended (status {process.poll()})"
            raise FitFailedError(msg)
        line += piece
    return line


def serve() -> None:
    """The process: a line in, a line out, until the input ends."""
    logging.disable(logging.CRITICAL)
    jobs = msgspec.json.Decoder(_Job)
    model = Prophet()
    for line in sys.stdin.buffer:
        job = jobs.decode(line)
        values = np.array(job.values, np.float64)
        try:
            prediction = model.predict(values, job.step_s, job.steps, job.level)
        except (
            RuntimeError,
            ValueError,
            ImportError,
        ) as error:  # what Prophet and cmdstan raise for data they cannot fit
            answer = _Answer(error=f"{type(error).__name__}: {error}")
        else:
            answer = _answer(prediction)
        sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
        sys.stdout.buffer.flush()


def _answer(prediction: Prediction | None) -> _Answer:
    if prediction is None:
        return _Answer(error="too little data")
    if not np.isfinite(prediction.mean).all():
        return _Answer(error="the fit is no finite number")
    return _Answer(
        mean=prediction.mean.tolist(),
        lower=prediction.lower.tolist(),
        upper=prediction.upper.tolist(),
        model=prediction.model,
    )


if __name__ == "__main__":
    serve()
