"""What the actuator asks of a cluster and of a network: two protocols, as small as the reconciler allows.

Calls are synchronous and come from one thread per site (one per shard for the network), so that a slow or dead site holds up
no other. Every call bounds its own waiting and raises ``Transient`` when the whole target is out of reach.

Fencing needs no lease: the revision on the object decides. A target refuses (``STALE``) a revision lower than the one on the
object, leaves an object of the same revision as it is, and remembers a deletion so that its revision can never start later.
For Kubernetes that is a server-side apply with one field manager, the revision as an annotation and the object's
resourceVersion as the precondition; ``observe`` with a cursor hands over what a background watch has buffered since that
resourceVersion, and answers 410 Gone with a complete list. ``Delete.grace_s`` is a deletion's ``gracePeriodSeconds`` (whole
seconds, rounded up; it takes the place of the pod's ``terminationGracePeriodSeconds``): the object stays, marked for deletion,
until its containers have ended. ``WorkloadState.progress_s`` is what the workload's last checkpoint says in an annotation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.actuator.model import Apply, Changes, ClusterOutcome, Delete, InstalledRoute, RouteOutcome
    from solyx.events import RouteDecided


class ClusterTarget(Protocol):
    """One site's cluster."""

    def apply(self, workloads: Sequence[Apply]) -> Sequence[ClusterOutcome]:
        """Bring workloads into being; one outcome each, in order. A repeat changes nothing and tells how it stands.

        Raises:
            Transient: the cluster is out of reach; any part of the batch may have been done.
        """
        ...

    def delete(self, workloads: Sequence[Delete]) -> Sequence[ClusterOutcome]:
        """Remove and fence workloads; one outcome each, in order, with the state in which the workload ended.

        One that uses its grace period is applied with a state that has not ended: ``observe`` tells its end, and a repeat
        never prolongs it.
        ``STALE``: the object has a higher revision and was left alone; nothing of this revision runs.

        Raises:
            Transient: the cluster is out of reach; any part of the batch may have been done.
        """
        ...

    def observe(self, cursor: str | None) -> Changes:
        """States that changed since ``cursor``, at once; a complete list for None or for a cursor that is too old.

        Raises:
            Transient: the cluster is out of reach.
        """
        ...


class NetworkTarget(Protocol):
    """What installs routes: a controller of the WAN."""

    def apply(self, routes: Sequence[RouteDecided]) -> Sequence[RouteOutcome]:
        """Install routes; one outcome each, in order. A repeat changes nothing.

        Raises:
            Transient: the network's controller is out of reach.
        """
        ...

    def observe(self) -> Sequence[InstalledRoute]:
        """All routes that are installed.

        Raises:
            Transient: the network's controller is out of reach.
        """
        ...
