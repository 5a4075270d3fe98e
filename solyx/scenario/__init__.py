"""Scenarios: a directory that says which sites, prices, jobs and network a replay has (scenario.toml and the files it names)."""

from solyx.scenario.energy import DayAheadMarket, EnergySeries, KnownUntil, known_at, next_publication
from solyx.scenario.errors import ScenarioError
from solyx.scenario.generate import generate
from solyx.scenario.inventory import Maintenance, Outage, Slowdown
from solyx.scenario.jobs import RUNNING_AT_START_LABEL, JobSource, ScenarioJob
from solyx.scenario.loads import LOAD_METRIC, Load
from solyx.scenario.network import Background, Link, Network
from solyx.scenario.scenario import Scenario, Site, load

__all__ = [
    "LOAD_METRIC",
    "RUNNING_AT_START_LABEL",
    "Background",
    "DayAheadMarket",
    "EnergySeries",
    "JobSource",
    "KnownUntil",
    "Link",
    "Load",
    "Maintenance",
    "Network",
    "Outage",
    "Scenario",
    "ScenarioError",
    "ScenarioJob",
    "Site",
    "Slowdown",
    "generate",
    "known_at",
    "load",
    "next_publication",
]
