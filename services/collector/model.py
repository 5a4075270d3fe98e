"""What the collector is told to collect: the YAML file as frozen values. README.md documents every key with an example.

A struct checks itself; ``config.py`` turns its complaint into a message that names the key.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from services.collector.core.paths import parse_path
from solyx.events.energy import EnergyKind
from solyx.events.job import DeviceKind

Positive: TypeAlias = Annotated[float, msgspec.Meta(gt=0)]
NonNegative: TypeAlias = Annotated[float, msgspec.Meta(ge=0)]
Name: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
Text: TypeAlias = Annotated[str, msgspec.Meta(min_length=1)]

Unit = Literal[
    "eur_per_mwh",
    "eur_per_kwh",
    "ct_per_kwh",
    "gco2_per_kwh",
    "kgco2_per_mwh",
    "tco2_per_mwh",
    "lbco2_per_mwh",
    "pct",
    "share",
    "w",
    "kw",
    "mw",
]
FACTORS: dict[EnergyKind, dict[Unit, float]] = {
    "price_eur_per_mwh": {"eur_per_mwh": 1.0, "eur_per_kwh": 1000.0, "ct_per_kwh": 10.0},
    "carbon_gco2_per_kwh": {
        "gco2_per_kwh": 1.0,
        "kgco2_per_mwh": 1.0,
        "tco2_per_mwh": 1000.0,
        "lbco2_per_mwh": 0.45359237,  # the international avoirdupois pound in kg (exact)
    },
    "renewable_pct": {"pct": 1.0, "share": 100.0},
    "on_site_w": {"w": 1.0, "kw": 1e3, "mw": 1e6},
}
"""What a value in a unit is multiplied by to be in the unit of its kind; the first of each kind is the default."""

POWER_FACTORS_W: dict[Literal["w", "kw", "mw"], float] = {"w": 1.0, "kw": 1e3, "mw": 1e6}


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of the file. An unknown key is an error: it is a typing error that would change nothing, silently."""


def _distinct(key: str, names: list[str]) -> None:
    for index, name in enumerate(names):
        if name in names[:index]:
            raise ValueError(f"{key}[{index}].name is {name!r}, as of another one. Names must differ")


def _paths(**paths: str) -> None:
    for key, path in paths.items():
        try:
            parse_path(path)
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from error


def _template(*texts: str) -> None:
    for text in texts:
        try:
            text.format_map({"from": "", "to": "", "site": ""})
        except (KeyError, ValueError, IndexError) as error:
            raise ValueError(
                f"{text!r} cannot be filled in ({error}). Only {{from}}, {{to}} and {{site}} are known; a brace is {{{{"
            ) from error


def _zone(name: str) -> None:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ValueError(f"timezone {name!r} is none. Write an IANA name like Europe/Berlin") from error


class Auth(Config, frozen=True, kw_only=True):
    """At most one of the two ways."""

    username: str = ""
    password: str = ""
    bearer_token: str = ""
    bearer_token_file: str = ""  # read anew for each request, so that a rotated token is used

    def __post_init__(self) -> None:
        ways = [bool(self.username or self.password), bool(self.bearer_token), bool(self.bearer_token_file)]
        if sum(ways) > 1:
            raise ValueError("more than one way to authenticate. Keep username and password, or one bearer token")
        if self.password and not self.username:
            raise ValueError("a password without a username. Add `username`")


class Tls(Config, frozen=True, kw_only=True):
    """How an https server is checked, and how it may check us."""

    verify: bool = True
    ca_file: str = ""  # empty: the system's authorities
    cert_file: str = ""  # client certificate
    key_file: str = ""

    def __post_init__(self) -> None:
        if self.key_file and not self.cert_file:
            raise ValueError("a key_file without a cert_file. Add `cert_file`")


class Http(Config, frozen=True, kw_only=True):
    """How one HTTP source is asked."""

    headers: dict[str, str] = {}
    auth: Auth = Auth()
    tls: Tls = Tls()
    timeout_s: Positive = 10.0
    max_bytes: Annotated[int, msgspec.Meta(gt=0)] = 64 * 1024 * 1024


