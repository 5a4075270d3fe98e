"""One shard on one thread: recover its core from the log, follow while another leads, lead when told to."""

from __future__ import annotations

import threading
from collections import Counter, deque
from math import inf
from typing import TYPE_CHECKING

import msgspec
import prometheus_client as prometheus

from solyx.bus.port import Bus, Fenced, Ownership, Partition, Received, ShardLog, Transient, next_offsets
from solyx.clock import monotonic_s
from solyx.events import AllocationReleased, Event, JobFinished, Poison, Record, decode_event, encode
from solyx.telemetry import get_logger, step, trace_id_of
from solyx.topics import DEADLETTERS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from solyx.bus.runner import Core, Hooks, Role
    from solyx.clock import Clock
    from solyx.settings import Settings

log = get_logger()

RECORDS = prometheus.Counter("solyx_records_total", "Records folded", ["service", "topic"])
DECISIONS = prometheus.Counter("solyx_decisions_total", "Decisions published", ["service", "type", "reason"])
DEAD = prometheus.Counter("solyx_deadletters_total", "Records parked in the dead letters", ["service", "topic"])
BATCH = prometheus.Histogram(
    "solyx_batch_records",
    "Records in one transaction's input",
    ["service"],
    buckets=(1, 3, 10, 30, 100, 300, 1000, 3000),
)
DECIDE = prometheus.Histogram(
    "solyx_decide_seconds",
    "Time of the core for one batch",
    ["service"],
    buckets=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3),
)
COMMIT = prometheus.Histogram(
    "solyx_commit_seconds", "Time of one transaction", ["service"], buckets=(0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10)
)
LAG = prometheus.Gauge(
    "solyx_lag_records", "Records not yet read, of the shards that are led or followed here", ["service", "shard"]
)
RECOVERIES = prometheus.Counter("solyx_recoveries_total", "Cores rebuilt from the log", ["service"])

OFFSETS_INTERVAL_S = 1.0
"""Offsets of batches that led to no decision are committed at least this often; they cost a transaction."""
MEASURE_EVERY_S = 1.0
POISON_WINDOW = 1000
POISON_BOUND = 0.5
"""A stream of which more than half of the last thousand records is unreadable stops instead of emptying into the dead letters."""


class TooMuchPoison(Exception):  # noqa: N818 - names the state of the stream
    """The inputs are unreadable as a whole: a wrong topic or an incompatible writer."""


class ShardWorker:
    """The thread of one shard."""

    def __init__(
        self, *, role: Role, shard: int, bus: Bus, ownership: Ownership, clock: Clock, settings: Settings
    ) -> None:
        self._role, self._shard, self._bus, self._ownership = role, shard, bus, ownership
        self._clock, self._settings = clock, settings
        self._lead_asked = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"{role.service}-{shard}", daemon=True)
        self.leading = False
        self.recovered = False
        self.lag = 0
        self._measured_at = -inf
        self.progress_at = monotonic_s()
        self._life: _Life | None = None
        self.error: BaseException | None = None

    def start(self) -> None:
        """Recover and follow."""
        self._thread.start()

    def lead(self) -> None:
        """Become the shard's writer as soon as it is recovered."""
        self._lead_asked.set()

    def ask_to_stop(self) -> None:
        """Stop after the batch at hand."""
        self._stopping.set()

    def join(self, timeout_s: float) -> None:
        """Wait for the end; a shard that does not end in time is fenced by its next owner."""
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            log.error("shard_did_not_stop", shard=self._shard, service=self._role.service)

    def committing_s(self) -> float:
        """How long the transaction at hand has been under way; 0: none is."""
        began = self._life.committing_since if self._life is not None else None
        return 0.0 if began is None else monotonic_s() - began

    def _run(self) -> None:
        while not self._stopping.is_set() and self.error is None:
            self.progress_at = monotonic_s()
            try:
                self._live_once()
            except Transient as error:
                log.warning("shard_transient", shard=self._shard, error=str(error))
                self._stopping.wait(error.after_s)
            except Fenced as error:
                log.warning("shard_fenced", shard=self._shard, error=str(error))
                self._stopping.wait(
                    1.0
                )  # ownership tells whether the shard is still ours; if so, recover and lead again
            except BaseException as error:
                log.exception("shard_failed", shard=self._shard)
                self.error = error
            finally:
                self.leading = self.recovered = False

    def _live_once(self) -> None:
        """From opening the log to losing it."""
        role = self._role
        numbers = (lambda topic: range(topic.partitions)) if role.by == "all" else (lambda _: (self._shard,))
        shard_log = self._bus.open_shard(
            service=role.service,
            shard=self._shard,
            inputs=[Partition(topic.name, number) for topic in role.inputs for number in numbers(topic)],
            own=[Partition(topic.name, number) for topic in role.outputs for number in numbers(topic)],
            ownership=self._ownership,
        )
        try:
            life = self._life = _Life(role, self._shard, self._clock, self._settings)
            if self._follow(life, shard_log):
                self._lead(life, shard_log)
        finally:
            self._forget_lag()
            shard_log.close()

    def _follow(self, life: _Life, shard_log: ShardLog) -> bool:
        """Fold until this shard leads; False when asked to stop before."""
        RECOVERIES.labels(self._role.service).inc()
        while not self._lead_asked.is_set() or not shard_log.caught_up():
            self.progress_at = monotonic_s()
            if self._stopping.is_set():
                return False
            self._measure_lag(shard_log)
            life.fold(shard_log.read(max_records=self._settings.batch_max_records, timeout_s=0.05))
            self.recovered = self.recovered or shard_log.caught_up()
        shard_log.lead()
        while not shard_log.caught_up():
            self.progress_at = monotonic_s()
            if self._stopping.is_set():
                return False
            self._measure_lag(shard_log)
            life.fold(shard_log.read(max_records=self._settings.batch_max_records, timeout_s=0.05))
        shard_log.stop_following()
        life.begin(shard_log.committed())
        return True

    def _lead(self, life: _Life, shard_log: ShardLog) -> None:
        hooks = self._role.hooks(self._shard) if self._role.hooks else None
        try:
            if hooks:
                hooks.started(life.core)
            self.leading = self.recovered = True
            log.info("shard_leading", shard=self._shard, records=life.folded)
            while not self._stopping.is_set():
                self.progress_at = monotonic_s()
                life.turn(shard_log, hooks)
                self._measure_lag(shard_log)
        finally:
            self.leading = False
            if hooks:
                hooks.stopped()

    def _measure_lag(self, shard_log: ShardLog) -> None:
        """On this thread, which alone may use the log; while the core is rebuilt it tells how much is left."""
        now = monotonic_s()
        if now - self._measured_at > MEASURE_EVERY_S:
            self._measured_at = now
            self.lag = shard_log.lag()
            LAG.labels(self._role.service, str(self._shard)).set(self.lag)

    def _forget_lag(self) -> None:
        """Another replica may have the shard from here on: the last figure would stand for ever."""
        self.lag, self._measured_at = 0, -inf
        LAG.remove(self._role.service, str(self._shard))


