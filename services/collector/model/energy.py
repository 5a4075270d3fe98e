"""Price, carbon, renewable share and own generation, from files and addresses."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from services.collector.model.http import Http
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
from solyx.events.energy import EnergyKind

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


class Csv(Config, frozen=True, kw_only=True):
    """A file with a header."""

    file: Text
    time: Text = "time"
    value: Text = "value"
    delimiter: Annotated[str, msgspec.Meta(min_length=1, max_length=1)] = ","


class Json(Config, frozen=True, kw_only=True):
    """A document at an address. ``{from}``, ``{to}`` and ``{site}`` in address and parameters are filled in, escaped."""

    url: Text
    params: dict[str, str] = msgspec.field(default_factory=dict)
    window_format: Text = "iso"  # of {from} and {to}: iso, unix_s, unix_ms, or a strftime pattern (UTC)
    list: str = ""  # path to the list of points; empty: the document is the list, or time and value lead to two lists
    time: Text
    value: Text
    http: Http = Http()

    def __post_init__(self) -> None:
        check_paths(list=self.list, time=self.time, value=self.value)
        check_template(self.url, *self.params.values())


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
        check_zone(self.timezone)

    @property
    def multiplier(self) -> float:
        """From the source's unit to the kind's."""
        return self.factor * (1.0 if self.unit is None else FACTORS[self.kind][self.unit])
