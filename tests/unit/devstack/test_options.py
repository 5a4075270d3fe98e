from pathlib import Path

import pytest

from devstack.errors import DevstackError
from devstack.options import SERVICES, parse


def test_without_arguments_everything_has_a_default() -> None:
    options = parse([], {})
    assert options.scenario is None
    assert options.for_s is None
    assert options.processes() == [(service, 0) for service in SERVICES]
    assert not options.kafka
    assert not options.database


def test_every_option_is_taken(tmp_path: Path) -> None:
    line = f"--scenario {tmp_path} --speed 7200 --for 120 --report {tmp_path}/r.json --fresh --state {tmp_path}/s --api-port 0"
    options = parse([*line.split(), "--no-submit", "--replicas", "drm=2,actuator=3", "--replicas", "sdn=2"], {})
    assert (options.scenario, options.speed, options.for_s, options.fresh) == (tmp_path, 7200.0, 120.0, True)
    assert (options.report, options.state, options.api_port) == (tmp_path / "r.json", tmp_path / "s", 0)
    assert not options.submit
    assert [number for service, number in options.processes() if service == "actuator"] == [0, 1, 2]
    assert ("drm", 1) in options.processes()
    assert ("sdn", 1) in options.processes()


def test_an_existing_broker_and_database_come_from_the_environment() -> None:
    options = parse([], {"SOLYX_KAFKA_BOOTSTRAP_SERVERS": "k:9092", "SOLYX_DATABASE_URL": "postgresql+asyncpg://db/x"})
    assert (options.kafka, options.database) == ("k:9092", "postgresql+asyncpg://db/x")


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["--speed", "fast"], "'fast' is no number"),
        (["--speed", "0"], "not above 0"),
        (["--speed", "nan"], "not finite"),
        (["--for", "-1"], "negative"),
        (["--api-port", "70000"], "no port"),
        (["--replicas", "drn=2"], "no service is named 'drn'"),
        (["--replicas", "drm=many"], "'many' is no number of processes"),
        (["--replicas", "drm"], "no number of processes"),
        (["--replicas", "gateway=2"], "one port"),
        (["--replicas", "collector=2"], "twice"),
        (["--report", "/nowhere/r.json"], "cannot be written"),
        (["--sped", "5"], "--sped"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_argument_is_named_with_a_cure(arguments: list[str], names: str) -> None:
    with pytest.raises(DevstackError) as raised:
        parse(arguments, {})
    assert names in raised.value.message
    assert raised.value.cure


def test_help_names_every_option_and_service(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        parse(["--help"], {})
    shown = capsys.readouterr().out
    assert left.value.code == 0
    for option in (
        "--scenario",
        "--speed",
        "--for",
        "--report",
        "--fresh",
        "--replicas",
        "--state",
        "--api-port",
        "--no-submit",
    ):
        assert option in shown
    for service in SERVICES:
        assert service in shown
    assert "SOLYX_KAFKA_BOOTSTRAP_SERVERS" in shown
