"""How long to wait after a failure, and when to leave a dead site alone: pure rules, time is passed in.

The delay doubles up to a cap and is spread by a jitter that derives from the key and the attempt, so that many items of one
failing site do not return at once and yet every run of a test waits the same.
"""

from __future__ import annotations

from enum import IntEnum
from zlib import crc32

import msgspec


class Backoff(msgspec.Struct, frozen=True, kw_only=True):
    """Exponential back-off; delays in wall seconds."""

    first_s: float = 0.1
    cap_s: float = 15.0
    seed: int = 0

    def delay_s(self, key: str, attempt: int) -> float:
        """The delay after failure number ``attempt`` (from 1): between half of ``first_s`` × 2^(attempt-1), capped, and all."""
        whole = min(self.cap_s, self.first_s * 2.0 ** min(attempt - 1, 30))
        return whole * (0.5 + 0.5 * crc32(f"{self.seed}/{key}/{attempt}".encode()) / 0xFFFF_FFFF)


class BreakerState(IntEnum):
    """The numbers are those of the metric."""

    CLOSED = 0  # calls pass
    HALF_OPEN = 1  # one probe passes
    OPEN = 2  # no call passes until the back-off is over


class Breaker:
    """The circuit breaker of one site.

    A failure makes the site wait for a back-off. From ``threshold`` failures in a row the breaker is open: nothing is queued for
    the site, and when the back-off is over one probe decides whether it closes again.
    """

    def __init__(self, key: str, backoff: Backoff, *, threshold: int = 3) -> None:
        self._key = key
        self._backoff = backoff
        self._threshold = threshold
        self._failures = 0
        self._retry_at_s = 0.0
        self._probing = False

    @property
    def state(self) -> BreakerState:
        """Closed, open, or half open while a probe is under way."""
        if self._failures < self._threshold:
            return BreakerState.CLOSED
        return BreakerState.HALF_OPEN if self._probing else BreakerState.OPEN

    def wait_s(self, now_s: float) -> float:
        """How long no call may be made; 0: now."""
        return max(0.0, self._retry_at_s - now_s)

    def begin(self) -> BreakerState:
        """A call is about to be made; says whether it is a probe."""
        self._probing = self._failures >= self._threshold
        return self.state

    def succeeded(self) -> None:
        """The target answered."""
        self._failures = 0
        self._probing = False

    def failed(self, now_s: float, *, after_s: float = 0.0) -> None:
        """The target did not answer; it asked not to be called for ``after_s``."""
        self._failures += 1
        self._probing = False
        self._retry_at_s = now_s + max(after_s, self._backoff.delay_s(self._key, self._failures))
