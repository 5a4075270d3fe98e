"""The CMO's pure core: events in, placements out."""

from services.cmo.core.orchestrator import CmoCore

__all__ = ["CmoCore"]
