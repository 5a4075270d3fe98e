"""Jobs as their owners describe them, and the events on the ``jobs`` topic (written by the gateway)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta

from solyx.events.event import Event, Model, NonNegative, NonNegativeInt, Positive, PositiveInt, Time

ShareMilli = Annotated[int, Meta(ge=1, le=1000)]

DeviceKind = Literal["gpu", "tpu", "fpga"]


class DeviceRequest(Model, frozen=True, kw_only=True):
    """Accelerators that one pod asks for."""

    kind: DeviceKind = "gpu"
    models: tuple[str, ...] = ()  # allowed models; empty: any
    count: PositiveInt = 1
    share_milli: ShareMilli = 1000  # of each device; below 1000 a device is shared, and count is 1


class Resources(Model, frozen=True, kw_only=True):
    """What one pod asks for."""

    cpu_milli: NonNegativeInt = 0
    memory_bytes: NonNegativeInt = 0
    devices: tuple[DeviceRequest, ...] = ()

    @property
    def gpu_milli(self) -> int:
        """Thousandths of accelerators of any kind, summed over the requests."""
        return sum(device.count * device.share_milli for device in self.devices)


class DataSet(Model, frozen=True, kw_only=True):
    """Input data that moves with the job."""

    size_bytes: NonNegativeInt
    site: str  # where the data lies


class LatencyBound(Model, frozen=True, kw_only=True):
    """The job must run where the round trip to a named place is at most this long."""

    to: str  # a site or a place named in a site's latencies
    max_ms: Positive


class Weights(Model, frozen=True, kw_only=True):
    """What the owner's job weighs against energy cost, in place of the federation's figures. None: those."""

    carbon_eur_per_t: NonNegative | None = None
    delay_eur_per_h: NonNegative | None = None


class JobSpec(Model, frozen=True, kw_only=True):
    """What a user asks for, in canonical units. ``resources`` are per pod; ``parallelism`` pods start together (gang)."""

    name: str
    image: str
    resources: Resources
    duration_estimate_s: Positive
    command: tuple[str, ...] = ()
    env: dict[str, str] = msgspec.field(default_factory=dict)
    parallelism: PositiveInt = 1
    deadline: Time | None = None  # finish by; excludes max_delay_s
    max_delay_s: NonNegative | None = None  # start at most this long after submission
    priority: int = 0  # higher goes first
    preemptible: bool = False
    suspendable: bool = False  # writes checkpoints: may be stopped and goes on where it was, here or elsewhere
    grace_period_s: NonNegative = 30.0  # from being told to stop to being killed; for the last checkpoint
    data: DataSet | None = None
    allowed_sites: tuple[str, ...] = ()  # empty: any
    home_site: str | None = None  # where it would run if nobody decided otherwise
    max_latency: LatencyBound | None = None
    tolerations: tuple[str, ...] = ()  # taints of nodes that its pods accept
    weights: Weights = Weights()
    labels: dict[str, str] = msgspec.field(default_factory=dict)


# A simulated cluster runs a workload for this label's seconds instead of the user's estimate.
SIMULATED_DURATION_LABEL = "solyx.io/simulated-duration-s"
# A suspendable workload of a simulated cluster takes this label's seconds to write its checkpoint when it is told to stop.
SIMULATED_CHECKPOINT_LABEL = "solyx.io/simulated-checkpoint-s"


class JobSubmitted(Event, frozen=True, kw_only=True):
    """A job was accepted; the gateway answered 202."""

    TYPE: ClassVar[str] = "io.solyx.job.submitted.v1"
    TOPIC: ClassVar[str] = "jobs"

    job_id: str
    tenant: str
    spec: JobSpec
    submitted_at: Time

    @property
    def key(self) -> str:
        return self.job_id

    @property
    def id(self) -> str:
        return f"{self.job_id}.submitted"


class JobCancellationRequested(Event, frozen=True, kw_only=True):
    """The owner asked to stop the job. It follows ``JobSubmitted`` under the same key, so it repeats what recovery needs."""

    TYPE: ClassVar[str] = "io.solyx.job.cancellation_requested.v1"
    TOPIC: ClassVar[str] = "jobs"

    job_id: str
    tenant: str
    spec: JobSpec
    submitted_at: Time
    requested_at: Time

    @property
    def key(self) -> str:
        return self.job_id

    @property
    def id(self) -> str:
        return f"{self.job_id}.cancellation"
