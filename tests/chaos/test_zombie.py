"""A member overtaken by a rebalance commits nothing: one process is stopped mid-batch, overtaken, and set going again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from solyx.bus.kafka import KafkaBus
from solyx.events import Record
from solyx.topics import Topic

if TYPE_CHECKING:
    from devstack.broker import KafkaBroker

MEMBER = Path(__file__).with_name("member.py")


def topic(name: str) -> Topic:
    return Topic(
        name=name, partitions=1, keyed_by="k", ordered_by="k", cleanup="delete", retention_ms=-1, description="test"
    )


def member(bootstrap: str, suffix: str, replica: str, mode: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(MEMBER), bootstrap, suffix, replica, mode]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_a_member_overtaken_by_a_rebalance_commits_nothing(kafka: KafkaBroker) -> None:
    suffix = uuid4().hex[:8]
    bus = KafkaBus(kafka.bootstrap_servers)
    source, sink = topic(f"zin-{suffix}"), topic(f"zout-{suffix}")
    bus.ensure_topics([source, sink])
    publisher = bus.publisher(name="test")
    publisher.publish([Record(source.name, f"k{n}", f"k{n}", str(n).encode(), []) for n in range(4)])
    publisher.close()

    slow = member(kafka.bootstrap_servers, suffix, "slow", "wait")
    fast: subprocess.Popen[str] | None = None
    try:
        assert line(slow) == "read 4"
        os.kill(slow.pid, signal.SIGSTOP)
        fast = member(kafka.bootstrap_servers, suffix, "fast", "go")
        assert line(fast) == "read 4"
        assert line(fast) == "committed"
        os.kill(slow.pid, signal.SIGCONT)
        slow.communicate(input="go\n", timeout=60)
        assert slow.returncode == 3, "the zombie's commit must be refused"
    finally:
        for process in (slow, fast):
            if process is not None:
                process.kill()
                process.communicate()

    tail = bus.tail([sink.name])
    outputs: list[bytes | None] = []
    deadline = time.monotonic() + 20
    while not tail.caught_up() and time.monotonic() < deadline:
        outputs.extend(received.value for received in tail.read(max_records=100, timeout_s=0.2))
    tail.close()
    assert sorted(value or b"" for value in outputs) == [b"0 by fast", b"1 by fast", b"2 by fast", b"3 by fast"]
