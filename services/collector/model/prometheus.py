"""Prometheus: where its servers are, what they are asked, what they send."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec

from services.collector.model.http import Http
from services.collector.model.parts import Config, Name, NonNegative, Positive, Text, check_distinct

Target: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^(\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._-]+)(:\d{1,5})?$")]
"""host or host:port."""


class TargetGroup(Config, frozen=True, kw_only=True):
    """Prometheus servers and labels that all their series get (a label that a series has stays)."""

    targets: tuple[Target, ...]
    labels: dict[str, str] = msgspec.field(default_factory=dict)


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
        check_distinct("queries", [query.name for query in self.queries])


class RemoteWrite(Config, frozen=True, kw_only=True):
    """What is made of series that Prometheus sends."""

    source_labels: tuple[str, ...] = ("site", "instance", "job")
    default_source: Text = "remote-write"
