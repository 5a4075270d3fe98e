"""Shortest and link-disjoint paths in a directed graph with positive weights.

The two directions between two nodes are one cable: a path and its backup never use the same cable, whichever way.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

from services.sdn.model import Path, Protected

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from services.sdn.core.links import Ends


class Graph:
    """Links by the node they leave, in order of their names, so that ties fall the same way every time.

    A route names nodes, so at most one link joins two nodes in one direction: the first by name.
    """

    def __init__(self, links: Mapping[str, Ends]) -> None:
        self.ends = links
        self.between: dict[tuple[str, str], str] = {}
        self.leaving: dict[str, list[str]] = {}
        for name in sorted(links):
            hop = (links[name].source, links[name].target)
            if self.between.setdefault(hop, name) == name:
                self.leaving.setdefault(hop[0], []).append(name)

    def cables(self, path: Iterable[str]) -> frozenset[str]:
        """The links of a path and those of the opposite direction."""
        hops = {(self.ends[name].source, self.ends[name].target) for name in path}
        hops |= {(target, source) for source, target in hops}
        return frozenset(name for hop in hops if (name := self.between.get(hop)) is not None)


def _tree(
    graph: Graph, weights: Mapping[str, float], source: str, without: Collection[str] = ()
) -> tuple[dict[str, float], dict[str, str]]:
    """Distance of each node that ``source`` reaches, and the link that enters it (Dijkstra 1959). Of equal paths the one of fewer links."""
    distance: dict[str, float] = {}
    entering: dict[str, str] = {}
    found: dict[str, tuple[float, int]] = {source: (0.0, 0)}
    queue: list[tuple[float, int, str]] = [(0.0, 0, source)]
    while queue:
        at, hops, node = heapq.heappop(queue)
        if node in distance:
            continue
        distance[node] = at
        for name in graph.leaving.get(node, ()):
            weight = weights.get(name)
            target = graph.ends[name].target
            if weight is None or name in without or target in distance:
                continue
            reached = (at + weight, hops + 1)
            if target not in found or reached < found[target]:
                found[target] = reached
                entering[target] = name
                heapq.heappush(queue, (*reached, target))
    return distance, entering


def least_path(
    graph: Graph, weights: Mapping[str, float], source: str, target: str, without: Collection[str] = ()
) -> Path | None:
    """The path of least weight over the links that ``weights`` has, less ``without``; None when there is none."""
    return least_paths(graph, weights, source, (target,), without).get(target)


def least_paths(
    graph: Graph, weights: Mapping[str, float], source: str, targets: Iterable[str], without: Collection[str] = ()
) -> dict[str, Path]:
    """The same for each target that is reached."""
    distance, entering = _tree(graph, weights, source, without)
    paths: dict[str, Path] = {}
    for target in targets:
        if target not in distance:
            continue
        links: list[str] = []
        node = target
        while node != source:
            links.append(entering[node])
            node = graph.ends[entering[node]].source
        paths[target] = Path(links=tuple(reversed(links)), weight=distance[target])
    return paths


def disjoint_pair(graph: Graph, weights: Mapping[str, float], source: str, target: str) -> tuple[Path, Path] | None:
    """Two link-disjoint paths of least total weight, the lighter first; None when there are no two.

    Suurballe and Tarjan, "A quick method for finding shortest pairs of disjoint paths", Networks 14 (1984), section 2: a second
    shortest-path search with reduced weights w + d(u) − d(v), in which the first path may be run backwards for nothing; links run
    both ways cancel. Simple equivalent: of all pairs of disjoint paths, the lightest.
    """
    distance, entering = _tree(graph, weights, source)
    if target not in distance:
        return None
    first: list[str] = []
    node = target
    while node != source:
        first.append(entering[node])
        node = graph.ends[entering[node]].source
    second = _residual_path(graph, weights, distance, first, (source, target))
    if second is None:
        return None
    backwards = {name for name, reverse in second if reverse}
    used = {name for name in first if name not in backwards} | {name for name, reverse in second if not reverse}
    paths = [_walk(graph, weights, used, source, target) for _ in range(2)]
    lighter, heavier = sorted(paths, key=lambda path: (path.weight, len(path.links), path.links))
    return lighter, heavier


def _residual_path(
    graph: Graph,
    weights: Mapping[str, float],
    distance: Mapping[str, float],
    first: Collection[str],
    ends: tuple[str, str],
) -> list[tuple[str, bool]] | None:
    """The second search: (link, whether run backwards) from source to target, or None."""
    source, goal = ends
    on_first = set(first)
    backwards: dict[str, list[str]] = {}
    for name in first:
        backwards.setdefault(graph.ends[name].target, []).append(name)
    found = {source: 0.0}
    step: dict[str, tuple[str, bool]] = {}
    settled: set[str] = set()
    queue = [(0.0, source)]
    while queue:
        at, node = heapq.heappop(queue)
        if node in settled:
            continue
        settled.add(node)
        reachable = [(graph.ends[name].source, 0.0, (name, True)) for name in backwards.get(node, ())]
        for name in graph.leaving.get(node, ()):
            beyond = graph.ends[name].target
            if name in weights and name not in on_first and beyond in distance:
                reduced = max(weights[name] + distance[node] - distance[beyond], 0.0)
                reachable.append((beyond, reduced, (name, False)))
        for beyond, cost, taken in reachable:
            if beyond not in settled and at + cost < found.get(beyond, float("inf")):
                found[beyond] = at + cost
                step[beyond] = taken
                heapq.heappush(queue, (at + cost, beyond))
    if goal not in settled:
        return None
    path: list[tuple[str, bool]] = []
    node = goal
    while node != source:
        name, reverse = step[node]
        path.append((name, reverse))
        node = graph.ends[name].target if reverse else graph.ends[name].source
    return path


def _walk(graph: Graph, weights: Mapping[str, float], used: set[str], source: str, target: str) -> Path:
    """Take one path out of a set of links that two disjoint paths make."""
    links: list[str] = []
    node = source
    while node != target:
        name = next(name for name in graph.leaving[node] if name in used)
        used.discard(name)
        links.append(name)
        node = graph.ends[name].target
    return Path(links=tuple(links), weight=sum(weights[name] for name in links))


def protected_path(graph: Graph, weights: Mapping[str, float], source: str, target: str) -> Protected | None:
    """The path of least weight with its lightest backup; where that path has none, the lightest pair that has (Suurballe).

    The second case is the trap topology: the shortest path blocks every other one. A little longer is better than unprotected.
    """
    if source == target:
        return Protected(path=Path(links=(), weight=0.0), backup=None)
    shortest = least_path(graph, weights, source, target)
    if shortest is None:
        return None
    backup = least_path(graph, weights, source, target, graph.cables(shortest.links))
    if backup is None:
        pair = disjoint_pair(graph, weights, source, target)
        if pair is not None and not graph.cables(pair[0].links) & set(pair[1].links):
            return Protected(path=pair[0], backup=pair[1])
    return Protected(path=shortest, backup=backup)
