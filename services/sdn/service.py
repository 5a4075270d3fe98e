"""The SDN's place among the topics: one active writer for all pairs of sites, and standbys that fold along."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.sdn.core import SdnCore
from solyx.bus.runner import Role
from solyx.topics import ACTUATIONS, LATENCIES, LINKS, PLACEMENTS, ROUTES, SITES

if TYPE_CHECKING:
    from services.sdn.model import Policy


def role(policy: Policy) -> Role:
    """What this service reads, writes and decides with."""
    return Role(
        service="sdn",
        inputs=(LINKS, SITES, PLACEMENTS, ACTUATIONS),
        outputs=(ROUTES, LATENCIES),
        shards=1,
        by="all",
        standby=True,
        make_core=lambda _: SdnCore(policy),
    )
