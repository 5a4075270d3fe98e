"""The version, the help, `--json` everywhere, and completion in the shells."""

import os
import subprocess
import sys
from typing import Any

import pytest
import typer

from solyx import __version__
from solyx.cli.main import app
from tests.unit.cli.cli_answers import Solyx


def test_the_version_is_printed(solyx: Solyx) -> None:
    done = solyx("--version")
    assert (done.status, done.out) == (0, f"solyx {__version__}\n")


def test_help_names_every_command(solyx: Solyx) -> None:
    shown = solyx("--help").out
    for command in _commands(typer.main.get_command(app)):
        assert f" {command.split()[0]} " in shown


def _commands(group: Any, prefix: str = "") -> dict[str, Any]:
    """Every command that does something, by its words."""
    found: dict[str, Any] = {}
    for name, command in group.commands.items():
        words = f"{prefix}{name}"
        found |= _commands(command, f"{words} ") if hasattr(command, "commands") else {words: command}
    return found


def test_every_command_speaks_json() -> None:
    commands = _commands(typer.main.get_command(app))
    assert {"submit", "usage", "deadletters replay"} < commands.keys()
    without = [name for name, one in commands.items() if not any("--json" in option.opts for option in one.params)]
    assert without == []


@pytest.mark.parametrize(
    ("shell", "hook"),
    [("zsh", "compdef _solyx_completion solyx"), ("fish", "complete --command solyx")],
)
def test_other_shells_complete_too(shell: str, hook: str) -> None:
    asked = {"_TYPER_COMPLETE_ARGS": "solyx dead", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    shown = []
    for step in (f"complete_{shell}", f"source_{shell}"):
        environment = os.environ | asked | {"_SOLYX_COMPLETE": step}
        command = [sys.executable, "-m", "solyx.cli"]
        done = subprocess.run(command, env=environment, text=True, capture_output=True, timeout=60, check=False)
        shown.append(done.stdout)
    assert "deadletters" in shown[0]
    assert "budgets" not in shown[0]
    assert hook in shown[1]


def test_bash_completes_commands_by_their_beginning() -> None:
    environment = os.environ | {"_SOLYX_COMPLETE": "complete_bash", "COMP_WORDS": "solyx dead", "COMP_CWORD": "1"}
    command = [sys.executable, "-m", "solyx.cli"]
    done = subprocess.run(command, env=environment, text=True, capture_output=True, timeout=60, check=False)
    assert done.stdout.split() == ["deadletters"]
    environment = os.environ | {"_SOLYX_COMPLETE": "source_bash"}  # what --show-completion prints in a bash
    script = subprocess.run(command, env=environment, text=True, capture_output=True, timeout=60, check=False)
    assert "complete -o default -F _solyx_completion solyx" in script.stdout
