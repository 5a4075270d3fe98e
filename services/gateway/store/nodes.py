"""What operators order about nodes: kept, and told to the log."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from sqlalchemy import Text, cast, select
from sqlalchemy.dialects.postgresql import insert

from services.gateway.store.jobs import notify_outbox, outbox_row
from services.gateway.store.tables import ENTITIES, OUTBOX
from solyx.events import NodeOrder, NodesOrdered, SiteObserved

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from services.gateway.model import NewNodeState

_decode_site = msgspec.json.Decoder(SiteObserved).decode
_decode_orders = msgspec.json.Decoder(NodesOrdered).decode
_BODY = cast(ENTITIES.c.body, Text)


class NodeStore:
    """Keeps the orders about the nodes of each site."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def order(self, site: str, node: str, new: NewNodeState, now: datetime) -> NodesOrdered | None:
        """Keep what is ordered about one node and tell the log, in one transaction; None: no such site or node."""
        async with self._engine.begin() as connection:
            # The site's row is locked: of two orders at a time each sees what the other left.
            known = select(_BODY).where(ENTITIES.c.kind == "site", ENTITIES.c.key == site).with_for_update()
            observed = (await connection.execute(known)).scalar_one_or_none()
            if observed is None:
                return None
            query = select(_BODY).where(ENTITIES.c.kind == "nodes", ENTITIES.c.key == site)
            text = (await connection.execute(query)).scalar_one_or_none()
            before = _decode_orders(text) if text is not None else None
            ordered_before = before.orders if before is not None else ()
            names = {one.name for one in _decode_site(observed).nodes} | {order.node for order in ordered_before}
            if node not in names:
                return None
            orders = _changed(ordered_before, node, new, now)
            if before is not None and orders == before.orders:
                return before
            revision = before.revision + 1 if before is not None else 1
            event = NodesOrdered(site=site, revision=revision, orders=orders, ordered_at=now)
            await _keep(connection, event, now)
        return event


def _changed(orders: tuple[NodeOrder, ...], node: str, new: NewNodeState, now: datetime) -> tuple[NodeOrder, ...]:
    """The orders with this one in them; a repeat keeps the time."""
    held = {order.node: order for order in orders}
    before = held.pop(node, None)
    if new.state != "open":
        since = before.since if before is not None and before.state == new.state else now
        held[node] = NodeOrder(node=node, state=new.state, note=new.note, since=since)
    return tuple(held[name] for name in sorted(held))


async def _keep(connection: AsyncConnection, event: NodesOrdered, now: datetime) -> None:
    values = {"version": event.revision, "body": msgspec.to_builtins(event)}
    upsert = insert(ENTITIES).values(kind="nodes", key=event.site, **values)
    await connection.execute(upsert.on_conflict_do_update(index_elements=["kind", "key"], set_=values))
    await connection.execute(insert(OUTBOX).values(outbox_row(event, None, now)))
    await notify_outbox(connection)
