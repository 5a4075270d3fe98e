"""``metrics`` in, ``features`` out: a faust-streaming worker on a thread of its own around the pure windows.

At least once, and a repeat is harmless. In this order, always: fold events → save the windows' rows in the table → commit the
offsets behind these events (which waits until the broker has the rows). So after a crash the table holds at least what was
committed; what is read again and was already in a row is recognised by series and time. The same order holds when a replica leaves
or partitions move; ``handover.py`` tells what faust would do instead.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from prometheus_client import Counter, Gauge

from services.forecaster.core.partition import LayoutCache, PartitionWindows, Scrape, microseconds, moment
from services.forecaster.core.rows import RowKey
from services.forecaster.model import QUANTILE_LEVELS, Aggregate
from services.forecaster.service.handover import Offsets, held_app
from services.forecaster.service.table import GROUP, panes_table
from solyx.bus.port import Received
from solyx.bus.worker import dead_letter
from solyx.clock import monotonic_s
from solyx.events import MetricsScraped, Record, SeriesWindowed, encode
from solyx.telemetry import get_logger
from solyx.topics import METRICS

if TYPE_CHECKING:
    from services.forecaster.settings import ForecasterSettings
    from solyx.clock import Clock

log = get_logger()

SAMPLES = Counter("solyx_forecaster_samples_total", "Samples put into windows")
REFUSED = Counter("solyx_forecaster_samples_refused_total", "Samples in no window", ["reason"])
EVENTS = Counter("solyx_forecaster_metrics_events_total", "Events read from metrics")
FEATURE_EVENTS = Counter("solyx_forecaster_features_total", "Window aggregates published")
SAVED_ROWS = Counter("solyx_forecaster_rows_saved_total", "Rows written to the window table")
SOURCES = Gauge("solyx_forecaster_sources", "Sources with open windows")

_TICK_S = 0.1
_UPDATE_SHARE = 0.2
"""Share of the time that updates of open windows may take; ended windows are published whatever it takes."""
_FLUSH_SHARE = 0.1
"""Saving rows takes at most this share of the time: where it would take more, it is done less often."""
_STOP_S = 4.0
_TYPE_HEADER = ("ce_type", MetricsScraped.TYPE.encode())


class WindowWorker:
    """The faust worker. Its thread ends with ``stop`` or with ``failed`` set."""

    def __init__(self, settings: ForecasterSettings, clock: Clock) -> None:
        """Starts nothing yet."""
        self._settings, self._clock = settings, clock
        self._specs = settings.window_specs()
        self._thread = threading.Thread(target=self._run, name="forecaster-windows", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._asked_to_stop: asyncio.Event | None = None
        self._stop_early = threading.Event()
        self._partitions: dict[int, PartitionWindows] = {}
        self._layouts = LayoutCache()
        self._scrapes = msgspec.json.Decoder(Scrape)
        self._offsets = Offsets()
        self._unsaved_events = 0
        self._loaded = False  # the table's rows are in the windows; not yet ``recovered``, nothing may be read
        self._commits: asyncio.Task[None] | None = None
        self._one_commit = asyncio.Lock()
        self._parking: set[asyncio.Future[None]] = set()
        self._app: Any = None
        self._table: Any = None
        self.recovered = False
        self.failed: BaseException | None = None
        self.events = 0
        self._samples = 0  # folded since the last save

    def start(self) -> None:
        """Join the group that shares ``metrics``."""
        self._thread.start()

    def stop(self) -> None:
        """Save, commit, leave; returns after 4 s at the latest."""
        self._stop_early.set()
        if self._loop is not None and self._asked_to_stop is not None:
            with suppress(RuntimeError):  # the loop has ended by itself
                self._loop.call_soon_threadsafe(self._asked_to_stop.set)
        self._thread.join(_STOP_S)

    def ready(self) -> bool:
        """The table is recovered and metrics are being read."""
        return self.recovered and self._thread.is_alive()

    def alive(self) -> bool:
        """Whether the worker's thread runs."""
        return self._thread.is_alive()

    def partitions(self) -> list[int]:
        """The partitions of ``metrics`` that this replica reads."""
        return sorted(self._partitions)

    def _run(self) -> None:
        try:
            asyncio.run(self._live())
        except BaseException as error:
            log.exception("windows_failed")
            self.failed = error

    async def _live(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._asked_to_stop = asyncio.Event()
        if self._stop_early.is_set():
            return
        self._app = app = self._make_app()
        ticker: asyncio.Task[None] | None = None
        try:
            await app.start()
            ticker = asyncio.create_task(self._tick_forever())
            while not self._asked_to_stop.is_set() and not ticker.done():
                if app.should_stop or app.crashed:
                    raise WorkerEndedError(repr(app._crash_reason))  # noqa: SLF001 - faust offers no public name for it
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._asked_to_stop.wait(), 0.2)
            if ticker.done():
                ticker.result()
        finally:
            self.recovered, was_recovered = False, self.recovered
            if ticker is not None:
                ticker.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await ticker
            if was_recovered and self.failed is None:
                await self._save_and_commit()
            with suppress(TimeoutError):
                await asyncio.wait_for(app.stop(), _STOP_S - 1.0)

    # ---------------------------------------------------------------------------------------------- faust's side
    def _make_app(self) -> Any:
        """The faust application, with every setting that the findings in the README ask for."""
        for name, level in (
            ("faust", logging.WARNING),
            ("mode", logging.WARNING),
            ("faust.transport.producer", logging.ERROR),
        ):
            logging.getLogger(name).setLevel(level)
        settings = self._settings
        data = Path(settings.state_dir).absolute() / f"forecaster-{settings.replica}"
        data.mkdir(parents=True, exist_ok=True)
        broker = ";".join(f"kafka://{server.strip()}" for server in settings.kafka_bootstrap_servers.split(","))
        app: Any = held_app(
            GROUP,
            on_ready=self._ready,
            broker=broker,
            store="memory://",
            processing_guarantee="at_least_once",
            topic_partitions=METRICS.partitions,
            table_standby_replicas=0,
            topic_disable_leader=True,
            datadir=str(data),
            broker_client_id=f"{GROUP}-{settings.replica}",
            consumer_group_instance_id=f"{GROUP}-{settings.replica}",
            broker_session_timeout=15.0,
            broker_heartbeat_interval=3.0,
            broker_max_poll_records=200,
            consumer_auto_offset_reset="earliest",
            consumer_max_fetch_size=4 << 20,
            producer_compression_type="snappy",
            producer_linger=0.0,
            producer_max_batch_size=256 << 10,
            producer_max_request_size=8 << 20,
            stream_buffer_maxsize=512,
            stream_wait_empty=False,
            web_enabled=False,
            autodiscover=False,
            logging_config=None,
        )
        app.boot_strategy.enable_web = False  # with web_enabled alone it would still bind a port
        app.boot_strategy.enable_sensors = False
        metrics = app.topic(METRICS.name, key_serializer="raw", value_serializer="raw", value_type=bytes, acks=False)
        self._table = panes_table(app)
        self._table.on_recover(self._recover)
        app.on_partitions_revoked.connect(self._revoked)
        app.agent(metrics, name="windows", concurrency=1)(self._read)
        return app

    async def _read(self, stream: Any) -> None:
        """The agent: fold each event as it comes."""
        try:
            async for event in stream.noack().events():
                self._fold(event)
        except Exception as error:
            log.exception("windows_failed")
            self._fail(error)
            raise

    def _fail(self, error: BaseException) -> None:
        self.failed = self.failed or error
        if self._asked_to_stop is not None:
            self._asked_to_stop.set()

    def _fold(self, event: Any) -> None:
        if not self.recovered:
            return  # its partition is being given up, or is read anew from what was committed
        message = event.message
        self._offsets.folded(message.partition, message.offset)
        self._unsaved_events += 1
        self.events += 1
        if _TYPE_HEADER not in (message.headers or ()):
            self._park(message, f"not a {MetricsScraped.TYPE} event")
            return
        windows = self._partitions.get(message.partition) or self._new_partition(message.partition)
        try:
            scrape = self._scrapes.decode(message.value)
            self._samples += windows.fold(scrape, self._layouts, microseconds(self._clock.now()))
        except (msgspec.DecodeError, ValueError) as error:
            self._park(message, str(error))

    def _new_partition(self, number: int) -> PartitionWindows:
        settings = self._settings
        self._partitions[number] = PartitionWindows(
            number,
            self._specs,
            lateness_s=settings.allowed_lateness_s,
            most_series=settings.max_series,
            update_s=settings.window_update_s,
        )
        return self._partitions[number]

    async def _recover(self) -> None:
        """The table holds what was saved: begin from there, with every window that this replica was not asked to give up."""
        if not self._app.consumer.recovered_what_it_owns():
            return  # another rebalance has begun; its own recovery follows
        self._forget()
        assigned = {tp.partition for tp in self._app.consumer.assignment() if tp.topic == METRICS.name}
        for number in assigned:
            self._new_partition(number)
        for key, value in self._table.items():
            row = RowKey.decode(key)
            if row.partition in assigned and value is not None:
                self._partitions[row.partition].restore(row, value)
        self._loaded = True
        log.info("windows_recovered", partitions=sorted(assigned), rows=len(self._table))

    def _ready(self) -> None:
        """The partitions are where they were committed, and the queues were emptied for the last time: read."""
        if self._loaded and self._app.consumer.recovered_what_it_owns():
            self.recovered = True
            self._app.consumer.release()

    async def _revoked(self, *_: Any, **__: Any) -> None:
        """Before another replica may read the partitions: save and commit. What fails here is read again, and recognised."""
        if self.recovered:
            self.recovered = False
            await self._save_and_commit()
        self._forget()

    def _forget(self) -> None:
        self._loaded = False
        self._partitions.clear()
        self._offsets.clear()
        self._unsaved_events = self._samples = 0

    async def _save_and_commit(self) -> None:
        self._save()
        await self._commit()

    async def _commit(self) -> None:
        """Let whoever reads the partitions next begin behind what the broker has in rows and dead letters."""
        from faust.types import TP  # noqa: PLC0415

        async with self._one_commit:
            offsets = self._offsets.due()
            if not offsets:
                return
            try:
                await asyncio.gather(*self._parking)
                wanted = {TP(METRICS.name, number): offset for number, offset in offsets.items()}
                if await self._app.consumer._commit_offsets(wanted):  # noqa: SLF001 - flushes the producer first
                    self._offsets.committed(offsets)
            except Exception as error:  # noqa: BLE001 - aiokafka raises many kinds; what is not committed is read again
                log.warning("windows_not_committed", error=str(error))

    # --------------------------------------------------------------------------------------------- rows and features
    async def _tick_forever(self) -> None:
        saved_at = flush_took = 0.0
        while True:
            await asyncio.sleep(_TICK_S)
            if not self.recovered:
                continue
            await self._publish_due()
            now = monotonic_s()
            if now - saved_at >= max(self._settings.table_flush_s - _TICK_S, flush_took / _FLUSH_SHARE):
                self._save()
                if self._commits is None or self._commits.done():
                    self._commits = asyncio.create_task(self._commit())
                saved_at = monotonic_s()
                flush_took = saved_at - now
                SOURCES.set(sum(len(windows.sources) for windows in self._partitions.values()))

    async def _publish_due(self) -> None:
        started = monotonic_s()
        budget = _TICK_S * _UPDATE_SHARE
        for windows in list(self._partitions.values()):
            for source, aggregate in windows.due(started, time_left=lambda: monotonic_s() - started < budget):
                await self._publish(windows.number, source, aggregate)

    async def _publish(self, partition: int, source: str, aggregate: Aggregate) -> None:
        record = encode(windowed(source, aggregate), source="solyx/forecaster", time=self._clock.now())
        FEATURE_EVENTS.inc()
        await self._send(record, partition)

    async def _send(self, record: Record, partition: int | None) -> None:
        key = record.key.encode()
        await self._app.producer.send(record.topic, key, record.value, partition, None, record.headers)

    def _save(self) -> None:
        """Write the changed rows to the table; what they hold may be committed then."""
        saved = 0
        for windows in self._partitions.values():
            for key, value in windows.rows():
                saved += 1
                self._write(key.encode(), value)
            for reason, samples in windows.refused.items():
                REFUSED.labels(reason.value).inc(samples)
            windows.refused.clear()
        SAVED_ROWS.inc(saved)
        SAMPLES.inc(self._samples)
        self._samples = 0
        EVENTS.inc(self._unsaved_events)
        self._unsaved_events = 0
        self._offsets.saved()

    def _write(self, key: bytes, value: bytes | None) -> None:
        if value is not None:
            self._table[key] = value
        elif key in self._table:
            del self._table[key]

    def _park(self, message: Any, error: str) -> None:
        """An unreadable event goes to the dead letters."""
        received = Received(
            message.topic,
            message.partition,
            message.offset,
            int(message.timestamp * 1000),
            (message.key or b"").decode(errors="replace"),
            message.value,
            list(message.headers or ()),
        )
        log.warning("dead_letter", topic=message.topic, offset=message.offset, error=error)
        record = dead_letter(received, error, service="forecaster", time=self._clock.now().isoformat())
        task = asyncio.ensure_future(self._send(record, None))
        self._parking.add(task)
        task.add_done_callback(self._parked)

    def _parked(self, task: asyncio.Future[None]) -> None:
        self._parking.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)  # to go on would commit an event that is neither in a window nor among the dead letters


class WorkerEndedError(Exception):
    """faust ended its worker by itself; the process leaves with an error so that it is started anew."""


def windowed(source: str, aggregate: Aggregate) -> SeriesWindowed:
    """The event that tells an aggregate."""
    return SeriesWindowed(
        source=source,
        window_start=moment(aggregate.start_us),
        window_end=moment(aggregate.end_us),
        series=aggregate.series,
        count=tuple(aggregate.count.tolist()),
        mean=tuple(aggregate.mean.tolist()),
        min=tuple(aggregate.min.tolist()),
        max=tuple(aggregate.max.tolist()),
        last=tuple(aggregate.last.tolist()),
        levels=QUANTILE_LEVELS,
        quantiles=tuple(tuple(quantile.tolist()) for quantile in aggregate.quantiles),
    )
