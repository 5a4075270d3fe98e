"""Settings come from the environment, the service's own value before the shared one, and a wrong one is named."""

from __future__ import annotations

import pytest

from solyx.clock import ReplayClock, WallClock
from solyx.settings import Settings, SettingsError, load


class OwnSettings(Settings, frozen=True, kw_only=True):
    price_limit: float = 1.0


def test_defaults_work_without_any_environment() -> None:
    settings = load(OwnSettings, "own", {})
    assert settings.kafka_bootstrap_servers == "127.0.0.1:9092"
    assert isinstance(settings.clock(), WallClock)


def test_the_service_s_own_value_goes_before_the_shared_one() -> None:
    environment = {"SOLYX_HTTP_PORT": "1", "SOLYX_OWN_HTTP_PORT": "2", "SOLYX_PRICE_LIMIT": "2.5"}
    settings = load(OwnSettings, "own", environment)
    assert settings.http_port == 2
    assert settings.price_limit == 2.5


def test_a_wrong_value_is_named_with_its_variable() -> None:
    with pytest.raises(SettingsError, match="SOLYX_HTTP_PORT"):
        load(OwnSettings, "own", {"SOLYX_HTTP_PORT": "many"})


def test_a_clock_file_makes_a_replay_clock() -> None:
    settings = load(
        OwnSettings,
        "own",
        {
            "SOLYX_CLOCK_FILE": "nowhere.json",
            "SOLYX_CLOCK_START": "2023-06-01T00:00:00+00:00",
            "SOLYX_CLOCK_SPEED": "60",
        },
    )
    clock = settings.clock()
    assert isinstance(clock, ReplayClock)
    assert clock.now().isoformat() == "2023-06-01T00:00:00+00:00"
