"""The CMO's pure core: events in, placements out."""

from services.cmo.core.orchestrator import Orchestrator

__all__ = ["Orchestrator"]