class _Life:
    """A core between its recovery and its end, and what must be known to commit its decisions."""

    def __init__(self, role: Role, shard: int, clock: Clock, settings: Settings) -> None:
        self.core: Core = role.make_core(shard)
        self.folded = 0
        self._role, self._clock, self._settings = role, clock, settings
        self._inputs = {topic.name for topic in role.inputs}
        self._offsets: dict[Partition, int] = {}  # next to process of each input
        self._unparked: list[
            tuple[Received, str]
        ] = []  # unreadable, seen while following; whose they are shows when we lead
        self._poisoned: deque[bool] = deque(maxlen=POISON_WINDOW)
        self._poison_count = 0
        self._traces = TraceMemory()
        self._committed_at = 0.0
        self.committing_since: float | None = None
        self._records = {t.name: RECORDS.labels(role.service, t.name) for t in (*role.inputs, *role.outputs)}

    def fold(self, batch: Sequence[Received]) -> list[tuple[Received, str]]:
        """Merge records into the core; returns the unreadable ones with their error, and keeps them until ``begin``."""
        unreadable: list[tuple[Received, str]] = []
        core, traces = self.core, self._traces
        for partition, offset in next_offsets(batch).items():
            if partition.topic in self._inputs:
                self._offsets[partition] = offset
        for received in batch:
            if received.value is None:
                continue
            try:
                event, traceparent = decode_event(received.value, received.headers)
            except Poison as error:
                unreadable.append((received, str(error)))
                self._judge(poisoned=True)
                continue
            self._judge(poisoned=False)
            if traceparent is not None:
                traces.note(event, traceparent)
            core.fold(event)
        for topic, count in Counter(received.topic for received in batch).items():
            self._records[topic].inc(count)
        self.folded += len(batch)
        self._unparked.extend(unreadable)
        return unreadable

    def begin(self, committed: Mapping[Partition, int]) -> None:
        """The lead starts: unreadable records before the committed offsets were parked by a predecessor."""
        self._unparked = [
            (received, error)
            for received, error in self._unparked
            if received.topic in self._inputs
            and received.offset >= committed.get(Partition(received.topic, received.partition), 0)
        ]

    def turn(self, shard_log: ShardLog, hooks: Hooks | None) -> None:
        """One batch: read, fold, decide, commit."""
        service = self._role.service
        batch = shard_log.read(max_records=self._settings.batch_max_records, timeout_s=self._role.tick_s)
        self.fold(batch)
        now = self._clock.now()
        if hooks:
            hooks.before_decide(self.core, now)
        started = monotonic_s()
        decisions = self.core.decide(now)
        decided = monotonic_s()
        if batch or decisions:
            BATCH.labels(service).observe(len(batch))
            DECIDE.labels(service).observe(decided - started)
        idle_too_long = bool(self._offsets) and decided - self._committed_at > OFFSETS_INTERVAL_S
        if decisions or self._unparked or idle_too_long:
            outputs = [self._record(decision, now) for decision in decisions]
            outputs.extend(self._dead_letter(received, error) for received, error in self._unparked)
            self.committing_since = decided
            shard_log.commit(outputs, self._offsets)
            self.committing_since = None
            COMMIT.labels(service).observe(monotonic_s() - decided)
            self._committed_at = monotonic_s()
            self._offsets = {}
            self._unparked.clear()
            for decision in decisions:
                DECISIONS.labels(service, type(decision).__name__, str(getattr(decision, "reason", ""))).inc()
        if hooks:
            hooks.after_commit(self.core, now)

    def _record(self, decision: Event, now: datetime) -> Record:
        traceparent = self._traces.parent_of(decision)
        if traceparent is not None:
            name = f"{self._role.service} {type(decision).__name__}"
            traceparent = step(name, traceparent, {"job_id": decision.subject}) or traceparent
            self._traces.note(decision, traceparent)
        return encode(decision, source=f"solyx/{self._role.service}", time=now, traceparent=traceparent)

    def _dead_letter(self, received: Received, error: str) -> Record:
        """The original bytes and headers, with the error and the place they came from."""
        DEAD.labels(self._role.service, received.topic).inc()
        trace_id = next((trace_id_of(v.decode()) for k, v in received.headers if k == "traceparent"), "")
        log.warning("dead_letter", topic=received.topic, offset=received.offset, error=error, trace_id=trace_id)
        return dead_letter(received, error, service=self._role.service, time=self._clock.now().isoformat())

    def _judge(self, *, poisoned: bool) -> None:
        if len(self._poisoned) == POISON_WINDOW:
            self._poison_count -= self._poisoned[0]
        self._poisoned.append(poisoned)
        self._poison_count += poisoned
        if len(self._poisoned) == POISON_WINDOW and self._poison_count > POISON_WINDOW * POISON_BOUND:
            msg = (
                f"{self._poison_count} of the last {POISON_WINDOW} records are unreadable: "
                "check that the topics belong to this version of Solyx"
            )
            raise TooMuchPoison(msg)


