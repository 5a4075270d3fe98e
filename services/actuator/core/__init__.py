"""The actuator's core: it decides nothing about jobs, it reconciles what clusters and networks do with what was decided."""

from services.actuator.core.reconciler import ActuatorCore

__all__ = ["ActuatorCore"]
