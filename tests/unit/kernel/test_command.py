"""Every service's command line: help is printed, a mistyped argument is refused, and neither starts the service."""

import importlib
from pathlib import Path

import pytest

SERVICES = sorted(path.parent.name for path in Path(__file__).parents[3].glob("services/*/__main__.py"))


@pytest.fixture(autouse=True)
def would_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that starts after all ends at once, with a status that none of the tests here expects."""
    for service in SERVICES:
        program = importlib.import_module(f"services.{service}.__main__")
        for name in ("run", "_serve"):
            if hasattr(program, name):
                monkeypatch.setattr(program, name, lambda *_: 99)
    monkeypatch.setattr("asyncio.run", lambda status: status)
    monkeypatch.setattr("uvloop.run", lambda status: status)
    monkeypatch.setattr("services.gateway.__main__.configure", lambda *_: None)


def status_of(service: str, *arguments: str) -> object:
    try:
        return importlib.import_module(f"services.{service}.__main__").main(list(arguments))
    except SystemExit as ended:
        return ended.code


def test_there_are_services() -> None:
    assert {"gateway", "collector", "cmo"} < set(SERVICES)


@pytest.mark.parametrize("service", SERVICES)
def test_help_is_printed_and_starts_nothing(service: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of(service, "--help") == 0
    shown = capsys.readouterr()
    assert shown.out.startswith(f"usage: python -m services.{service}")
    assert shown.err == ""


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("argument", ["--nonsense", "nonsense"])
def test_an_unknown_argument_is_an_error_that_names_it(
    service: str, argument: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status_of(service, argument) == 2
    shown = capsys.readouterr()
    assert argument in shown.err
    assert shown.out == ""


@pytest.mark.parametrize("service", SERVICES)
def test_without_arguments_it_starts(service: str) -> None:
    assert status_of(service) == 99


@pytest.mark.parametrize("service", SERVICES)
def test_a_wrong_setting_is_named_and_starts_nothing(
    service: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SOLYX_HTTP_PORT", "many")
    assert status_of(service) == 2
    assert "SOLYX_HTTP_PORT" in capsys.readouterr().err
