"""What a policy did, in one form for all: who ran where, from when to when."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]


@dataclass(slots=True)
class Runs:
    """Stretches of running, appended as they end, and each job's first start and end."""

    job: list[int] = field(default_factory=list[int])
    site: list[int] = field(default_factory=list[int])
    start_s: list[float] = field(default_factory=list[float])
    end_s: list[float] = field(default_factory=list[float])
    done_s: dict[int, float] = field(default_factory=dict[int, float])  # by job: when its work was complete
    queued_s: dict[int, float] = field(
        default_factory=dict[int, float]
    )  # by job: waiting for room after its start time

    def add(self, job: int, site: int, start_s: float, end_s: float) -> None:
        """One stretch."""
        self.job.append(job)
        self.site.append(site)
        self.start_s.append(start_s)
        self.end_s.append(end_s)

    def table(self) -> RunTable:
        """As columns, by job and then by start."""
        order = np.lexsort((np.array(self.start_s), np.array(self.job, dtype=np.int64)))
        return RunTable(
            job=np.array(self.job, dtype=np.int64)[order],
            site=np.array(self.site, dtype=np.int64)[order],
            start_s=np.array(self.start_s, dtype=np.float64)[order],
            end_s=np.array(self.end_s, dtype=np.float64)[order],
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class RunTable:
    """Stretches as columns, by job and then by start."""

    job: Ints
    site: Ints
    start_s: Floats
    end_s: Floats

    @property
    def first(self) -> NDArray[np.bool_]:
        """Whether a stretch is its job's first."""
        return np.concatenate(([True], self.job[1:] != self.job[:-1])) if len(self.job) else np.zeros(0, np.bool_)
