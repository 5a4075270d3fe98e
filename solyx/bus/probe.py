"""Whether the broker answers, for ``/readyz``: asked again and again in the background, so that a loss shows in seconds.

A service that has nothing to do would otherwise notice it at its next transaction, and one in the middle of a call only
when the call is given up.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from solyx.bus.port import Transient

if TYPE_CHECKING:
    from solyx.bus.port import Bus

PROBE_EVERY_S = 2.0
ANSWER_WITHIN_S = 3.0  # the two together are the longest that a loss goes unnoticed


class BrokerProbe:
    """Asks on a thread of its own: the call may block."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="broker-probe", daemon=True)
        self.status = "not asked yet"

    @property
    def answers(self) -> bool:
        """Whether the last question was answered in time."""
        return self.status == "ok"

    def start(self) -> None:
        """Ask until ``stop``."""
        self._thread.start()

    def stop(self) -> None:
        """Ask no more; a question that is open is not waited for."""
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._bus.ask(timeout_s=ANSWER_WITHIN_S)
                self.status = "ok"
            except Transient as error:
                self.status = f"unreachable: {error}"
            self._stopping.wait(PROBE_EVERY_S)
