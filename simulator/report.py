"""What a run leaves behind: ``metrics_summary.csv`` and ``metrics.json``, the same bytes for the same input, and plots."""

from __future__ import annotations

import csv
import io
import math
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from pathlib import Path

    from simulator.bill import Summary

_DIGITS = 6


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """``metrics.json``."""

    scenario: str
    since: str
    until: str
    seed: int
    carbon_eur_per_t: float
    forecast_every_h: int
    policies: list[dict[str, str | int | float | None]]


def rows_of(summaries: list[Summary]) -> list[dict[str, str | int | float | None]]:
    """Rows for files: rounded, and None for what a policy has no figure of."""
    return [{name: _cell(getattr(summary, name)) for name in summary.__struct_fields__} for summary in summaries]


def _cell(value: str | float | None) -> str | int | float | None:
    if isinstance(value, float):
        return round(value, _DIGITS) if math.isfinite(value) else None
    return value


def write_json(file: Path, document: Document) -> None:
    """For programs."""
    file.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n")


def write_csv(file: Path, summaries: list[Summary]) -> None:
    """One row a policy; an empty cell where a policy has no such figure."""
    rows = rows_of(summaries)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows([{k: "" if v is None else v for k, v in row.items()} for row in rows])
    file.write_text(text.getvalue(), encoding="utf-8")
