"""All simulated targets of an installation: a cluster file for each site, one for the network."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from services.actuator.simulated.cluster import SimulatedCluster, cluster_file
from services.actuator.simulated.course import Chance, Outage, to_us
from services.actuator.simulated.network import SimulatedNetwork, network_file

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self

    from services.actuator.simulated.work import Checkpoints
    from services.actuator.targets import ClusterTarget, NetworkTarget
    from solyx.clock import Clock
    from solyx.scenario import Scenario

_NEVER_US = 2**62


class SimulatedTargets:
    """Makes and keeps the targets; a context that closes them."""

    def __init__(
        self,
        state_dir: Path,
        clock: Clock,
        *,
        chance: Chance,
        checkpoints: Checkpoints | None = None,
        outages: dict[str, tuple[Outage, ...]] | None = None,
    ) -> None:
        self._state_dir, self._clock, self._chance = state_dir, clock, chance
        self._checkpoints = checkpoints
        self._outages = outages or {}
        self._clusters: dict[str, SimulatedCluster] = {}
        self._lock = threading.Lock()
        self._network = SimulatedNetwork(network_file(state_dir), clock)

    def cluster(self, site: str) -> ClusterTarget:
        """The cluster of a site."""
        with self._lock:
            if site not in self._clusters:
                self._clusters[site] = SimulatedCluster(
                    cluster_file(self._state_dir, site),
                    self._clock,
                    chance=self._chance,
                    checkpoints=self._checkpoints,
                    outages=self._outages.get(site, ()),
                )
            return self._clusters[site]

    def network(self) -> NetworkTarget:
        """The network between the sites."""
        return self._network

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for cluster in self._clusters.values():
            cluster.close()


def planned_outages(scenario: Scenario) -> dict[str, tuple[Outage, ...]]:
    """When which node of which site is dead in a scenario."""
    start_us = to_us(scenario.start)
    return {
        site.name: tuple(
            Outage(
                node=outage.subject,
                from_us=start_us + round(outage.from_s * 1e6),
                until_us=_NEVER_US if outage.until_s is None else start_us + round(outage.until_s * 1e6),
            )
            for outage in site.outages
        )
        for site in scenario.sites
    }