Target: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^(\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._-]+)(:\d{1,5})?$")]
"""host or host:port."""


class TargetGroup(Config, frozen=True, kw_only=True):
    """Prometheus servers and labels that all their series get (a label that a series has stays)."""

    targets: tuple[Target, ...]
    labels: dict[str, str] = {}


class HttpDiscovery(Config, frozen=True, kw_only=True):
    """An endpoint that answers with target groups as JSON (Prometheus HTTP SD)."""

    url: Text
    http: Http = Http()


class Query(Config, frozen=True, kw_only=True):
    """One PromQL query, asked of every discovered server."""

    name: Name
    query: Text
    mode: Literal["instant", "range"] = "instant"
    every_s: Positive = 15.0
    step_s: Positive = 15.0  # range: distance of its points
    lookback_s: NonNegative = 300.0  # range: how far back the first poll goes
    max_catch_up_s: Positive = 6 * 3600.0  # range: how much is asked for after an outage
    max_age_s: Positive = 300.0  # an older sample is stale and left out; Prometheus's own look-back is 5 min
    stale_after_s: Positive = 120.0
    may_be_empty: bool = False  # an answer without series is no failure


class PrometheusSource(Config, frozen=True, kw_only=True):
    """Prometheus servers that are found in one way or several, and what they are asked."""

    name: Name
    queries: tuple[Query, ...]
    static: tuple[TargetGroup, ...] = ()
    files: tuple[Text, ...] = ()  # JSON or YAML files of target groups (file SD); a pattern with * is expanded
    http_sd: tuple[HttpDiscovery, ...] = ()
    refresh_s: Positive = 30.0  # how often files and endpoints are looked at
    scheme: Literal["http", "https"] = "http"
    path_prefix: str = ""
    source_labels: tuple[str, ...] = ("site", "instance")  # the first that a series has names the event's source
    http: Http = Http()

    def __post_init__(self) -> None:
        if not (self.static or self.files or self.http_sd):
            raise ValueError("no server can be found. Add `static`, `files` or `http_sd`")
        if not self.queries:
            raise ValueError("nothing is asked. Add a query to `queries`")
        _distinct("queries", [query.name for query in self.queries])


class RemoteWrite(Config, frozen=True, kw_only=True):
    """What is made of series that Prometheus sends."""

    source_labels: tuple[str, ...] = ("site", "instance", "job")
    default_source: Text = "remote-write"


class Csv(Config, frozen=True, kw_only=True):
    """A file with a header."""

    file: Text
    time: Text = "time"
    value: Text = "value"
    delimiter: Annotated[str, msgspec.Meta(min_length=1, max_length=1)] = ","


class Json(Config, frozen=True, kw_only=True):
    """A document at an address. ``{from}``, ``{to}`` and ``{site}`` in address and parameters are filled in, escaped."""

    url: Text
    params: dict[str, str] = {}
    window_format: Text = "iso"  # of {from} and {to}: iso, unix_s, unix_ms, or a strftime pattern (UTC)
    list: str = ""  # path to the list of points; empty: the document is the list, or time and value lead to two lists
    time: Text
    value: Text
    http: Http = Http()

    def __post_init__(self) -> None:
        _paths(list=self.list, time=self.time, value=self.value)
        _template(self.url, *self.params.values())


class EnergyFeed(Config, frozen=True, kw_only=True):
    """Price, carbon or renewable share of one site from a file or an address."""

    name: Name
    site: Text
    kind: EnergyKind
    csv: Csv | None = None
    json: Json | None = None
    unit: Unit | None = None
    factor: float = 1.0  # besides the unit's: a fixed exchange rate into EUR, a tax
    timezone: str = "UTC"  # of times that name none
    time_format: Text = "iso"  # iso, unix_s, unix_ms, or a strptime pattern
    step_s: Positive = 3600.0
    back_days: Annotated[int, msgspec.Meta(ge=0, le=400)] = 1  # whole UTC days before today that are asked for
    ahead_days: Annotated[int, msgspec.Meta(ge=0, le=14)] = 2
    every_s: Positive = 900.0
    stale_after_s: Positive = 3 * 3600.0
    max_value_age_s: NonNegative = 3 * 3600.0  # the newest value may be so old; 0: any age

    def __post_init__(self) -> None:
        if (self.csv is None) == (self.json is None):
            raise ValueError("needs exactly one of `csv` and `json`")
        if self.unit is not None and self.unit not in FACTORS[self.kind]:
            raise ValueError(f"unit {self.unit} is none of {self.kind}. Write one of {', '.join(FACTORS[self.kind])}")
        if 86_400 % self.step_s or self.step_s % 1:
            raise ValueError("step_s does not divide a day into whole seconds. Write 900 or 3600, for example")
        _zone(self.timezone)

    @property
    def multiplier(self) -> float:
        """From the source's unit to the kind's."""
        return self.factor * (1.0 if self.unit is None else FACTORS[self.kind][self.unit])


