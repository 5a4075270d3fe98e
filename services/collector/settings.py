"""The collector's settings (README.md). What it collects from stands in the YAML file that ``config`` names."""

from __future__ import annotations

from solyx.settings import Settings, SettingsError


class CollectorSettings(Settings, frozen=True, kw_only=True):
    """Read from ``SOLYX_COLLECTOR_<FIELD>`` or ``SOLYX_<FIELD>``."""

    config: str = ""  # YAML file of feeds; empty: only the scenario, and what is sent to the HTTP port
    token: str = ""  # bearer token that remote writers and senders of grid events must show; empty: none
    # Towards Kafka
    buffer_bytes: int = 32 * 1024 * 1024  # encoded events that wait for the broker; a full buffer stops the sources
    publish_timeout_s: float = 20.0  # an HTTP request that is not safe by then is answered 503; below Prometheus's 30 s
    # Remote write
    max_write_bytes: int = 8 * 1024 * 1024  # of one request as it is sent
    max_decoded_bytes: int = 64 * 1024 * 1024  # of one request after decompression
    # Scenario replay
    history_days: int = 28  # energy from before the scenario's start that models learn from
    replay_rounds_per_s: float = 5.0  # most looks at the scenario in a wall second, whatever the speed
    link_period_s: float = 300.0  # scenario time between two readings of a link that has no traffic period of its own
    metrics_period_s: float = 60.0  # scenario time between two scrapes of a site

    def check(self) -> None:
        """Refuse what cannot work.

        Raises:
            SettingsError: names the setting and the cure.
        """
        positive = ("buffer_bytes", "publish_timeout_s", "max_write_bytes", "max_decoded_bytes")
        for name in (*positive, "replay_rounds_per_s", "link_period_s", "metrics_period_s"):
            value = getattr(self, name)
            if not value > 0:
                msg = f"SOLYX_COLLECTOR_{name.upper()}: is {value}; it must be above 0"
                raise SettingsError(msg)
        if self.history_days < 0:
            msg = f"SOLYX_COLLECTOR_HISTORY_DAYS: is {self.history_days}; it must be 0 or more"
            raise SettingsError(msg)
