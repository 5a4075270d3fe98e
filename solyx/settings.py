"""Settings that every service shares. One frozen class a service extends; nothing else reads the environment.

Each field is read from ``SOLYX_<FIELD>`` (upper case), or ``SOLYX_<SERVICE>_<FIELD>`` where a service has its own value.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from solyx.clock import Clock, ReplayClock, WallClock

if TYPE_CHECKING:
    from collections.abc import Mapping


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What every service needs to know."""

    kafka_bootstrap_servers: str = "127.0.0.1:9092"
    replica: str = "0"  # stable name of this replica among those of its service
    http_host: str = "127.0.0.1"
    http_port: int = 0  # 0: a free port, printed in the log line "listening"
    log_level: str = "info"
    log_format: str = "json"  # json or text
    otlp_endpoint: str = ""  # OTLP/HTTP collector; empty: no export
    trace_file: str = ""  # spans as JSON lines; empty: none
    trace_sample_ratio: float = 0.0  # share of jobs whose spans are recorded; trace ids travel in any case
    batch_max_records: int = 2000
    transaction_timeout_s: float = 20.0
    state_dir: str = ".solyx"
    clock_file: str = ""  # a replay's clock; empty: the wall clock
    clock_start: str = ""  # RFC 3339; what a replay's clock shows until its file exists
    clock_speed: float = 1.0
    scenario: str = ""  # directory of the replayed scenario; empty: the real world

    def clock(self) -> Clock:
        """The clock that all processes of this installation share."""
        if not self.clock_file:
            return WallClock()
        start = datetime.fromisoformat(self.clock_start) if self.clock_start else datetime.now(UTC)  # noqa: TID251
        return ReplayClock(Path(self.clock_file), start=start, speed=self.clock_speed)


S = TypeVar("S", bound=Settings)


class SettingsError(Exception):
    """A setting is missing or wrong; the message names it and the cure."""


def load(settings: type[S], service: str, environment: Mapping[str, str] | None = None) -> S:
    """Read ``settings`` from the environment.

    Raises:
        SettingsError: a value does not fit its field.
    """
    environment = os.environ if environment is None else environment
    values: dict[str, Any] = {}
    for field in settings.__struct_fields__:
        for name in (f"SOLYX_{service.upper()}_{field.upper()}", f"SOLYX_{field.upper()}"):
            if name in environment:
                values[field] = environment[name]
                break
    try:
        return msgspec.convert(values, settings, strict=False)
    except msgspec.ValidationError as error:
        field = str(error).rsplit("$.", 1)[-1].rstrip("`")
        msg = f"SOLYX_{field.upper()}: {str(error).split(' - at')[0]}; see docs/configuration.md"
        raise SettingsError(msg) from error
