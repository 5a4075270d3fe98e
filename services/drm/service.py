"""Which topics the DRM reads and writes, and how its sites are shared among replicas: one shard a partition of the sites."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.drm.core import DrmCore
from solyx.bus.runner import Role
from solyx.topics import ACTUATIONS, ALLOCATIONS, ENERGY, GRID, NODES, PLACEMENTS, QUOTAS, SITE_PARTITIONS, SITES

if TYPE_CHECKING:
    from services.drm.settings import DrmSettings


def role(settings: DrmSettings) -> Role:
    """The DRM as the runner needs it. Quotas are parsed here, so that wrong ones end the start, not a shard.

    Raises:
        SettingsError: the quotas are wrong.
    """
    quotas = settings.parsed_quotas()
    return Role(
        service="drm",
        inputs=(PLACEMENTS, SITES, NODES, ENERGY, ACTUATIONS),
        outputs=(ALLOCATIONS, GRID, QUOTAS),
        shards=SITE_PARTITIONS,
        by="site",
        standby=False,
        make_core=lambda _shard: DrmCore(quotas),
    )
