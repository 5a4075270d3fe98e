"""Sites: their nodes and power, and links between them (topics ``sites`` and ``links``, written by the collector)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import msgspec

from solyx.events.event import Event, Model, NonNegative, NonNegativeInt, Time
from solyx.events.job import DeviceKind


class DeviceGroup(Model, frozen=True, kw_only=True):
    """Equal accelerators of one node."""

    kind: DeviceKind = "gpu"
    model: str
    count: NonNegativeInt
    domain: str = ""  # devices of one domain are joined by a fast interconnect (NVLink, one NUMA node); empty: unknown


class Node(Model, frozen=True, kw_only=True):
    """A machine of a site."""

    name: str
    cpu_milli: NonNegativeInt
    memory_bytes: NonNegativeInt
    devices: tuple[DeviceGroup, ...] = ()
    ready: bool = True  # False: died, cordoned or drained; nothing new starts there
    draining: bool = False  # what runs there is to leave, with its progress kept
    taints: tuple[str, ...] = ()  # only pods that tolerate all of them start there
    rack: str = ""  # gangs prefer one rack; empty: unknown
    labels: dict[str, str] = msgspec.field(default_factory=dict)


class PowerModel(Model, frozen=True, kw_only=True):
    """Electric power of a site as a function of its use: pue × (idle × nodes + per core × cores + per GPU × GPUs), in W."""

    idle_w_per_node: NonNegative = 0.0
    w_per_core: NonNegative = 0.0
    w_per_gpu: NonNegative = 0.0
    pue: NonNegative = 1.0

    def dynamic_w(self, *, cores: float, gpus: float) -> float:
        """Power above the idle floor, at the meter, in W."""
        return self.pue * (self.w_per_core * cores + self.w_per_gpu * gpus)

    def idle_w(self, *, nodes: int) -> float:
        """The idle floor, at the meter, in W."""
        return self.pue * self.idle_w_per_node * nodes


class Battery(Model, frozen=True, kw_only=True):
    """Storage behind a site's meter. The site's own controller charges it, and discharges it when the site is above a cap."""

    capacity_wh: NonNegative
    charge_wh: NonNegative
    max_charge_w: NonNegative = 0.0
    max_discharge_w: NonNegative
    efficiency: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0  # of what is taken out, the share that arrives

    def lasting_w(self, window_s: float) -> float:
        """What it can give all through a window."""
        return min(self.max_discharge_w, self.charge_wh * self.efficiency * 3600.0 / max(window_s, 1.0))


class SiteObserved(Event, frozen=True, kw_only=True):
    """The inventory of a site, whole; a later one replaces it."""

    TYPE: ClassVar[str] = "io.solyx.site.observed.v1"
    TOPIC: ClassVar[str] = "sites"

    site: str
    observed_at: Time
    nodes: tuple[Node, ...]
    power: PowerModel = PowerModel()
    zone: str = ""  # electricity zone
    network_node: str = ""  # where the site attaches to the network; empty: the site's name
    egress_eur_per_gib: NonNegative = 0.0
    latency_ms: dict[str, float] = msgspec.field(default_factory=dict)  # round trip to named places
    battery: Battery | None = None
    price_bound_eur_per_mwh: float | None = (
        None  # above it the owner wants the least valuable work gone; None: no bound
    )
    lost: bool = False  # declared lost and fenced: nothing runs there any more

    @property
    def key(self) -> str:
        return self.site

    @property
    def id(self) -> str:
        return f"{self.site}.{self.observed_at.isoformat()}"


class LinkObserved(Event, frozen=True, kw_only=True):
    """Counters and state of one directed link."""

    TYPE: ClassVar[str] = "io.solyx.link.observed.v1"
    TOPIC: ClassVar[str] = "links"

    link: str  # "a>b"
    source: str
    target: str
    capacity_bps: NonNegative
    rate_bps: NonNegative = 0.0
    latency_ms: NonNegative = 0.0
    up: bool = True
    observed_at: Time

    @property
    def key(self) -> str:
        return self.link

    @property
    def id(self) -> str:
        return f"{self.link}.{self.observed_at.isoformat()}"


FeedStatus = Literal["fresh", "stale"]


class FeedReported(Event, frozen=True, kw_only=True):
    """A feed of the collector went stale or is fresh again. A stale feed's values are never guessed."""

    TYPE: ClassVar[str] = "io.solyx.feed.reported.v1"
    TOPIC: ClassVar[str] = "energy"

    feed: str
    status: FeedStatus
    since: Time
    error: str = ""

    @property
    def key(self) -> str:
        return f"feed/{self.feed}"

    @property
    def id(self) -> str:
        return f"{self.feed}.{self.status}.{self.since.isoformat()}"
