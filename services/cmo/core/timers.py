"""What must be looked at again when its time comes, so that a decision costs what has changed and not what there is."""

from __future__ import annotations

from enum import IntEnum
from heapq import heappop, heappush
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Due(IntEnum):
    """Why a job is looked at again."""

    USE = 0  # its run was expected to have started, or to be over
    STUCK = 1  # it should have started long ago
    REVIEW = 2  # it waits, and its deadline passes


class Timers:
    """A heap of (time, why, job, revision). Nothing is ever taken out early: whoever is woken checks whether it still matters."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, Due, str, int]] = []

    def set(self, at_s: float, due: Due, job_id: str, revision: int) -> None:
        """Wake ``job_id`` at ``at_s`` if its placement is still ``revision``."""
        heappush(self._heap, (at_s, due, job_id, revision))

    def pop_due(self, now_s: float) -> Iterator[tuple[Due, str, int]]:
        """Those whose time has come, in order."""
        heap = self._heap
        while heap and heap[0][0] <= now_s:
            _, due, job_id, revision = heappop(heap)
            yield due, job_id, revision

    def __len__(self) -> int:
        return len(self._heap)
