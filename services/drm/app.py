"""The DRM's composition root."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.drm.service import role
from solyx.process import run_role

if TYPE_CHECKING:
    from services.drm.settings import DrmSettings


def run(settings: DrmSettings) -> int:
    """Work until SIGTERM or SIGINT; the exit code.

    Raises:
        SettingsError: the quotas are wrong.
    """
    drm = role(settings)
    return run_role("drm", settings, lambda _clock, _stack: drm)
