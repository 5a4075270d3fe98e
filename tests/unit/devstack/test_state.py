import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from devstack.errors import DevstackError
from devstack.state import Progress, StateDirectory
from devstack.world import choose_world
from solyx.scenario import ScenarioError, generate

T0 = datetime(2025, 6, 2, tzinfo=UTC)


def test_a_new_directory_is_made_and_stamped(tmp_path: Path) -> None:
    with StateDirectory(tmp_path / "state") as state:
        assert state.progress() is None
    assert json.loads((tmp_path / "state" / "version.json").read_text())["layout"] == 1


def test_progress_is_there_at_the_next_start(tmp_path: Path) -> None:
    progress = Progress(scenario="/s", scenario_time=T0, run="r")
    with StateDirectory(tmp_path) as state:
        state.save(progress)
    with StateDirectory(tmp_path) as state:
        assert state.progress() == progress


def test_two_starts_never_share_a_directory(tmp_path: Path) -> None:
    with StateDirectory(tmp_path), pytest.raises(DevstackError, match=r"another \./run \(process \d+\)"):
        StateDirectory(tmp_path).__enter__()


def test_another_versions_directory_is_refused_with_the_cure(tmp_path: Path) -> None:
    (tmp_path / "version.json").write_text('{"layout": 99, "solyx": "9.9"}')
    with pytest.raises(DevstackError, match=r"made by Solyx 9\.9") as raised:
        StateDirectory(tmp_path).__enter__()
    assert "--fresh" in raised.value.cure


def test_a_directory_with_data_but_without_a_stamp_is_refused(tmp_path: Path) -> None:
    (tmp_path / "kafka").mkdir()
    with pytest.raises(DevstackError, match="no version stamp"):
        StateDirectory(tmp_path).__enter__()


def test_fresh_forgets_what_is_ours_and_nothing_else(tmp_path: Path) -> None:
    with StateDirectory(tmp_path) as state:
        state.save(Progress(scenario="/s", scenario_time=T0, run="r"))
        (state.services / "clusters").mkdir()
        state.submissions.write_text("{}")
    (tmp_path / "notes.txt").write_text("mine")
    with StateDirectory(tmp_path, fresh=True) as state:
        assert state.progress() is None
        assert not state.submissions.exists()
        assert not (state.services / "clusters").exists()
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_fresh_cures_another_versions_directory(tmp_path: Path) -> None:
    (tmp_path / "version.json").write_text('{"layout": 99, "solyx": "9.9"}')
    (tmp_path / "kafka").mkdir()
    with StateDirectory(tmp_path, fresh=True):
        assert not (tmp_path / "kafka").exists()


def test_fresh_does_not_clear_a_directory_that_may_be_somebody_elses(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "theirs.log").write_text("keep")
    with pytest.raises(DevstackError, match="may not be ours"):
        StateDirectory(tmp_path, fresh=True).__enter__()
    assert (tmp_path / "logs" / "theirs.log").exists()


def test_a_full_disk_is_told_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("devstack.child._MIN_FREE_BYTES", 1 << 62)
    with pytest.raises(DevstackError, match="is full") as raised:
        StateDirectory(tmp_path / "state").__enter__()
    assert "free at least" in raised.value.cure


def test_without_a_scenario_a_generated_one_is_made_and_said(tmp_path: Path) -> None:
    said: list[str] = []
    with StateDirectory(tmp_path) as state:
        world = choose_world(state, None, speed=60, say=said.append)
    assert world.scenario.generated_by
    assert any("generated" in text for text in said)
    assert world.now() == world.scenario.start


def test_a_second_start_goes_on_with_the_same_scenario(tmp_path: Path) -> None:
    generate(tmp_path / "mine", jobs=20, hours=6)
    with StateDirectory(tmp_path / "state") as state:
        first = choose_world(state, tmp_path / "mine", speed=60, say=print)
        first.begin(state.clock_file)
        first.save(state, margin_s=60)
    with StateDirectory(tmp_path / "state") as state:
        second = choose_world(state, None, speed=60, say=print)
    assert second.scenario.name == first.scenario.name
    assert second.name == first.name
    assert (second.now() - first.scenario.start).total_seconds() >= 3600


class Outside:
    """A Kafka and a database that were there before; asks are remembered."""

    def __init__(self) -> None:
        self.used, self.asked = False, 0

    def __call__(self, *, kafka: str, database: str) -> None:
        self.asked += 1
        if self.used:
            raise DevstackError(f"{kafka} and {database} hold the records of another installation", "name others")


def begun(path: Path, outside: Outside, *, kafka: str = "broker:9092") -> None:
    """A first start that is cut off before time passes."""
    with StateDirectory(path / "state") as state:
        choose_world(state, path / "mine", speed=60, say=print).claim(
            state, kafka=kafka, database="postgresql://db", require=outside
        )


def test_a_first_start_that_was_cut_off_half_way_can_be_repeated(tmp_path: Path) -> None:
    generate(tmp_path / "mine", jobs=20, hours=6)
    outside = Outside()
    begun(tmp_path, outside)
    outside.used = True  # topics and tables were begun with
    begun(tmp_path, outside)
    assert outside.asked == 1


def test_what_was_found_unused_says_nothing_of_another_kafka_or_of_another_start(tmp_path: Path) -> None:
    generate(tmp_path / "mine", jobs=20, hours=6)
    outside = Outside()
    begun(tmp_path, outside)
    outside.used = True
    with pytest.raises(DevstackError, match="another installation"):
        begun(tmp_path, outside, kafka="other:9092")
    with StateDirectory(tmp_path / "state", fresh=True):
        pass
    with pytest.raises(DevstackError, match="another installation"):
        begun(tmp_path, outside)


def test_another_scenario_needs_a_fresh_state(tmp_path: Path) -> None:
    for name in ("one", "other"):
        generate(tmp_path / name, jobs=20, hours=6)
    with StateDirectory(tmp_path / "state") as state:
        choose_world(state, tmp_path / "one", speed=60, say=print)
        with pytest.raises(DevstackError, match="holds a replay of") as raised:
            choose_world(state, tmp_path / "other", speed=60, say=print)
    assert "--fresh" in raised.value.cure


def test_a_broken_scenario_is_told_with_file_line_and_key(tmp_path: Path) -> None:
    generate(tmp_path / "mine", jobs=20, hours=6)
    file = tmp_path / "mine" / "scenario.toml"
    file.write_text(re.sub(r"pue = [\d.]+", "pue = 'x'", file.read_text(), count=1))
    with StateDirectory(tmp_path / "state") as state, pytest.raises(ScenarioError) as raised:
        choose_world(state, tmp_path / "mine", speed=60, say=print)
    assert raised.value.line > 0
    assert "pue" in raised.value.key
    assert state.progress() is None
