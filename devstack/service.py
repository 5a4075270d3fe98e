"""One service as one operating-system process: started, asked whether it is ready, started again when it dies."""

import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from devstack import child
from devstack.bootstrap import ROOT
from devstack.child import LOOPBACK
from devstack.errors import DevstackError

__all__ = ["ServiceProcess", "resident_mb"]

_BACK_OFF_S = (0.25, 10.0)  # first and longest pause before a restart; each is twice the one before
_STABLE_S = 30.0  # so long alive, and the next restart is a first one again
_MOST_EARLY_DEATHS = 4  # a service that never becomes ready is not tried for ever
_PROBE_TIMEOUT_S = 2.0
_WRONG_SETTINGS = 2  # the exit status of a service whose settings or scenario do not fit
# Every process works on few threads here: pools as large as the machine would only cost memory, seven times.
_FRUGAL = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}


class ServiceProcess:
    """`python -m services.<service>`; its output goes to `logs/<name>.log`."""

    def __init__(self, service: str, number: int, *, port: int, environment: Mapping[str, str], logs: Path) -> None:
        self.name = service if number == 0 else f"{service}-{number}"
        self.service = service
        self.port = port
        self.log_file = logs / f"{self.name}.log"
        self.restarts = 0
        self.ready = False
        self.ready_s: float | None = None  # from `started_at` of the first start to the first time it was ready
        self.peak_mb = 0.0
        self._environment = os.environ | _FRUGAL | dict(environment)
        self._environment |= {"SOLYX_REPLICA": str(number), f"SOLYX_{service.upper()}_HTTP_PORT": str(port)}
        self._process: subprocess.Popen[bytes] | None = None
        self._first_start = 0.0
        self._last_start = 0.0
        self._start_at: float | None = None
        self._deaths_in_a_row = 0

    def set_environment(self, environment: Mapping[str, str]) -> None:
        """More settings, from the next start on."""
        self._environment |= environment

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def start(self) -> None:
        """Start the process; it is not ready yet."""
        self._last_start = time.monotonic()
        self._first_start = self._first_start or self._last_start
        self._start_at = None
        self._process = child.spawn(
            [sys.executable, "-m", f"services.{self.service}"], log=self.log_file, env=self._environment, cwd=ROOT
        )

    def tend(self) -> str | None:
        """Look after it: returns what is worth telling, once.

        Raises:
            DevstackError: it cannot work, whatever is tried.
        """
        now = time.monotonic()
        if self._start_at is not None:
            if now >= self._start_at:
                self.start()
                self.restarts += 1
            return None
        if self._process is None:
            return None
        status = self._process.poll()
        if status is not None:
            return self._died(status, now)
        if self._deaths_in_a_row and now - self._last_start > _STABLE_S:
            self._deaths_in_a_row = 0
        was_ready, self.ready = self.ready, self._probe()
        if self.ready and self.ready_s is None:
            self.ready_s = now - self._first_start
        if self.ready and not was_ready and self.restarts:
            return f"{self.name} is ready again"
        return None

    def _died(self, status: int, now: float) -> str:
        self.ready = False
        if status == _WRONG_SETTINGS:
            words = child.last_words(self.log_file, lines=1) or "it gave no reason"
            raise DevstackError(f"{self.name} cannot start", words)
        self._deaths_in_a_row += 1
        if self.ready_s is None and self._deaths_in_a_row >= _MOST_EARLY_DEATHS:
            raise DevstackError(
                f"{self.name} ended {self._deaths_in_a_row} times before it was ready",
                f"read {self.log_file}; it ends with:\n{child.last_words(self.log_file, lines=5, width=300)}",
            )
        pause_s = min(_BACK_OFF_S[0] * 2 ** (self._deaths_in_a_row - 1), _BACK_OFF_S[1])
        self._start_at = now + pause_s
        how = signal.Signals(-status).name if status < 0 else f"status {status}"
        return f"{self.name} ended ({how}) and is started again"

    def _probe(self) -> bool:
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=_PROBE_TIMEOUT_S)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def measure(self) -> float:
        """Resident memory now, in MB; remembers the most."""
        pid = self.pid
        now_mb = resident_mb(pid) if pid is not None else 0.0
        self.peak_mb = max(self.peak_mb, now_mb)
        return now_mb

    def ask_to_stop(self) -> None:
        """SIGTERM; from now on its end is wanted."""
        self._start_at = None
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def ensure_stopped(self, *, by: float) -> bool:
        """Wait until `by` (monotonic), then kill it and what it started. False: it had to be killed."""
        process, self._process = self._process, None
        if process is None:
            return True
        try:
            process.wait(max(by - time.monotonic(), 0.01))
        except subprocess.TimeoutExpired:
            _kill_session(process.pid)
            process.wait()
            return False
        _kill_session(process.pid)  # children that outlived it
        return True


def _kill_session(leader: int) -> None:
    """SIGKILL to the process group that `spawn` made for the process."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def resident_mb(pid: int) -> float:
    """Resident memory of a process and its children. Pages that several of them share count once (PSS)."""
    try:
        process = psutil.Process(pid)
        family: Sequence[psutil.Process] = process.children(recursive=True)
        if not family:
            return process.memory_info().rss / 1e6
        return sum(_proportional(member) for member in (process, *family)) / 1e6
    except psutil.Error:
        return 0.0


def _proportional(process: psutil.Process) -> int:
    try:
        return process.memory_full_info().pss
    except psutil.Error:
        return 0