class GridJson(Config, frozen=True, kw_only=True):
    """Where the parts of a grid event stand in a list of them."""

    url: Text
    params: dict[str, str] = {}
    window_format: Text = "iso"
    list: str = ""
    event_id: Text
    start: Text
    end: str = ""  # or duration_s
    duration_s: str = ""
    power_cap: Text
    status: str = ""  # empty: every listed event is announced
    cancelled: tuple[str, ...] = ("cancelled",)  # values of `status` that mean so
    site: str = ""  # path to the site; empty: the feed's
    http: Http = Http()

    def __post_init__(self) -> None:
        if bool(self.end) == bool(self.duration_s):
            raise ValueError("needs exactly one of `end` and `duration_s`")
        _paths(list=self.list, event_id=self.event_id, start=self.start, end=self.end, duration_s=self.duration_s)
        _paths(power_cap=self.power_cap, status=self.status, site=self.site)
        _template(self.url, *self.params.values())


class GridFeed(Config, frozen=True, kw_only=True):
    """Demand-response events that somebody publishes as JSON."""

    name: Name
    site: str = ""
    json: GridJson
    power_unit: Literal["w", "kw", "mw"] = "w"
    timezone: str = "UTC"
    time_format: Text = "iso"
    cancel_when_absent: bool = False  # an event that is listed no more before its end is cancelled
    ahead_days: Annotated[int, msgspec.Meta(ge=0, le=400)] = 7
    every_s: Positive = 60.0
    stale_after_s: Positive = 600.0

    def __post_init__(self) -> None:
        if bool(self.site) == bool(self.json.site):
            raise ValueError("needs exactly one of `site` and `json.site`")
        _zone(self.timezone)


class OpenAdrAuth(Config, frozen=True, kw_only=True):
    """OAuth 2.0 client credentials."""

    client_id: Text
    client_secret: str = ""
    client_secret_file: str = ""  # read anew for each token
    token_url: str = ""  # empty: auth/token at the VTN
    scope: str = ""

    def __post_init__(self) -> None:
        if bool(self.client_secret) == bool(self.client_secret_file):
            raise ValueError("needs exactly one of `client_secret` and `client_secret_file`")


class OpenAdrSite(Config, frozen=True, kw_only=True):
    """A site, and what the VTN calls it."""

    site: Text
    targets: tuple[Text, ...] = ()  # names that an event may target, besides the site's and the resource's
    resource: str = ""  # its name in reports; empty: the site's
    simple_caps_w: Annotated[tuple[NonNegative, ...], msgspec.Meta(max_length=3)] = ()  # of SIMPLE levels 1, 2, 3


class OpenAdrFeed(Config, frozen=True, kw_only=True):
    """A VTN of OpenADR 3 that we are a VEN of."""

    name: Name
    url: Text  # up to the paths of the specification, such as https://vtn.example/openadr3/3.1.0
    version: Literal["3.0", "3.1"] = "3.1"  # how reports are written; events of both are read
    auth: OpenAdrAuth | None = None
    program: str = ""  # by name; empty: every program that the VTN shows us
    ven_name: Annotated[str, msgspec.Meta(min_length=1, max_length=128)] = "solyx"
    sites: Annotated[tuple[OpenAdrSite, ...], msgspec.Meta(min_length=1)]
    power_unit: Literal["w", "kw", "mw"] = "kw"  # where neither event nor program names one
    reports: bool = True
    every_s: Positive = 30.0
    stale_after_s: Positive = 300.0
    http: Http = Http()

    def __post_init__(self) -> None:
        names = [entry.site for entry in self.sites]
        if len(set(names)) < len(names):
            raise ValueError("a site stands twice in `sites`. Put its targets into one entry")
        if self.auth is not None and self.http.auth != Auth():
            raise ValueError("both `auth` and `http.auth`. Keep `auth`: the VTN's token takes the same header")


