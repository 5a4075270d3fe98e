"""Ends a process that has stopped making progress, so that whoever supervises it starts it anew from the log.

Calls into librdkafka have time-outs, but not all: some wait for the library's own thread, and a few keep the interpreter's
lock meanwhile, so that no Python code could notice. The timer is the interpreter's own C thread (``faulthandler``): it needs no
lock, says where every thread stands, and leaves.
"""

from __future__ import annotations

import faulthandler
from typing import TYPE_CHECKING

from solyx.clock import monotonic_s

if TYPE_CHECKING:
    from collections.abc import Callable

STALLED_S = 120.0
"""No progress for longer than any one call of the bus may take."""
FROZEN_S = 30.0
"""How long the watchdog itself may be silent."""
LOOK_EVERY_S = 5.0


class Watchdog:
    """Fed with the age of the last progress; there is one in a process."""

    def __init__(
        self,
        stalled_s: Callable[[], float],
        *,
        arm: Callable[[], None] = lambda: faulthandler.dump_traceback_later(FROZEN_S, exit=True),
        disarm: Callable[[], None] = faulthandler.cancel_dump_traceback_later,
    ) -> None:
        self._stalled_s, self._arm, self._disarm = stalled_s, arm, disarm
        self._looked_at = float("-inf")

    def look(self) -> None:
        """Called again and again: puts the end off while there is progress."""
        now = monotonic_s()
        if now - self._looked_at >= LOOK_EVERY_S and self._stalled_s() < STALLED_S:
            self._looked_at = now
            self._arm()

    def close(self) -> None:
        """Nobody looks any more."""
        self._disarm()
