"""Demand-response events, from any JSON source and from OpenADR 3."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from services.collector.model.http import Auth, Http
from services.collector.model.parts import (
    Config,
    Name,
    NonNegative,
    Positive,
    Text,
    check_paths,
    check_template,
    check_zone,
)

POWER_FACTORS_W: dict[Literal["w", "kw", "mw"], float] = {"w": 1.0, "kw": 1e3, "mw": 1e6}


class GridJson(Config, frozen=True, kw_only=True):
    """Where the parts of a grid event stand in a list of them."""

    url: Text
    params: dict[str, str] = msgspec.field(default_factory=dict)
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
        check_paths(list=self.list, event_id=self.event_id, start=self.start, end=self.end, duration_s=self.duration_s)
        check_paths(power_cap=self.power_cap, status=self.status, site=self.site)
        check_template(self.url, *self.params.values())


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
        check_zone(self.timezone)


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