class DeviceEntry(Config, frozen=True, kw_only=True):
    """Equal accelerators of one machine."""

    kind: DeviceKind = "gpu"
    model: Text
    count: Annotated[int, msgspec.Meta(gt=0)]
    domain: str = ""  # devices of one domain are joined by a fast interconnect


class NodeEntry(Config, frozen=True, kw_only=True):
    """Equal machines: ``name``, or ``name-0`` to ``name-(count - 1)`` where there are several."""

    name: Name
    count: Annotated[int, msgspec.Meta(gt=0, le=100_000)] = 1
    cpu: Positive  # cores
    memory_gib: Positive
    devices: tuple[DeviceEntry, ...] = ()
    taints: tuple[Text, ...] = ()  # only pods that tolerate all of them start there
    rack: str = ""
    labels: dict[str, str] = {}

    def names(self) -> tuple[str, ...]:
        """Of each machine."""
        return (self.name,) if self.count == 1 else tuple(f"{self.name}-{index}" for index in range(self.count))


class PowerEntry(Config, frozen=True, kw_only=True):
    """As ``solyx.events.PowerModel``."""

    idle_w_per_node: NonNegative = 0.0
    w_per_core: NonNegative = 0.0
    w_per_gpu: NonNegative = 0.0
    pue: Annotated[float, msgspec.Meta(ge=1)] = 1.0


class BatteryEntry(Config, frozen=True, kw_only=True):
    """As ``solyx.events.Battery``."""

    capacity_wh: NonNegative
    charge_wh: NonNegative
    max_charge_w: NonNegative = 0.0
    max_discharge_w: NonNegative
    efficiency: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0


class SiteEntry(Config, frozen=True, kw_only=True):
    """The inventory of a site that nothing else reports."""

    name: Name
    nodes: tuple[NodeEntry, ...]
    cordoned: tuple[Text, ...] = ()  # machines that take nothing new
    draining: tuple[Text, ...] = ()  # and that what runs there is to leave
    power: PowerEntry = PowerEntry()
    zone: str = ""
    network_node: str = ""
    egress_eur_per_gib: NonNegative = 0.0
    latency_ms: dict[str, NonNegative] = {}  # round trip to named places
    battery: BatteryEntry | None = None

    def __post_init__(self) -> None:
        if not self.nodes:
            raise ValueError("a site without machines. Add one to `nodes`")
        names = [name for node in self.nodes for name in node.names()]
        if len(set(names)) < len(names):
            raise ValueError("two machines have one name. Names of machines must differ within a site")
        for key, chosen in (("cordoned", self.cordoned), ("draining", self.draining)):
            if unknown := sorted(set(chosen) - set(names)):
                raise ValueError(
                    f"`{key}` names {unknown[0]!r}, which is no machine of the site. One is {min(names)!r}"
                )


class Collection(Config, frozen=True, kw_only=True):
    """The whole file."""

    prometheus: tuple[PrometheusSource, ...] = ()
    remote_write: RemoteWrite = RemoteWrite()
    sites: tuple[SiteEntry, ...] = ()
    energy: tuple[EnergyFeed, ...] = ()
    grid: tuple[GridFeed, ...] = ()
    openadr: tuple[OpenAdrFeed, ...] = ()
    max_backoff_s: Positive = 300.0  # longest pause between two attempts at a feed that fails

    def __post_init__(self) -> None:
        for key in ("prometheus", "sites", "energy", "grid", "openadr"):
            _distinct(key, [feed.name for feed in getattr(self, key)])


class Located(msgspec.Struct, frozen=True, kw_only=True):
    """A configuration and the directory that its file names are relative to."""

    collection: Collection = Collection()
    directory: Path = Path()
