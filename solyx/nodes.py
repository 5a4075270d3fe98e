"""An inventory with what operators ordered about its nodes. Whoever looks at nodes looks at them so."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from solyx.events import NodesOrdered, SiteObserved


def under(observed: SiteObserved, ordered: NodesOrdered | None) -> SiteObserved:
    """The site as it is under the orders: they close and drain nodes, and open none that the inventory closes."""
    if ordered is None or not ordered.orders:
        return observed
    states = {order.node: order.state for order in ordered.orders}
    nodes = tuple(
        msgspec.structs.replace(node, ready=False, draining=node.draining or states[node.name] == "draining")
        if node.name in states
        else node
        for node in observed.nodes
    )
    return msgspec.structs.replace(observed, nodes=nodes)
