"""What a shard remembers beside its core: traces of live jobs, within bounds; and the way into the dead letters and back."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime

import pytest
from prometheus_client import REGISTRY

from solyx.bus.memory import MemoryBus
from solyx.bus.port import Received
from solyx.bus.runner import Role, ServiceRunner
from solyx.bus.worker import TraceMemory, dead_letter, parse_dead_letter
from solyx.clock import ManualClock
from solyx.events import Event, FinishReason, JobFinished, JobSpec, JobSubmitted, Resources, encode
from solyx.settings import Settings
from solyx.topics import JOBS

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def submitted(job_id: str) -> JobSubmitted:
    spec = JobSpec(name="j", image="i", resources=Resources(), duration_estimate_s=1)
    return JobSubmitted(job_id=job_id, tenant="t", spec=spec, submitted_at=NOW)


def finished(job_id: str) -> JobFinished:
    return JobFinished(job_id=job_id, tenant="t", outcome="succeeded", reason=FinishReason.COMPLETED, finished_at=NOW)


def test_a_decision_finds_the_trace_of_the_latest_event_about_its_job() -> None:
    memory = TraceMemory()
    memory.note(submitted("a"), "trace-1")
    memory.note(submitted("b"), "trace-2")
    assert memory.parent_of(finished("a")) == "trace-1"
    assert memory.parent_of(finished("c")) is None


def test_ended_jobs_are_forgotten_in_time_and_live_ones_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TraceMemory, "KEPT", 3)
    memory = TraceMemory()
    memory.note(submitted("live"), "trace-live")
    for n in range(20):
        memory.note(submitted(f"j{n}"), f"trace-{n}")
        memory.note(finished(f"j{n}"), f"trace-{n}")
    assert len(memory) == 4
    assert memory.parent_of(finished("live")) == "trace-live"


def test_a_job_that_came_back_keeps_its_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TraceMemory, "KEPT", 1)
    memory = TraceMemory()
    memory.note(finished("a"), "old")
    memory.note(submitted("a"), "new")
    memory.note(finished("b"), "other")
    assert memory.parent_of(finished("a")) == "new"


def test_a_dead_letter_keeps_place_bytes_and_headers() -> None:
    received = Received("jobs", 2, 17, 5, "key", b"\xff{", [("ce_type", b"x"), ("h", b"\x00")])
    record = dead_letter(received, "no JSON", service="cmo", time="2026")
    back = Received(record.topic, 0, 0, 0, record.key, record.value, record.headers)
    letter = parse_dead_letter(back)
    assert (letter.topic, letter.partition, letter.offset, letter.error, letter.service) == (
        "jobs",
        2,
        17,
        "no JSON",
        "cmo",
    )
    assert letter.value == b"\xff{"
    assert letter.headers == received.headers


@pytest.mark.parametrize(
    ("headers", "what"),
    [
        ([("dl_topic", b"jobs"), ("dl_partition", b"two"), ("dl_offset", b"1")], "'two'"),
        ([("dl_topic", b"jobs"), ("dl_partition", b"2")], "no header 'dl_offset'"),
        ([], "no header 'dl_topic'"),
    ],
)
def test_what_others_put_among_the_dead_letters_is_shown_where_it_lies(headers, what) -> None:
    letter = parse_dead_letter(Received("deadletters", 0, 9, 0, "key", b"x", headers))
    assert (letter.topic, letter.partition, letter.offset) == ("deadletters", 0, 9)
    assert "not parked by Solyx" in letter.error
    assert what in letter.error


class SlowCore:
    """Folds nothing before it may."""

    def __init__(self) -> None:
        self.may_fold = threading.Event()

    def fold(self, event: Event) -> None:
        assert self.may_fold.wait(20), event

    def decide(self, now: datetime) -> list[Event]:
        assert now == NOW
        return []


def test_the_lag_is_told_while_a_core_is_rebuilt_and_no_more_when_its_shard_is_given_up() -> None:
    def shown() -> float | None:
        return REGISTRY.get_sample_value("solyx_lag_records", {"service": "slow", "shard": "0"})

    def until(condition: object) -> None:
        deadline = time.monotonic() + 20
        while not condition():  # type: ignore[operator]
            assert time.monotonic() < deadline
            time.sleep(0.01)

    bus, core = MemoryBus(), SlowCore()
    bus.ensure_topics([JOBS])
    bus.append([encode(submitted(f"j{n}"), source="test", time=NOW) for n in range(7)])
    role = Role(service="slow", inputs=(JOBS,), outputs=(), shards=1, by="all", standby=False, make_core=lambda _: core)
    runner = ServiceRunner(role, Settings(), bus, ManualClock(NOW))
    runner.start()
    until(lambda: shown() is not None)
    assert (shown(), runner.details()["lag"]) == (7.0, 7)
    core.may_fold.set()
    until(lambda: shown() == 0.0)
    runner.stop()
    assert shown() is None, "another replica may have it now"
