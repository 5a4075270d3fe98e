"""The log under everything: one real Apache Kafka broker (KRaft, combined mode) as a child process on loopback.

Formats its directory once and keeps the data on the next start. Ends with this process, even when that is killed.
"""

import signal
import subprocess
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from devstack import child
from devstack.child import LOOPBACK
from devstack.errors import DevstackError
from devstack.kafka_jars import aot_cache, class_path, java
from devstack.server import Server

__all__ = ["DevstackError", "KafkaBroker"]

_JVM = ("-Xms64m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
_LOGGING = (
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
)
_START_ATTEMPTS = 3  # automatic ports only: another process may take one between our choice and Kafka's bind

# One node, small heap. Sources: kafka.apache.org/42/configuration and our own measurements of resident memory.
_SETTINGS: dict[str, str | int] = {
    "node.id": 1,
    "process.roles": "broker,controller",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "CLIENT",
    "listener.security.protocol.map": "CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    # A consumer that outlives its test would otherwise create its topics, wrongly set, on the next broker.
    "auto.create.topics.enable": "false",
    "default.replication.factor": 1,
    "min.insync.replicas": 1,
    "offsets.topic.num.partitions": 4,
    "offsets.topic.replication.factor": 1,
    "transaction.state.log.num.partitions": 4,
    "transaction.state.log.replication.factor": 1,
    "transaction.state.log.min.isr": 1,
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": 1000,
    "share.coordinator.state.topic.num.partitions": 1,
    "share.coordinator.state.topic.replication.factor": 1,
    "share.coordinator.state.topic.min.isr": 1,
    "group.initial.rebalance.delay.ms": 0,
    "group.min.session.timeout.ms": 1000,
    # KIP-848 groups: the broker, not the client, sets these; small, so that a dead member is noticed within a test.
    "group.consumer.min.heartbeat.interval.ms": 500,
    "group.consumer.heartbeat.interval.ms": 1000,
    "group.consumer.min.session.timeout.ms": 3000,
    "group.consumer.session.timeout.ms": 6000,
    # The defaults (128 MB at once, 10 MB and 1 GB a partition) are for servers and kill a small heap.
    "log.cleaner.dedupe.buffer.size": 2_097_152,
    "log.index.size.max.bytes": 1_048_576,
    "log.segment.bytes": 16_777_216,
    "log.cleaner.threads": 1,
    "num.network.threads": 2,
    "num.io.threads": 4,
    "background.threads": 2,
    "num.recovery.threads.per.data.dir": 1,
    "controlled.shutdown.max.retries": 1,
    # A killed broker may register again only when its last session is over: at the default 9 s a restart takes 12 s.
    "broker.session.timeout.ms": 3000,
    "broker.heartbeat.interval.ms": 500,
}


class KafkaBroker(Server):
    """`with KafkaBroker(directory) as broker: broker.bootstrap_servers`.

    `port` fixes the client port; without it a free one is chosen and kept for this object's life, so that clients find
    the broker again after `kill()` and `start()`. `settings` are added to server.properties. `jvm` replaces the options
    that make the start fast where `kafka_aot` has prepared it.
    """

    stop_signal = signal.SIGTERM
    stop_within_s = 15.0

    def __init__(
        self,
        directory: Path | str,
        *,
        port: int | None = None,
        settings: Mapping[str, str] | None = None,
        jvm: Sequence[str] | None = None,
    ) -> None:
        super().__init__(directory, port=port)
        self._controller_port: int | None = None
        self._settings = dict(settings or {})
        self._jvm = jvm

    @property
    def bootstrap_servers(self) -> str:
        if self._port is None:
            raise DevstackError("the broker has no address yet", "start() it first")
        return f"{LOOPBACK}:{self._port}"

    @property
    def log_file(self) -> Path:
        return self._directory / "broker.log"

    def start(self, *, within_s: float = 60.0) -> Self:
        """Returns when the broker answers a metadata request."""
        if self.is_running:
            return self
        child.require_room(self._directory)
        jars = class_path()
        keep_port = self._fixed_port is not None or self._port is not None
        for attempt in range(1, _START_ATTEMPTS + 1):
            self._take_ports()
            self._write_properties()
            if not (self._data / "meta.properties").exists():
                self._format(jars)
            if self._run(jars, within_s=within_s):
                return self
            address_in_use = "Address already in use" in child.last_words(self.log_file, lines=60)
            if not address_in_use or keep_port or attempt == _START_ATTEMPTS:
                raise self._failure(within_s)
            self._release_ports()
        raise AssertionError

    @property
    def _data(self) -> Path:
        return self._directory / "data"

    @property
    def _properties(self) -> Path:
        return self._directory / "server.properties"

    def _take_ports(self) -> None:
        if self._port is None:
            self._port = self._fixed_port if self._fixed_port is not None else child.free_port()
        # A port of our own that was just killed may need a moment; a fixed one on the first start is checked at once.
        child.require_free(self._port, what="Kafka", within_s=0.0 if self._controller_port is None else 5.0)
        if self._controller_port is None or not child.is_free(self._controller_port):
            self._controller_port = child.free_port()

    def _release_ports(self) -> None:
        for port in (self._port, self._controller_port):
            if port is not None:
                child.release_port(port)
        self._port = self._controller_port = None

    def _write_properties(self) -> None:
        client, controller = f"{LOOPBACK}:{self._port}", f"{LOOPBACK}:{self._controller_port}"
        settings = _SETTINGS | {
            "listeners": f"CLIENT://{client},CONTROLLER://{controller}",
            "advertised.listeners": f"CLIENT://{client}",
            # Voters from the settings, not from the formatted log: the controller's port may differ at the next start.
            "controller.quorum.voters": f"1@{controller}",
            "log.dirs": str(self._data),
        }
        lines = (f"{key}={value}\n" for key, value in (settings | self._settings).items())
        try:
            self._properties.write_text("".join(lines))
        except OSError as error:
            raise child.from_os_error(error, f"cannot write {self._properties}") from error

    def _format(self, jars: str) -> None:
        cluster = (
            urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode().replace("-", "a")
        )  # `-x` reads as an option
        tool = ["kafka.tools.StorageTool", "format", "--ignore-formatted", "-t", cluster, "-c", str(self._properties)]
        done = child.spawn([str(java()), *_JVM, *_LOGGING, "-cp", jars, *tool], log=self.log_file)
        try:
            status = done.wait(60)
        except subprocess.TimeoutExpired:
            status = -1
        if status != 0:
            child.end(done, how=signal.SIGKILL)
            raise self._failure(60)

    def _run(self, jars: str, *, within_s: float) -> bool:
        self.log_file.unlink(missing_ok=True)
        fast = _fast_start() if self._jvm is None else self._jvm
        command = [str(java()), *_JVM, *fast, *_LOGGING, "-cp", jars, "kafka.Kafka", str(self._properties)]
        process = child.spawn(command, log=self.log_file, cwd=self._directory)
        # Silent: until the broker listens, each refused connection would be a line on standard error.
        admin = AdminClient(
            {"bootstrap.servers": self.bootstrap_servers, "log_level": 0, "reconnect.backoff.max.ms": 200}
        )

        def answers() -> bool:
            try:
                return bool(admin.list_topics(timeout=0.5).brokers)
            except KafkaException:
                return False

        if child.wait_until(answers, process=process, within_s=within_s):
            self._process = process
            return True
        child.end(process, how=signal.SIGKILL)
        return False

    def _failure(self, within_s: float) -> DevstackError:
        words = child.last_words(self.log_file, lines=60)
        if "No space left on device" in words:
            return child.disk_full(self._directory)
        if "Failed to acquire lock on file .lock" in words:
            return DevstackError(f"another broker uses {self._data}", "stop it, or choose another directory")
        if "Address already in use" in words:
            return DevstackError(
                f"port {self._port} was taken while Kafka started", "start again or choose another port"
            )
        return DevstackError(
            f"Kafka did not start within {within_s:.0f} s", f"read {self.log_file}; it ends with:\n{words[-800:]}"
        )


def _fast_start() -> tuple[str, ...]:
    """With the prepared classes, when there are some; the JVM itself refuses what does not fit, and says nothing here."""
    cache = aot_cache()
    return (f"-XX:AOTCache={cache}", "-Xlog:aot*=off", "-Xlog:cds*=off") if cache.is_file() else ()
