"""What the collector is told to collect: the YAML file as frozen values. README.md documents every key with an example.

A struct checks itself; ``config.py`` turns its complaint into a message that names the key.
"""

from services.collector.model.collection import Collection, Located
from services.collector.model.energy import FACTORS, Csv, EnergyFeed, Json, Unit
from services.collector.model.grid import POWER_FACTORS_W, GridFeed, GridJson, OpenAdrAuth, OpenAdrFeed, OpenAdrSite
from services.collector.model.http import Auth, Http, Tls
from services.collector.model.parts import Config, Name, NonNegative, Positive, Text
from services.collector.model.prometheus import HttpDiscovery, PrometheusSource, Query, RemoteWrite, Target, TargetGroup
from services.collector.model.sites import BatteryEntry, DeviceEntry, NodeEntry, PowerEntry, SiteEntry

__all__ = [
    "FACTORS",
    "POWER_FACTORS_W",
    "Auth",
    "BatteryEntry",
    "Collection",
    "Config",
    "Csv",
    "DeviceEntry",
    "EnergyFeed",
    "GridFeed",
    "GridJson",
    "Http",
    "HttpDiscovery",
    "Json",
    "Located",
    "Name",
    "NodeEntry",
    "NonNegative",
    "OpenAdrAuth",
    "OpenAdrFeed",
    "OpenAdrSite",
    "Positive",
    "PowerEntry",
    "PrometheusSource",
    "Query",
    "RemoteWrite",
    "SiteEntry",
    "Target",
    "TargetGroup",
    "Text",
    "Tls",
    "Unit",
]
