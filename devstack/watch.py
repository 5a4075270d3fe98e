"""What happens, as the topics tell it: keeps the books, counts events, picks out what a person wants to hear about."""

import threading
from collections import deque
from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

from solyx.bus.port import Bus, Received, Tail, Transient
from solyx.clock import monotonic_s
from solyx.events import (
    AnomalyDetected,
    Event,
    FeedReported,
    GridEventAnnounced,
    JobFinished,
    PlacementWithdrawn,
    Poison,
    RouteDecided,
    SiteObserved,
    WithdrawalReason,
    WorkloadReason,
    WorkloadReported,
    decode,
)
from solyx.ledger import TOPICS as BOOKED
from solyx.ledger import Ledger
from solyx.topics import DEADLETTERS

__all__ = ["Watcher", "notice_of"]

T = TypeVar("T")

_READ_S = 0.2
_BATCH = 5000
_MAX_NOTICES = 200
_REPEATS = 30  # a notice that is among so many latest is not told again
_TOLD = ("grid", "routes", "anomalies", "deadletters")
_COUNTED = ("metrics", "features", "forecasts", "links")  # many and large: counted, not read
_TOPICS = (*BOOKED, *_TOLD, *_COUNTED)
_RATE_WINDOW_S = 5.0


class Watcher:
    """A thread that reads every topic from the beginning."""

    def __init__(self, bus: Bus, *, now: Callable[[], datetime]) -> None:
        """`now` stamps the notices of the stack itself."""
        self._bus, self._now = bus, now
        self._ledger = Ledger()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._caught_up = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)
        self._notices: deque[str] = deque(maxlen=_MAX_NOTICES)
        self._rates: deque[tuple[float, int]] = deque([(monotonic_s(), 0)])
        self.events = 0
        self.error: Exception | None = None

    def start(self) -> None:
        """Read until `stop`."""
        self._thread.start()

    def stop(self) -> None:
        """End after the batch at hand."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(10.0)

    def wait_caught_up(self, timeout_s: float) -> bool:
        """Whether what an earlier start left has been read."""
        return self._caught_up.wait(timeout_s)

    def ask(self, question: Callable[[Ledger], T]) -> T:
        """An answer from the books while nobody writes in them."""
        with self._lock:
            return question(self._ledger)

    def tell(self, text: str) -> None:
        """Something happened that no topic says."""
        self._notices.append(f"{self._now():%a %H:%M}  {text}")

    def notices(self, most: int) -> list[str]:
        """The latest, newest last."""
        return list(self._notices)[-most:]

    def events_per_s(self) -> float:
        """Records that were appended in the last seconds, to all topics together."""
        (then, before), (now, after) = self._rates[0], self._rates[-1]
        return (after - before) / (now - then) if now > then else 0.0

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                tail = self._bus.tail(_TOPICS)
            except Transient as error:
                self._stopping.wait(error.after_s)
                continue
            except Exception as error:  # noqa: BLE001 - a thread's bug ends the program: the main thread raises it
                self.error = error
                return
            try:
                self._follow(tail)
            except Exception as error:  # noqa: BLE001 - as above
                self.error = error
                return
            finally:
                tail.close()

    def _follow(self, tail: Tail) -> None:
        while not self._stopping.is_set():
            batch = tail.read(max_records=_BATCH, timeout_s=_READ_S)
            with self._lock:
                for record in batch:
                    self._take(record)
            if not self._caught_up.is_set() and tail.caught_up():
                self._caught_up.set()
            now = monotonic_s()
            self._rates.append((now, self.events))
            while now - self._rates[0][0] > _RATE_WINDOW_S and len(self._rates) > 2:
                self._rates.popleft()

    def _take(self, record: Received) -> None:
        if self._caught_up.is_set():
            self.events += 1
        if record.value is None or record.topic in _COUNTED:
            return
        if record.topic == DEADLETTERS.name:
            self._note(f"a record could not be read and was parked in {DEADLETTERS.name}: solyx deadletters list")
            return
        try:
            envelope = decode(record.value, record.headers, topic=record.topic)
        except Poison:
            return  # whoever must act on it parks it
        if record.topic in BOOKED:
            self._ledger.fold(envelope.event, timestamp_ms=record.timestamp_ms)
        notice = notice_of(envelope.event)
        if notice is not None:
            self._note(notice, envelope.time)

    def _note(self, notice: str, time: datetime | None = None) -> None:
        known = any(told.endswith(notice) for told in self.notices(_REPEATS))
        if self._caught_up.is_set() and not known:  # what an earlier start saw is no news
            self._notices.append(f"{time or self._now():%a %H:%M}  {notice}")


def notice_of(event: Event) -> str | None:  # noqa: C901, PLR0911 - a table with one line for each kind of event
    """What a person wants to hear of it; None for the daily run of things."""
    match event:
        case JobFinished() if event.outcome == "failed":
            return f"job {event.job_id[-8:]} failed: {event.reason}{f' ({event.message})' if event.message else ''}"
        case PlacementWithdrawn() if event.reason is not WithdrawalReason.CANCELLED:
            return f"job {event.job_id[-8:]} leaves {event.site}: {event.reason}"
        case WorkloadReported() if event.reason is WorkloadReason.NODE_LOST:
            return f"job {event.job_id[-8:]} lost its node at {event.site}"
        case WorkloadReported() if event.status == "failed":
            return f"job {event.job_id[-8:]} failed at {event.site}: {event.reason}, attempt {event.revision}"
        case SiteObserved() if event.lost:
            return f"site {event.site} is lost"
        case SiteObserved() if any(not node.ready for node in event.nodes):
            down = [node.name for node in event.nodes if not node.ready]
            return f"site {event.site}: {len(down)} of {len(event.nodes)} nodes are down ({', '.join(down[:3])})"
        case FeedReported():
            return f"feed {event.feed} is {event.status}{f': {event.error}' if event.error else ''}"
        case GridEventAnnounced():
            return f"grid event at {event.site}: at most {event.power_cap_w / 1000:.1f} kW, {event.status}"
        case RouteDecided() if event.reason in ("link_down", "no_path", "congested"):
            return f"route {event.source} to {event.target}: {event.reason}"
        case AnomalyDetected():
            return f"anomaly at {event.source}: {event.series}"
        case _:
            return None
