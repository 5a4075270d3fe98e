"""What the DRM can be told from outside; read from the environment by ``solyx.settings.load``."""

from __future__ import annotations

from pathlib import Path

from services.drm.quotas import QuotaError, Quotas, parse_quotas
from solyx.settings import Settings, SettingsError

_FORM = 'write JSON such as {"lab": {"cpu_milli": 64000, "gpu_milli": 8000}}, or a tree of cohorts: see services/drm/README.md'


class DrmSettings(Settings, frozen=True, kw_only=True):
    """The shared settings and the quotas."""

    quotas: str = ""  # JSON, tenant → most it holds at each site: {"lab": {"cpu_milli": 64000}}; or a tree of cohorts
    quotas_file: str = ""  # the same in a file; only one of the two

    def parsed_quotas(self) -> Quotas:
        """The quotas.

        Raises:
            SettingsError: they are no JSON of that form, or contradict themselves; the message names the field.
        """
        if self.quotas.strip() and self.quotas_file:
            msg = "SOLYX_DRM_QUOTAS and SOLYX_DRM_QUOTAS_FILE: set only one of them"
            raise SettingsError(msg)
        name, text = "SOLYX_DRM_QUOTAS", self.quotas
        if self.quotas_file:
            name = f"SOLYX_DRM_QUOTAS_FILE {self.quotas_file}"
            try:
                text = Path(self.quotas_file).read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                msg = f"{name}: {error}; name a file that this process may read"
                raise SettingsError(msg) from error
        if not text.strip():
            return Quotas()
        try:
            return parse_quotas(text)
        except QuotaError as error:
            msg = f"{name}: {error}; {_FORM}"
            raise SettingsError(msg) from error
