"""The whole installation on one machine: broker, database, every service; started together, stopped in order.

What can be done at the same time is: broker and database start together; as soon as both answer, all services do, and the
tenants and keys are made meanwhile.
"""

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import msgspec

from devstack import child, kafka_aot
from devstack.bootstrap import ROOT
from devstack.broker import KafkaBroker
from devstack.child import LOOPBACK
from devstack.errors import DevstackError
from devstack.existing import unusable_kafka
from devstack.postgres import PostgresServer
from devstack.server import Server
from devstack.service import ServiceProcess, resident_mb
from solyx.bus.kafka import KafkaBus
from solyx.bus.port import Transient
from solyx.topics import TOPICS

__all__ = ["Part", "Plan", "Stack"]

_READY_WITHIN_S = 90.0
_TEND_S = 0.05  # between two looks at the services while they start, and when one died
_STOP_WITHIN_S = 10.0
_SET_UP_WITHIN_S = 60.0
_FIRST_TO_STOP = frozenset({"gateway", "collector"})  # what brings new work in


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to start, and with which settings."""

    processes: Sequence[tuple[str, int]]  # service and replica number
    environment: Mapping[str, str]  # settings that all services share
    directory: Path
    logs: Path
    api_port: int  # 0: a free one
    tenants: int
    home_sites: Sequence[str]
    kafka: str = ""  # an existing cluster; empty: start one
    database: str = ""  # an existing database; empty: start one


@dataclass(frozen=True, kw_only=True)
class Part:
    """How a part of the stack is."""

    name: str
    ready: bool
    ready_s: float | None
    peak_mb: float
    restarts: int


class Stack:
    """`start()` returns when everything is ready; `stop()` leaves no process behind."""

    def __init__(self, plan: Plan, *, tell: Callable[[str], None]) -> None:
        """`tell` hears what happens to the processes, in words; it may be called from another thread."""
        self._plan, self._tell = plan, tell
        self._broker = None if plan.kafka else KafkaBroker(plan.directory / "kafka")
        self._database = None if plan.database else PostgresServer(plan.directory / "postgres")
        self._began = time.monotonic()
        self._ready_s: dict[str, float] = {}
        self._peaks: dict[str, float] = {}
        self._restarts: Counter[str] = Counter()
        self._stopping = threading.Event()
        self._tender = threading.Thread(target=self._tend, name="tender", daemon=True)
        self.peak_mb = 0.0  # of everything together, this process included
        self.failure: DevstackError | None = None
        self.services = [self._process(service, number) for service, number in plan.processes]

    @property
    def kafka(self) -> str:
        """Bootstrap servers."""
        return self._plan.kafka or (self._broker.bootstrap_servers if self._broker is not None else "")

    @property
    def broker(self) -> KafkaBroker | None:
        """The broker that was started here; None where an existing one is used."""
        return self._broker

    @property
    def api(self) -> str:
        """The REST API's address."""
        return f"http://{LOOPBACK}:{next(part.port for part in self.services if part.service == 'gateway')}"

    @property
    def key_file(self) -> Path:
        """The API keys, JSON: tenant → key."""
        return self._plan.directory / "keys.json"

    def admin_key(self) -> str:
        """The key that may do everything."""
        return msgspec.json.decode(self.key_file.read_bytes(), type=dict[str, str])["admin"]

    def _process(self, service: str, number: int) -> ServiceProcess:
        if service == "gateway" and self._plan.api_port:
            child.require_free(self._plan.api_port, what="the REST API (--api-port chooses another port, 0 any)")
            port = self._plan.api_port
        else:
            port = child.free_port()
        return ServiceProcess(service, number, port=port, environment=self._plan.environment, logs=self._plan.logs)

    def start(self, *, cancelled: threading.Event | None = None) -> float:
        """Start everything; the seconds it took. Returns early when it is `cancelled`.

        Raises:
            DevstackError: something cannot start; it says what to do.
        """
        cancelled = cancelled or threading.Event()
        if self._broker is not None:
            kafka_aot.prepare()
        self._began = time.monotonic()
        with ThreadPoolExecutor(max_workers=2, thread_name_prefix="start") as pool:
            broker, database = pool.submit(self._start_broker), pool.submit(self._start_database)
            try:
                addresses = {
                    "SOLYX_KAFKA_BOOTSTRAP_SERVERS": broker.result(),
                    "SOLYX_DATABASE_URL": database.result(),
                }
            except BaseException:
                _settle(broker, database)
                raise
        if cancelled.is_set():
            return time.monotonic() - self._began
        for process in self.services:
            process.set_environment(addresses)
            process.start()
        self._tender.start()
        self._set_up(addresses)
        return self._wait_ready(cancelled)

    def _start_broker(self) -> str:
        if self._broker is not None:
            self._broker.start()
            self._ready_s["kafka"] = time.monotonic() - self._began
        try:
            with KafkaBus(self.kafka, client_name="devstack") as bus:
                bus.ensure_topics(TOPICS)
        except (Transient, ValueError) as error:
            raise unusable_kafka(self.kafka, error) from error
        return self.kafka

    def _start_database(self) -> str:
        url = self._plan.database
        if self._database is not None:
            url = self._database.start().url
            self._ready_s["postgres"] = time.monotonic() - self._began
        return url

    def _set_up(self, addresses: Mapping[str, str]) -> None:
        """Tenants and keys. Our own database keeps them; somebody else's may have been emptied since."""
        if self._database is not None and self.key_file.exists():
            return
        homes = [argument for site in self._plan.home_sites for argument in ("--home-site", site)]
        log = self._plan.logs / "bootstrap.log"
        process = child.spawn(
            [
                *(sys.executable, "-m", "services.gateway", "bootstrap", "--admin-key-file", str(self.key_file)),
                *("--tenants", str(self._plan.tenants), *homes),
            ],
            log=log,
            env=os.environ | dict(self._plan.environment) | dict(addresses),
            cwd=ROOT,
        )
        try:
            status = process.wait(_SET_UP_WITHIN_S)
        except subprocess.TimeoutExpired:
            child.end(process, within_s=1.0)
            raise DevstackError(
                f"the database was not set up within {_SET_UP_WITHIN_S:g} s",
                f"start again when the machine is less busy; what was done is in {log}",
            ) from None
        if status != 0:
            raise DevstackError(
                "the database could not be set up", f"read {log}; it ends with:\n{child.last_words(log, lines=4)}"
            )

    def _wait_ready(self, cancelled: threading.Event) -> float:
        deadline = self._began + _READY_WITHIN_S
        while not all(process.ready for process in self.services):
            if self.failure is not None:
                raise self.failure
            if time.monotonic() > deadline:
                late = [process for process in self.services if not process.ready]
                names = ", ".join(process.name for process in late)
                raise DevstackError(
                    f"not ready within {_READY_WITHIN_S:.0f} s: {names}",
                    f"read {late[0].log_file}; it ends with:\n{child.last_words(late[0].log_file, lines=5, width=300)}",
                )
            if cancelled.wait(_TEND_S):
                break
        return time.monotonic() - self._began

    def _tend(self) -> None:
        """The thread that looks after everything until `stop`."""
        measured = 0.0
        try:
            while not self._stopping.is_set():
                settled = self._tend_once()
                now = time.monotonic()
                if settled and now - measured >= 1.0:
                    measured = now
                    self._measure()
                self._stopping.wait(10 * _TEND_S if settled else _TEND_S)
        except DevstackError as error:
            self.failure = error

    def _tend_once(self) -> bool:
        """One look; True when all is well."""
        for name, server in self._servers():
            if not server.is_running:
                self._tell(f"{name} ended and is started again")
                server.start()
                self._restarts[name] += 1
        for process in self.services:
            if self._stopping.is_set():
                return True
            news = process.tend()
            if news is not None:
                self._tell(news)
        return all(process.ready for process in self.services)

    def _servers(self) -> list[tuple[str, Server]]:
        """The broker and the database that are ours."""
        named = (("kafka", self._broker), ("postgres", self._database))
        return [(name, server) for name, server in named if server is not None]

    def _measure(self) -> None:
        total = resident_of(os.getpid())
        for name, server in self._servers():
            now_mb = resident_mb(server.pid) if server.pid is not None else 0.0
            self._peaks[name] = max(self._peaks.get(name, 0.0), now_mb)
            total += now_mb
        total += sum(process.measure() for process in self.services)
        self.peak_mb = max(self.peak_mb, total)

    def pids(self) -> dict[str, int]:
        """Process ids by name, of what runs now."""
        started = (("kafka", self._broker), ("postgres", self._database))
        servers = {name: server.pid if server is not None else None for name, server in started}
        found = servers | {process.name: process.pid for process in self.services}
        return {name: pid for name, pid in found.items() if pid is not None}

    def parts(self) -> list[Part]:
        """Every process of the stack, those of others (an existing Kafka) left out."""
        servers = [
            Part(
                name=name,
                ready=server.is_running,
                ready_s=self._ready_s.get(name),
                peak_mb=self._peaks.get(name, 0.0),
                restarts=self._restarts[name],
            )
            for name, server in self._servers()
        ]
        return servers + [
            Part(
                name=process.name,
                ready=process.ready,
                ready_s=process.ready_s,
                peak_mb=process.peak_mb,
                restarts=process.restarts,
            )
            for process in self.services
        ]

    def stop(self) -> None:
        """Services first, what brings work in before the rest; then database and broker. Bounded, whatever hangs."""
        self._stopping.set()
        if self._tender.is_alive():
            self._tender.join(5.0)
        first = [process for process in self.services if process.service in _FIRST_TO_STOP]
        rest = [process for process in self.services if process.service not in _FIRST_TO_STOP]
        for group in (first, rest):
            deadline = time.monotonic() + _STOP_WITHIN_S
            for process in group:
                process.ask_to_stop()
            for process in group:
                if not process.ensure_stopped(by=deadline):
                    self._tell(f"{process.name} did not stop within {_STOP_WITHIN_S:.0f} s and was killed")
        with ThreadPoolExecutor(max_workers=2, thread_name_prefix="stop") as pool:
            for _, server in self._servers():
                pool.submit(server.stop)


def _settle(*futures: "Future[str]") -> None:
    """Wait for what was begun, so that it can be stopped."""
    for future in futures:
        with contextlib.suppress(Exception):
            future.result()


def resident_of(pid: int) -> float:
    """Resident memory of one process without its children, in MB."""
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:  # noqa: PTH123 - not a file on disk
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
