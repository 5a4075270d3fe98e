"""Which scenario a start replays, from where on, and the one clock of all processes."""

import hashlib
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import msgspec

from devstack.errors import DevstackError
from devstack.existing import require_unused
from devstack.state import Progress, StateDirectory
from solyx.clock import ReplayTime, new_id, write_replay_time
from solyx.scenario import Scenario, ScenarioJob, generate, load

__all__ = ["World", "choose_world"]


@dataclass(kw_only=True)
class World:
    """What is replayed. Its time stands still until `begin`."""

    directory: Path
    scenario: Scenario
    jobs: list[ScenarioJob]
    progress: Progress
    speed: float
    _time: ReplayTime | None = None

    @property
    def began(self) -> bool:
        """Whether time passes."""
        return self._time is not None

    @property
    def continues(self) -> bool:
        """Whether time has passed in an earlier start."""
        return self.progress.scenario_time > self.scenario.start

    @property
    def name(self) -> str:
        """Unique among all replays: keys of a forgotten one mean nothing to this one."""
        return f"{self.scenario.name}-{self.progress.run}"

    def claim(
        self, state: StateDirectory, *, kafka: str, database: str, require: Callable[..., None] = require_unused
    ) -> None:
        """Begin only where no other replay has left its records; what this one leaves there from now on is its own.

        Remembered before anything is written there, so that a first start that is cut off half-way can be repeated.
        """
        addresses = hashlib.sha256(f"{kafka}\n{database}".encode()).hexdigest()  # they may hold a password
        if self.continues or self.progress.claimed == addresses:
            return
        require(kafka=kafka, database=database)
        self.progress = msgspec.structs.replace(self.progress, claimed=addresses)
        state.save(self.progress)

    def begin(self, clock_file: Path) -> None:
        """Set the clock of all processes going."""
        self._time = ReplayTime(time.time(), self.progress.scenario_time, self.speed)
        write_replay_time(clock_file, self._time)

    def now(self) -> datetime:
        """Scenario time."""
        if self._time is None:
            return self.progress.scenario_time
        return self._time.start + timedelta(seconds=(time.time() - self._time.epoch_wall_s) * self.speed)

    def save(self, state: StateDirectory, *, margin_s: float = 0.0) -> None:
        """Where the next start goes on: now, or `margin_s` wall seconds later, as far as a crash may let it come."""
        if self._time is not None:
            at = self.now() + timedelta(seconds=margin_s * self.speed)
            state.save(msgspec.structs.replace(self.progress, scenario_time=at))


def choose_world(state: StateDirectory, wanted: Path | None, *, speed: float, say: Callable[[str], None]) -> World:
    """The scenario that is asked for, or the one that an earlier start began, or a generated one.

    Raises:
        DevstackError: the state directory holds another scenario's replay.
        ScenarioError: it is broken.
    """
    progress = state.progress()
    if progress is not None and wanted is not None and wanted.resolve() != Path(progress.scenario):
        raise DevstackError(
            f"{state.path} holds a replay of {progress.scenario}, not of {wanted}",
            "start with --fresh to forget it, or choose another directory with --state DIR",
        )
    own = state.path / "scenario"
    directory = Path(progress.scenario) if progress is not None else (wanted or own).resolve()
    if directory == own.resolve():
        if not (own / "scenario.toml").exists():
            shutil.rmtree(own, ignore_errors=True)  # half of one, from a start that was cut off
            generate(own)
        say(f"no --scenario: replaying a small generated one, its figures are invented ({own})")
    scenario = load(directory)
    jobs = list(scenario.jobs())
    if progress is None:
        progress = Progress(scenario=str(directory), scenario_time=scenario.start, run=new_id())
        state.save(progress)
    world = World(directory=directory, scenario=scenario, jobs=jobs, progress=progress, speed=speed)
    if world.continues:
        say(f"going on at {progress.scenario_time:%Y-%m-%d %H:%M} scenario time (--fresh begins anew)")
    return world
