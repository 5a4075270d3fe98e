"""The CMO's composition root."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.cmo.service import role
from solyx.process import run_role

if TYPE_CHECKING:
    from services.cmo.settings import CmoSettings


def run(settings: CmoSettings) -> int:
    """Work until SIGTERM or SIGINT; the exit code."""
    return run_role("cmo", settings, lambda clock, _: role(settings, speed=clock.speed))
