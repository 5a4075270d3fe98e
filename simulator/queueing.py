"""The one simple world in which every baseline runs: nodes, a queue in order of arrival at each site, suspension on time.

Whoever came first is looked at first and takes a place if its whole gang fits; one that does not fit holds up nobody behind it.
That is kinder to the baselines than a strict queue. Pods take the node on which least is left over.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING

from simulator.policies import AskAgain
from simulator.runs import Runs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from simulator.knowledge import Moment, Outlook
    from simulator.policies import Baseline, Run
    from simulator.workload import Job, Workload
    from solyx.events import JobSpec, Node
    from solyx.scenario import Site


@dataclass(slots=True)
class _Node:
    cpu_milli: int
    memory_bytes: int
    devices_milli: int
    models: frozenset[str]

    @classmethod
    def of(cls, node: Node) -> _Node:
        devices = sum(group.count for group in node.devices) * 1000
        return cls(node.cpu_milli, node.memory_bytes, devices, frozenset(group.model for group in node.devices))

    def fits(self, spec: JobSpec) -> bool:
        asked = spec.resources
        return (
            asked.cpu_milli <= self.cpu_milli
            and asked.memory_bytes <= self.memory_bytes
            and asked.gpu_milli <= self.devices_milli
            and all(not request.models or self.models & set(request.models) for request in asked.devices)
        )

    def take(self, spec: JobSpec, sign: int) -> None:
        self.cpu_milli -= sign * spec.resources.cpu_milli
        self.memory_bytes -= sign * spec.resources.memory_bytes
        self.devices_milli -= sign * spec.resources.gpu_milli


class Cluster:
    """The nodes of a site."""

    def __init__(self, site: Site) -> None:
        self.nodes = [_Node.of(node) for node in site.nodes]

    def place(self, spec: JobSpec) -> list[_Node] | None:
        """Nodes for the whole gang, taken; None when it does not fit now."""
        taken: list[_Node] = []
        for _ in range(spec.parallelism):
            fitting = [node for node in self.nodes if node.fits(spec)]
            if not fitting:
                self.release(spec, taken)
                return None
            node = min(fitting, key=lambda n: (n.devices_milli, n.cpu_milli))
            node.take(spec, 1)
            taken.append(node)
        return taken

    def release(self, spec: JobSpec, nodes: Sequence[_Node]) -> None:
        """Give back."""
        for node in nodes:
            node.take(spec, -1)


class _Kind(IntEnum):
    """What happens; of one moment, in this order."""

    STOP = 0
    LEARN = 1
    ASK = 2
    DUE = 3


@dataclass(slots=True)
class _State:
    """A job under way."""

    job: Job
    left_s: float
    site: int = -1
    spans: tuple[tuple[float, float], ...] = ()
    span: int = 0
    queued_since_s: float = 0.0
    start_s: float = 0.0
    nodes: list[_Node] = field(default_factory=list[_Node])


class Engine:
    """Events in order of time until every job is done."""

    def __init__(
        self,
        workload: Workload,
        sites: Sequence[Site],
        outlook: Outlook,
        policy: Baseline,
        *,
        suspend_overhead_s: float,
    ) -> None:
        self._clusters = [Cluster(site) for site in sites]
        self._outlook, self._policy, self._overhead_s = outlook, policy, suspend_overhead_s
        self._workload = workload
        self._queues: list[list[tuple[float, int, _State]]] = [[] for _ in sites]
        self._heap: list[tuple[float, int, int, object]] = []
        self._serial = 0
        self.runs = Runs()

    def run(self, moments: Sequence[Moment], progress: Callable[[float], None] = lambda _share: None) -> Runs:
        """Everything, from the first moment until every job has ended."""
        for moment in moments:
            self._push(moment.at_s, _Kind.LEARN, moment)
        for job in self._workload.jobs:
            self._push(job.arrival_s, _Kind.ASK, _State(job, job.true_duration_s))
        total = len(self._workload.jobs)
        while self._heap and len(self.runs.done_s) < total:
            now_s, kind, _, what = heapq.heappop(self._heap)
            if kind == _Kind.LEARN:
                self._outlook.take(what)  # pyright: ignore[reportArgumentType] - by kind
                continue
            state: _State = what  # pyright: ignore[reportAssignmentType] - by kind
            match _Kind(kind):
                case _Kind.ASK:
                    self._ask(state, now_s)
                case _Kind.DUE:
                    self._enqueue(state, now_s)
                case _Kind.STOP:
                    self._stop(state, now_s)
                    if len(self.runs.done_s) % 500 == 0:
                        progress(len(self.runs.done_s) / total)
                case _Kind.LEARN:
                    pass
        return self.runs

    def _push(self, at_s: float, kind: _Kind, what: object) -> None:
        self._serial += 1
        heapq.heappush(self._heap, (at_s, int(kind), self._serial, what))

    def _ask(self, state: _State, now_s: float) -> None:
        answer: Run | AskAgain = self._policy.plan(state.job, now_s)
        if isinstance(answer, AskAgain):
            self._push(answer.at_s, _Kind.ASK, state)
            return
        state.site, state.spans = answer.site, answer.spans
        self._push(max(answer.spans[0][0], now_s), _Kind.DUE, state)

    def _enqueue(self, state: _State, now_s: float) -> None:
        state.queued_since_s = now_s
        self._serial += 1
        queue = self._queues[state.site]
        queue.append((state.job.arrival_s, self._serial, state))
        queue.sort(key=lambda entry: entry[:2])
        self._admit(state.site, now_s, only=state)

    def _admit(self, site: int, now_s: float, only: _State | None = None) -> None:
        """Whoever fits, in order of arrival. After an arrival only the newcomer can: nothing became free."""
        cluster, refused = self._clusters[site], set[tuple[object, int]]()
        kept: list[tuple[float, int, _State]] = []
        for entry in self._queues[site]:
            state = entry[2]
            spec = state.job.spec
            shape = (spec.resources, spec.parallelism)
            nodes = None
            if (only is None or state is only) and shape not in refused:
                nodes = cluster.place(spec)
            if nodes is None:
                refused.add(shape)
                kept.append(entry)
            else:
                self._start(state, nodes, now_s)
        self._queues[site] = kept

    def _start(self, state: _State, nodes: list[_Node], now_s: float) -> None:
        state.nodes, state.start_s = nodes, now_s
        index = state.job.index
        self.runs.queued_s[index] = self.runs.queued_s.get(index, 0.0) + now_s - state.queued_since_s
        while state.span < len(state.spans) - 1 and state.spans[state.span][1] <= now_s:
            state.span += 1  # it waited through the whole span
        self._push(min(now_s + state.left_s, state.spans[state.span][1]), _Kind.STOP, state)

    def _stop(self, state: _State, now_s: float) -> None:
        """Its work is done, or its span is over."""
        job = state.job
        self._clusters[state.site].release(job.spec, state.nodes)
        self.runs.add(job.index, state.site, state.start_s, now_s)
        done = now_s >= state.start_s + state.left_s
        if done:
            self.runs.done_s[job.index] = now_s
            self._policy.ended(job)
        else:
            state.left_s += self._overhead_s - (now_s - state.start_s)
            state.span += 1
            self._push(state.spans[state.span][0], _Kind.DUE, state)
        self._admit(state.site, now_s)
