"""Prophet in its own process."""

import queue

import numpy as np
import pytest

from services.forecaster.core import Fit, FitRequest
from services.forecaster.service import fitting as module
from services.forecaster.service.fitting import Fitting


@pytest.fixture(scope="module")
def fitting():
    fitting = Fitting()
    fitting.start()
    yield fitting
    fitting.stop()


def request(values, steps=48):
    return FitRequest(key=("rome", "price"), start_s=0, step_s=3600, values=values, steps=steps, level=0.9)


def fit(fitting, asked) -> Fit:
    done = queue.Queue()
    fitting.submit(asked, done.put)
    return done.get(timeout=60)


def test_prophet_fits_in_another_process_and_answers_from_the_end_of_the_history(fitting, hourly):
    values = hourly(30, noise=0.5)
    values[100:130] = np.nan
    found = fit(fitting, request(values))
    assert (found.key, found.start_s) == (("rome", "price"), 30 * 24 * 3600)
    assert found.prediction.model == "prophet"
    assert len(found.prediction.mean) == 48
    assert (found.prediction.lower <= found.prediction.mean).all()
    assert (found.prediction.mean <= found.prediction.upper).all()
    truth = hourly(32, noise=0.0)[-48:]
    assert np.abs(found.prediction.mean - truth).mean() < 4.0


def test_a_history_that_is_too_short_yields_no_prediction_and_the_process_goes_on(fitting, hourly):
    assert fit(fitting, request(hourly(5))).prediction is None
    assert fit(fitting, request(hourly(20))).prediction is not None


def test_a_fitting_process_that_died_is_replaced(fitting, hourly):
    assert fit(fitting, request(hourly(20))).prediction is not None
    fitting._process.kill()
    fitting._process.wait()
    assert fit(fitting, request(hourly(20))).prediction is not None


def test_a_fit_that_takes_too_long_fails(fitting, hourly, monkeypatch):
    monkeypatch.setattr(module, "FIT_TIMEOUT_S", 0.01)
    assert fit(fitting, request(hourly(20))).prediction is None
