"""What the DRM can be told from outside; read from the environment by ``solyx.settings.load``."""

from __future__ import annotations

import msgspec

from services.drm.model import Quota
from solyx.settings import Settings, SettingsError


class DrmSettings(Settings, frozen=True, kw_only=True):
    """The shared settings and the quotas."""

    quotas: str = ""  # JSON, tenant → most it holds at each site: {"lab": {"cpu_milli": 64000, "gpu_milli": 8000}}

    def quotas_by_tenant(self) -> dict[str, Quota]:
        """The quotas, parsed.

        Raises:
            SettingsError: they are no JSON of that form.
        """
        if not self.quotas.strip():
            return {}
        try:
            return msgspec.json.decode(self.quotas, type=dict[str, Quota])
        except msgspec.MsgspecError as error:
            msg = (
                f"SOLYX_DRM_QUOTAS: {error}; write JSON such as "
                '{"lab": {"cpu_milli": 64000, "gpu_milli": 8000}}, see services/drm/README.md'
            )
            raise SettingsError(msg) from error
