"""A scenario's services have a load: read from a file, reported from the replay's start on, begun again after its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from solyx.scenario import ScenarioError, generate, load

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return generate(tmp_path / "world", jobs=5, hours=24)


def declare(directory: Path, **changes: object) -> None:
    """Replace the generated [[loads]] table by one on a small file."""
    (directory / "small.csv").write_text("minute,requests\n0,10\n1,20\n2,30\n")
    keys: dict[str, object] = {
        "service": '"api"',
        "site": '"south"',
        "file": '"small.csv"',
        "value": '"requests"',
        "period_s": 60,
    } | changes
    table = "\n".join(f"{key} = {value}" for key, value in keys.items())
    file = directory / "scenario.toml"
    file.write_text(f"{file.read_text()}\n[[loads]]\n{table}\n")


def test_a_generated_scenario_has_a_load_with_a_days_shape(directory: Path) -> None:
    (web,) = load(directory).loads
    assert (web.service, web.site, web.period_s, len(web.values)) == ("web", "north", 60, 24 * 60)
    assert web.values.max() > 2 * web.values.min() > 0


def test_a_reading_holds_for_its_period_and_the_first_follows_the_last(directory: Path) -> None:
    declare(directory)
    api = load(directory).loads[1]
    assert [api.at(s) for s in (0, 59, 60, 120, 180, 60 * 60)] == [10, 10, 20, 30, 10, 10]


def test_an_offset_starts_later_in_the_file(directory: Path) -> None:
    declare(directory, offset_s=120)
    assert load(directory).loads[1].at(0) == 30


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"site": '"nowhere"'}, "site"),
        ({"file": '"missing.csv"'}, "file"),
        ({"value": '"nothing"'}, "nothing"),
        ({"period_s": 0}, "period_s"),
        ({"service": '"web"', "site": '"north"'}, "service"),
    ],
)
def test_a_mistake_is_told_with_its_place(directory: Path, changes: dict[str, object], key: str) -> None:
    declare(directory, **changes)
    with pytest.raises(ScenarioError) as told:
        load(directory)
    assert key in str(told.value)
