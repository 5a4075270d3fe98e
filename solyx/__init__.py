"""The shared kernel of Solyx: events, topics, bus, clock, settings, telemetry. It knows no service."""

__version__ = "0.1.0"
