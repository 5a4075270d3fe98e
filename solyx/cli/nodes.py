"""``solyx nodes``, ``cordon``, ``drain`` and ``uncordon``: the nodes of each site, and what operators order about them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from solyx.cli.connection import Json, Key, Url, connect
from solyx.cli.output import moment, number, print_json, print_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from solyx.client import Client
    from solyx.events import Node, NodeOrder, NodesOrdered, SiteObserved

Site = Annotated[str, typer.Argument(help="The site's name.")]
NodeName = Annotated[str, typer.Argument(metavar="NODE", help="The node's name there; solyx nodes lists them.")]
Note = Annotated[str, typer.Option(help="Why, for others.")]


def nodes(
    site: Annotated[str | None, typer.Argument(help="Only of this site.")] = None,
    json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """List the nodes of each site: what they have, whether they take work, and what operators ordered."""
    with connect(url, key) as client:
        show_nodes(client.sites(), client.node_orders(), site, as_json=json)


def cordon(site: Site, node: NodeName, note: Note = "", json: Json = False, url: Url = None, key: Key = None) -> None:
    """Let nothing new start on a node; what runs there stays (administrators)."""
    with connect(url, key) as client:
        _order(client, site, node, "cordoned", note, as_json=json)


def drain(site: Site, node: NodeName, note: Note = "", json: Json = False, url: Url = None, key: Key = None) -> None:
    """Empty a node: what runs there leaves within its grace period and goes on elsewhere (administrators)."""
    with connect(url, key) as client:
        _order(client, site, node, "draining", note, as_json=json)


def uncordon(site: Site, node: NodeName, json: Json = False, url: Url = None, key: Key = None) -> None:
    """Take the order about a node back (administrators). What its site itself closes stays closed."""
    with connect(url, key) as client:
        _order(client, site, node, "open", "", as_json=json)


def add_to(app: typer.Typer) -> None:
    """Make them commands."""
    for command in (nodes, cordon, drain, uncordon):
        app.command()(command)


def show_nodes(
    sites: Sequence[SiteObserved], ordered: Sequence[NodesOrdered], only: str | None, *, as_json: bool
) -> None:
    """A row for each node."""
    orders = {(one.site, order.node): order for one in ordered for order in one.orders}
    found = [(site.site, node) for site in sites for node in site.nodes if only in (None, site.site)]
    if as_json:
        for name, node in found:
            order = orders.get((name, node.name))
            print_json({"site": name, **msgspec.to_builtins(node), "order": order})
        return
    print_table(
        ("site", "node", "state", "cores", "GiB", "devices", "taints", "ordered", "note"),
        (_row(name, node, orders.get((name, node.name))) for name, node in found),
    )


def _row(site: str, node: Node, order: NodeOrder | None) -> tuple[object, ...]:
    return (
        site,
        node.name,
        _state(node),
        number(node.cpu_milli / 1000, 0),
        number(node.memory_bytes / 2**30, 0),
        ", ".join(f"{group.count} {group.model}" for group in node.devices),
        ", ".join(node.taints),
        f"{order.state} {moment(order.since)}" if order is not None else "",
        order.note if order is not None else "",
    )


def _state(node: Node) -> str:
    return "draining" if node.draining else "ready" if node.ready else "closed"


def _order(client: Client, site: str, node: str, state: str, note: str, *, as_json: bool) -> None:
    ordered = client.order_node(site, node, state, note=note)
    if as_json:
        print_json(ordered)
    else:
        typer.echo(f"{site}/{node}: {state}{_all_the_same(client, site, node) if state == 'open' else ''}")


def _all_the_same(client: Client, site: str, node: str) -> str:
    """That a node takes no work although nothing is ordered about it: an order opens nothing that the site itself closes."""
    there = (one for known in client.sites() if known.site == site for one in known.nodes if one.name == node)
    closed = next((one for one in there if not one.ready), None)
    return "" if closed is None else f" as far as orders go; its site says that it is {_state(closed)}"
