"""Below the broker and the database: child processes that end with us, loopback ports that stay free, room on disk."""

import contextlib
import ctypes
import os
import secrets
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from devstack.errors import DevstackError

LOOPBACK = "127.0.0.1"
_PR_SET_PDEATHSIG = 1
# Below Linux's ephemeral range (32768-60999): no outgoing connection can take the port while its server restarts.
_FIRST_PORT, _LAST_PORT = 20_000, 32_000
_MIN_FREE_BYTES = 300 * 1024 * 1024

_libc = ctypes.CDLL(None, use_errno=True)
# The kernel sends the parent-death signal when the *thread* that forked ends, not the process. All children are
# therefore forked by this one thread, which lives as long as the interpreter.
_forker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="devstack-forker")
_reserved: set[int] = set()
_reserving = threading.Lock()


def spawn(
    argv: Sequence[str],
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    death_signal: signal.Signals = signal.SIGKILL,
) -> subprocess.Popen[bytes]:
    """Starts `argv` in a session of its own (a Ctrl-C at the terminal is ours to pass on); output goes to `log`.

    The child gets `death_signal` when this process ends, however it ends.
    """
    parent = os.getpid()

    def before_exec() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        if os.getppid() != parent:  # the parent died between the fork and the call above
            os._exit(1)

    def fork() -> subprocess.Popen[bytes]:
        with log.open("ab") as out:
            return subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=dict(env) if env is not None else None,
                cwd=cwd,
                start_new_session=True,
                preexec_fn=before_exec,  # noqa: PLW1509 - prctl has no other place; the child calls nothing that locks
            )

    try:
        return _forker.submit(fork).result()
    except OSError as error:
        raise from_os_error(error, f"cannot start {Path(argv[0]).name}") from error


def end(process: subprocess.Popen[bytes], *, how: signal.Signals = signal.SIGTERM, within_s: float = 10.0) -> None:
    """Asks the process to end with `how`, then kills it."""
    if process.poll() is None:
        process.send_signal(how)
        try:
            process.wait(within_s)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()


def wait_until(ready: Callable[[], bool], *, process: subprocess.Popen[bytes], within_s: float) -> bool:
    """True once `ready()`; False when the process ended or the time is over."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if process.poll() is not None:
            return False
        if ready():
            return True
        time.sleep(0.05)
    return False


def is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a connection in TIME_WAIT blocks nobody
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def free_port() -> int:
    """A loopback port that nothing listens on and that this process has not handed out before."""
    with _reserving:
        for _ in range(1000):
            port = _FIRST_PORT + secrets.randbelow(_LAST_PORT - _FIRST_PORT)
            if port not in _reserved and is_free(port):
                _reserved.add(port)
                return port
    raise DevstackError("no free loopback port", f"end some of the servers on ports {_FIRST_PORT}-{_LAST_PORT}")


def release_port(port: int) -> None:
    with _reserving:
        _reserved.discard(port)


def require_free(port: int, *, what: str, within_s: float = 0.0) -> None:
    """Raises unless the port is free within the time (a killed server's port may take a moment)."""
    deadline = time.monotonic() + within_s
    while not is_free(port):
        if time.monotonic() >= deadline:
            raise DevstackError(
                f"port {port} is taken, {what} cannot listen on it",
                f"end the process that listens there (ss -ltnp 'sport = :{port}') or choose another port",
            )
        time.sleep(0.05)


def require_room(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    free_bytes = shutil.disk_usage(directory).free
    if free_bytes < _MIN_FREE_BYTES:
        raise disk_full(directory)


def disk_full(where: Path | str) -> DevstackError:
    return DevstackError(
        f"the disk that holds {where} is full", f"free at least {_MIN_FREE_BYTES // 1024**2} MiB there and start again"
    )


def from_os_error(error: OSError, doing: str) -> DevstackError:
    """The file system's errors in words."""
    if error.errno == 28:  # ENOSPC
        return disk_full(error.filename or "the data directory")
    return DevstackError(f"{doing} ({error.strerror or error})", "check that the path exists and is writable")


def last_words(log: Path, *, lines: int = 12, width: int | None = None) -> str:
    """The end of a log, for an error message; longer lines are cut at ``width``."""
    with contextlib.suppress(FileNotFoundError):
        return "\n".join(line[:width] for line in log.read_text(errors="replace").splitlines()[-lines:])
    return ""
