"""The SDN's pure core: links, sites and placements in, routes out."""

from services.sdn.core.routing import SdnCore

__all__ = ["SdnCore"]