class TraceMemory:
    """The traceparent of the latest event about each live job, so that a decision joins the trace of its cause.

    A job that ended is forgotten after ``KEPT`` others have: its last events still find their trace, and memory stays bounded.
    """

    KEPT = 10_000

    def __init__(self) -> None:
        self._parents: dict[str, str] = {}
        self._ended: deque[tuple[str, str]] = deque()

    def note(self, event: Event, traceparent: str) -> None:
        """Remember an event's trace."""
        job_id: str | None = getattr(event, "job_id", None)
        if job_id is None:
            return
        self._parents[job_id] = traceparent
        if isinstance(event, JobFinished | AllocationReleased):
            self._ended.append((job_id, traceparent))
            if len(self._ended) > self.KEPT:
                job_id, noted = self._ended.popleft()
                if self._parents.get(job_id) == noted:  # otherwise it came back under another revision
                    del self._parents[job_id]

    def parent_of(self, event: Event) -> str | None:
        """The trace that an event about a job belongs to."""
        job_id: str | None = getattr(event, "job_id", None)
        return self._parents.get(job_id) if job_id is not None else None

    def __len__(self) -> int:
        return len(self._parents)


def dead_letter(received: Received, error: str, *, service: str, time: str) -> Record:
    """The record that parks ``received``; ``solyx deadletters replay`` puts it back with its headers."""
    place = {
        "dl_topic": received.topic,
        "dl_partition": str(received.partition),
        "dl_offset": str(received.offset),
        "dl_error": error,
        "dl_service": service,
        "dl_time": time,
    }
    headers = [*received.headers, *((name, text.encode()) for name, text in place.items())]
    return Record(DEADLETTERS.name, received.key, received.key, received.value, headers)


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A parked record as people see it."""

    topic: str
    partition: int
    offset: int
    error: str
    service: str
    time: str
    key: str
    value: bytes | None
    headers: list[tuple[str, bytes]]  # the original ones


def parse_dead_letter(received: Received) -> DeadLetter:
    """Read what ``dead_letter`` wrote. What others put there has its place among the dead letters, and the error says so."""
    added = {k: v.decode(errors="replace") for k, v in received.headers if k.startswith("dl_")}
    error = added.get("dl_error", "")
    try:
        place = added["dl_topic"], int(added["dl_partition"]), int(added["dl_offset"])
    except (KeyError, ValueError) as strange:
        place = received.topic, received.partition, received.offset
        what = f"no header {strange}" if isinstance(strange, KeyError) else f"{strange}"
        error = "; ".join(filter(None, [error, f"not parked by Solyx, so it cannot be replayed: {what}"]))
    return DeadLetter(
        topic=place[0],
        partition=place[1],
        offset=place[2],
        error=error,
        service=added.get("dl_service", ""),
        time=added.get("dl_time", ""),
        key=received.key,
        value=received.value,
        headers=[(k, v) for k, v in received.headers if not k.startswith("dl_")],
    )
