"""A process that stands still ends, even one in which no Python code can run any more."""

import subprocess
import sys
import time

import pytest

from solyx.watchdog import STALLED_S, Watchdog

FREEZES = """
import ctypes, faulthandler, sys
from solyx.watchdog import Watchdog
Watchdog(lambda: 0.0, arm=lambda: faulthandler.dump_traceback_later(0.3, exit=True)).look()
print("armed", flush=True)
ctypes.PyDLL(None).sleep(60)  # keeps the interpreter's lock, as some calls of librdkafka do
"""


def test_the_end_is_put_off_while_there_is_progress() -> None:
    armed: list[None] = []
    watchdog = Watchdog(lambda: STALLED_S / 2, arm=lambda: armed.append(None))
    watchdog.look()
    watchdog.look()
    assert len(armed) == 1, "not at every look: it is called twenty times a second"


def test_nothing_puts_off_the_end_of_one_that_stands_still() -> None:
    armed: list[None] = []
    Watchdog(lambda: STALLED_S + 1, arm=lambda: armed.append(None)).look()
    assert armed == []


def test_closing_calls_the_end_off() -> None:
    disarmed: list[None] = []
    Watchdog(lambda: 0.0, arm=lambda: None, disarm=lambda: disarmed.append(None)).close()
    assert disarmed == [None]


@pytest.mark.timeout(60)
def test_a_frozen_interpreter_is_ended_and_says_where_it_stood() -> None:
    began = time.monotonic()
    ended = subprocess.run([sys.executable, "-c", FREEZES], capture_output=True, text=True, timeout=50, check=False)
    assert ended.stdout == "armed\n"
    assert ended.returncode == 1
    assert "most recent call first" in ended.stderr
    assert time.monotonic() - began < 45, "long before the call returns"
