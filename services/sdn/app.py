"""The SDN's composition root."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.sdn.service import role
from solyx.process import run_role

if TYPE_CHECKING:
    from services.sdn.settings import SdnSettings


def run(settings: SdnSettings) -> int:
    """Work until SIGTERM or SIGINT; the exit code."""
    return run_role("sdn", settings, lambda clock, _: role(settings.policy(speed=clock.speed)))
