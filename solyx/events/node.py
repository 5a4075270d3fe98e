"""What operators ordered about the nodes of a site (topic ``nodes``, written by the gateway)."""

from __future__ import annotations

from typing import ClassVar, Literal

from solyx.events.event import Event, Model, PositiveInt, Time

NodeOrderState = Literal["cordoned", "draining"]


class NodeOrder(Model, frozen=True, kw_only=True):
    """A node that is to take nothing new and, if it is draining, that what runs there is to leave."""

    node: str
    state: NodeOrderState
    note: str = ""  # of the operator, for others
    since: Time


class NodesOrdered(Event, frozen=True, kw_only=True):
    """All orders about a site's nodes; the highest revision holds. They add to what the inventory says, and take nothing back."""

    TYPE: ClassVar[str] = "io.solyx.nodes.ordered.v1"
    TOPIC: ClassVar[str] = "nodes"

    site: str
    revision: PositiveInt
    orders: tuple[NodeOrder, ...] = ()  # by node
    ordered_at: Time

    @property
    def key(self) -> str:
        return self.site

    @property
    def id(self) -> str:
        return f"{self.site}.nodes.{self.revision}"
