"""The actuator's settings; docs/configuration.md lists them for people."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from solyx.settings import Settings

Share = Annotated[float, Meta(ge=0, le=1)]
NonNegative = Annotated[float, Meta(ge=0)]
Positive = Annotated[float, Meta(gt=0)]
PositiveInt = Annotated[int, Meta(ge=1)]


class ActuatorSettings(Settings, frozen=True, kw_only=True):
    """Beside what every service needs: how targets are watched, and how simulated ones behave."""

    poll_s: Positive = 0.05  # wall seconds between two looks at a cluster's changes
    list_interval_s: Positive = 30.0  # wall seconds between two complete lists, which find drift
    batch_commands: PositiveInt = 500  # commands in one call to a target
    simulated_failure_rate: Share = 0.0  # share of the workloads that fail by themselves on simulated clusters
    simulated_seed: int = 0  # decides which
    simulated_restart_overhead_s: NonNegative | None = (
        None  # before a workload goes on; None: as the scenario says, else 0
    )
    simulated_checkpoint_interval_s: Positive = 600.0  # work between two periodic checkpoints of a suspendable workload
