"""Settings that cannot work are refused with the cure."""

import pytest

from services.forecaster.model import WindowSpec
from services.forecaster.settings import ForecasterSettings
from solyx.settings import SettingsError, load


def test_the_defaults_work():
    settings = load(ForecasterSettings, "forecaster", {})
    settings.check()
    assert settings.window_specs() == (WindowSpec(size_s=60, hop_s=60), WindowSpec(size_s=300, hop_s=60))
    assert settings.policy().anomaly_window_s == 60


def test_exactly_once_is_refused_because_it_would_not_be():
    settings = load(ForecasterSettings, "forecaster", {"SOLYX_FORECASTER_PROCESSING_GUARANTEE": "exactly_once"})
    with pytest.raises(SettingsError, match="use at_least_once"):
        settings.check()


@pytest.mark.parametrize("windows", ["", "0", "60/7", "ten", "60,300/-60"])
def test_windows_that_make_no_sense_are_named(windows):
    with pytest.raises(SettingsError, match="SOLYX_FORECASTER_WINDOWS"):
        ForecasterSettings(windows=windows).check()


def test_load_needs_a_window_of_its_step():
    with pytest.raises(SettingsError, match="no window of 900 s"):
        ForecasterSettings(load_series="requests", load_step_s=900).check()


def test_a_level_is_a_share():
    with pytest.raises(SettingsError, match="SOLYX_FORECASTER_LEVEL"):
        ForecasterSettings(level=90).check()


def test_prefixes_are_separated_by_commas():
    policy = ForecasterSettings(load_series="a, b ,").policy()
    assert policy.load_series == ("a", "b")


def test_a_horizon_beyond_what_the_model_sees_is_refused():
    with pytest.raises(SettingsError, match="1 to 120 hours"):
        ForecasterSettings(horizon_h=200).check()
