"""What a start leaves for the next one: the state directory, its version, whose it is now, and how far the replay came."""

import fcntl
import os
import shutil
import tomllib
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import msgspec

from devstack import child
from devstack.bootstrap import ROOT
from devstack.errors import DevstackError

LAYOUT = 1
"""Raised with every change after which an earlier state directory, its topics or its tables cannot be gone on with."""
_OURS = ("kafka", "postgres", "services", "logs", "scenario")  # what --fresh forgets, beside the files below
_FILES = ("clock.json", "progress.json", "submissions.jsonl", "connection.json", "keys.json", "version.json")


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """The stamp in a state directory."""

    layout: int
    solyx: str


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far the replay came."""

    scenario: str  # directory
    scenario_time: datetime
    run: str  # id of the first start, so that keys of an earlier, forgotten one mean nothing
    claimed: str = ""  # digest of the addresses of a Kafka and a database that were empty when it began there


class StateDirectory:
    """`with StateDirectory(path, fresh=False) as state:` it is ours until the end of the block."""

    def __init__(self, path: Path, *, fresh: bool = False) -> None:
        self.path = path
        self._fresh = fresh
        self._lock: IO[str] | None = None

    def __enter__(self) -> Self:
        try:
            child.require_room(self.path)
            self._take()
            if self._fresh:
                self._forget()
            self._stamp()
            self.logs.mkdir(exist_ok=True)
            self.services.mkdir(exist_ok=True)
        except OSError as error:
            self._release()
            raise child.from_os_error(error, f"cannot use the state directory {self.path}") from error
        except DevstackError:
            self._release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def services(self) -> Path:
        """What services keep on disk: the simulated clusters."""
        return self.path / "services"

    @property
    def clock_file(self) -> Path:
        return self.path / "clock.json"

    @property
    def submissions(self) -> Path:
        return self.path / "submissions.jsonl"

    @property
    def connection(self) -> Path:
        """Where the command line finds the running API (solyx/cli/connection.py)."""
        return self.path / "connection.json"

    def progress(self) -> Progress | None:
        """How far an earlier start came; None: there was none."""
        try:
            return msgspec.json.decode((self.path / "progress.json").read_bytes(), type=Progress)
        except FileNotFoundError:
            return None
        except msgspec.MsgspecError as error:
            raise self._stale("cannot be read") from error

    def save(self, progress: Progress) -> None:
        """Remember; a crash leaves the old or the new content."""
        replace_file(self.path / "progress.json", msgspec.json.encode(progress))

    def _take(self) -> None:
        self._lock = (self.path / "lock").open("a+")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.seek(0)
            raise DevstackError(
                f"another ./run (process {self._lock.read().strip() or 'unknown'}) uses {self.path}",
                "stop it with Ctrl-C, or choose another directory with --state DIR",
            ) from None
        self._lock.truncate(0)
        self._lock.write(f"{os.getpid()}\n")
        self._lock.flush()

    def _forget(self) -> None:
        """Remove what we made, and nothing else that may lie there."""
        if self._read_stamp() is None and any((self.path / name).exists() for name in _OURS):
            raise DevstackError(
                f"{self.path} has no version stamp, so it may not be ours to clear",
                "empty it yourself, or choose another directory with --state DIR",
            )
        for name in _FILES:
            (self.path / name).unlink(missing_ok=True)
        for name in _OURS:
            if (self.path / name).is_dir():
                shutil.rmtree(self.path / name)

    def _stamp(self) -> None:
        mine = Version(layout=LAYOUT, solyx=_version())
        found = self._read_stamp()
        if found is None:
            if any((self.path / name).exists() for name in _OURS):
                raise self._stale("has no version stamp")
            replace_file(self.path / "version.json", msgspec.json.encode(mine))
        elif found.layout != LAYOUT:
            raise self._stale(f"was made by Solyx {found.solyx} (layout {found.layout}, this one needs {LAYOUT})")

    def _read_stamp(self) -> Version | None:
        try:
            return msgspec.json.decode((self.path / "version.json").read_bytes(), type=Version)
        except FileNotFoundError:
            return None
        except msgspec.MsgspecError:
            return Version(layout=-1, solyx="of an unknown version")

    def _stale(self, why: str) -> DevstackError:
        return DevstackError(
            f"the state directory {self.path} {why}",
            "start with --fresh to forget what is in it, or choose another one with --state DIR",
        )


def replace_file(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    """Write so that readers, and the next start after a crash, see all or nothing."""
    temporary = path.with_name(path.name + ".tmp")
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:  # noqa: PTH123 - with a mode
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _version() -> str:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
