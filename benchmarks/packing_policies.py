"""Packing policies of the FGD experiment: the published baselines, and ours through the production core.

Weng et al., "Beware of Fragmentation: Scheduling GPU-Sharing Workloads with Fragmentation Gradient Descent", USENIX ATC 2023,
section 6.1. Scores are rounded down to whole numbers from 0 to 100 and ties go to the first node by name, as the Kubernetes
scheduler under the paper's figures does it; without that rounding the same FGD allocates about two points less.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from services.drm.core.capacity import Capacity
from services.drm.core.fragmentation import TYPICAL_SHARE, History
from services.drm.core.inventory import Inventory
from services.drm.model import WHOLE, Demand
from solyx.events import DeviceGroup, DeviceRequest, Node

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Ints: TypeAlias = NDArray[np.int64]
MAX_CPU_MILLI = 128_000.0  # of the largest node
MAX_GPU_MILLI = 8_000.0


class Task(NamedTuple):
    """One pod of the trace."""

    cpu_milli: int
    memory_mib: int
    gpus: int
    gpu_milli: int  # of each GPU
    models: tuple[str, ...] = ()  # empty: any

    @property
    def asked_milli(self) -> int:
        return self.gpus * self.gpu_milli


class Machine(NamedTuple):
    """One node of the trace."""

    name: str
    cpu_milli: int
    memory_mib: int
    gpus: int
    model: str


class Policy(Protocol):
    def place(self, task: Task) -> bool:
        """Start the task somewhere; False where it fits nowhere."""
        ...


class Cluster:
    """What is free, as columns; nodes in the order of their names."""

    def __init__(self, machines: Sequence[Machine]) -> None:
        machines = sorted(machines)
        self.models = np.array([machine.model for machine in machines])
        self.cpu: Ints = np.array([machine.cpu_milli for machine in machines], dtype=np.int64)
        self.memory: Ints = np.array([machine.memory_mib for machine in machines], dtype=np.int64)
        width = max(machine.gpus for machine in machines)
        self.gpus: Ints = np.array([[WHOLE] * m.gpus + [0] * (width - m.gpus) for m in machines], dtype=np.int64)
        self.counts: Ints = np.array([machine.gpus for machine in machines], dtype=np.int64)
        self._allowed: dict[tuple[str, ...], NDArray[np.bool_]] = {}

    def allowed(self, task: Task) -> NDArray[np.bool_]:
        """Where its models are."""
        if task.models not in self._allowed:
            self._allowed[task.models] = np.isin(self.models, task.models) if task.models else self.counts >= 0
        return self._allowed[task.models]

    def fitting(self, task: Task) -> Ints:
        fit = (self.cpu >= task.cpu_milli) & (self.memory >= task.memory_mib)
        if task.gpus:
            fit &= self.allowed(task) & ((self.gpus >= task.gpu_milli).sum(axis=1) >= task.gpus)
        return fit.nonzero()[0]

    def take(self, task: Task, node: int, gpu: int | None = None) -> None:
        """Charge the task; its GPUs are the first that are free, a share's the fullest that fits, unless one is named."""
        self.cpu[node] -= task.cpu_milli
        self.memory[node] -= task.memory_mib
        if not task.gpus:
            return
        fits = (self.gpus[node] >= task.gpu_milli).nonzero()[0]
        if task.gpu_milli < WHOLE:
            fits = fits[[int(self.gpus[node][fits].argmin())]] if gpu is None else np.array([gpu])
        self.gpus[node, fits[: task.gpus]] -= task.gpu_milli


Scores: TypeAlias = "Callable[[Cluster, Task, Ints], Ints]"


class Scored:
    """The node with the highest score, the first of equals."""

    def __init__(self, machines: Sequence[Machine], scores: Scores) -> None:
        self._cluster, self._scores = Cluster(machines), scores

    def place(self, task: Task) -> bool:
        nodes = self._cluster.fitting(task)
        if not nodes.size:
            return False
        self._cluster.take(task, int(nodes[int(self._scores(self._cluster, task, nodes).argmax())]))
        return True


class RandomFit:
    """Any node that fits, and any GPU that fits."""

    def __init__(self, machines: Sequence[Machine], seed: int) -> None:
        self._cluster, self._chance = Cluster(machines), np.random.default_rng(seed)

    def place(self, task: Task) -> bool:
        nodes = self._cluster.fitting(task)
        if not nodes.size:
            return False
        node = int(self._chance.choice(nodes))
        gpu = None
        if task.gpus and task.gpu_milli < WHOLE:
            gpu = int(self._chance.choice((self._cluster.gpus[node] >= task.gpu_milli).nonzero()[0]))
        self._cluster.take(task, node, gpu)
        return True


def dot_product(cluster: Cluster, task: Task, nodes: Ints) -> Ints:
    """The least product of what is asked and what is free (Tetris, SIGCOMM 2014, with its sign turned as in the paper's code)."""
    product = cluster.cpu[nodes] / MAX_CPU_MILLI * (task.cpu_milli / MAX_CPU_MILLI)
    product += cluster.gpus[nodes].sum(axis=1) / MAX_GPU_MILLI * (task.asked_milli / MAX_GPU_MILLI)
    return (100 * (1 - product / 2)).astype(np.int64)


def best_fit(cluster: Cluster, task: Task, nodes: Ints) -> Ints:
    """The least left over of CPU and GPUs, spread to 0 to 100 among the nodes that fit."""
    left = (cluster.cpu[nodes] - task.cpu_milli) / MAX_CPU_MILLI
    left += (cluster.gpus[nodes].sum(axis=1) - task.asked_milli) / MAX_GPU_MILLI
    score = (100 * (1 - left / 2)).astype(np.int64)
    return (score - score.min()) * 100 // max(int(np.ptp(score)), 1)


def gpu_packing(cluster: Cluster, task: Task, nodes: Ints) -> Ints:
    """GPUs in use before free GPUs, and those of nodes in use before those of free nodes (MLaaS in the wild, NSDI 2022)."""
    if not task.gpus:
        return np.zeros(nodes.size, dtype=np.int64)
    gpus = cluster.gpus[nodes]
    whole = (gpus == WHOLE).sum(axis=1)
    shared = np.where((gpus >= task.gpu_milli) & (gpus < WHOLE), gpus, 2 * WHOLE).min(axis=1)
    score = np.maximum(100 // 2 - task.gpus, 100 // 3) * np.ones(nodes.size, dtype=np.int64)
    on_shared = (task.gpu_milli < WHOLE) & (shared < WHOLE)
    score[on_shared] = np.maximum(100 - shared[on_shared] * 100 // WHOLE // 10, 100 // 2)
    unused = whole == cluster.counts[nodes]
    score[unused] = np.maximum(100 // 3 - whole[unused], whole[unused])
    return score


class GpuClustering:
    """Tasks that ask for the same number of GPUs together, and the fullest node of those (Gandiva, OSDI 2018)."""

    def __init__(self, machines: Sequence[Machine]) -> None:
        self._cluster = Cluster(machines)
        self._kinds: dict[object, NDArray[np.bool_]] = {}

    def place(self, task: Task) -> bool:
        cluster = self._cluster
        nodes = cluster.fitting(task)
        if not nodes.size:
            return False
        if not task.gpus:
            cluster.take(task, int(nodes[0]))
            return True
        kind = "share" if task.gpu_milli < WHOLE else task.gpus
        runs = self._kinds.setdefault(kind, np.zeros(cluster.cpu.size, dtype=np.bool_))
        kinds = np.sum([mask[nodes] for mask in self._kinds.values()], axis=0)
        alike = runs[nodes]
        group = np.where(alike, np.where(kinds == 1, 3, 2), np.where(kinds == 0, 1, 0))
        full = 25 * (int(MAX_GPU_MILLI) - cluster.gpus[nodes].sum(axis=1)) // int(MAX_GPU_MILLI)
        node = int(nodes[int((25 * group + full).argmax())])
        runs[node] = True
        cluster.take(task, node)
        return True


class Fgd:
    """The node and GPU whose expected fragmentation over the typical pods grows least (sections 4.1 and 4.2).

    The score of a task on a node depends on that node alone, so it is computed anew only after the node has changed.
    """

    def __init__(self, machines: Sequence[Machine], workload: Sequence[Task]) -> None:
        self._cluster = Cluster(machines)
        counts: dict[tuple[int, int, int, tuple[str, ...]], int] = {}  # the paper's code leaves memory out
        for task in workload:
            key = (task.cpu_milli, task.gpus, task.gpu_milli, task.models)
            counts[key] = counts.get(key, 0) + 1
        typical: list[tuple[tuple[int, int, int, tuple[str, ...]], int]] = []
        for key, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
            if sum(n for _, n in typical) >= TYPICAL_SHARE * len(workload):
                break
            typical.append((key, count))
        self._cpu = np.array([key[0] for key, _ in typical])
        self._count = np.array([key[1] for key, _ in typical])
        self._milli = np.array([key[2] for key, _ in typical])
        self._often = np.array([count for _, count in typical]) / sum(count for _, count in typical)
        allowed = [np.isin(self._cluster.models, k[3]) if k[3] else self._cluster.counts >= 0 for k, _ in typical]
        self._allowed = np.array(allowed).T  # nodes × classes
        self._seen: dict[Task, tuple[NDArray[np.int64], Ints, Ints]] = {}  # version, score and GPU by node
        self._version = np.ones(self._cluster.cpu.size, dtype=np.int64)
        self._fragments = self._fragmentation(np.arange(self._cluster.cpu.size), self._cluster.cpu, self._cluster.gpus)

    def _fragmentation(self, nodes: Ints, cpu: Ints, gpus: Ints) -> NDArray[np.float64]:
        """F of nodes with this much free: to a class, all of a node that cannot run it, else the GPUs too small for it."""
        idle = gpus.sum(axis=1)
        fragments = np.zeros((nodes.size, self._cpu.size))
        enough = np.zeros((nodes.size, self._cpu.size), dtype=np.int64)
        for gpu in range(gpus.shape[1]):
            free = gpus[:, gpu, None]
            fits = free >= self._milli
            fragments += np.where(fits, 0, free)
            enough += fits
        runs = (cpu[:, None] >= self._cpu) & (enough >= self._count) & self._allowed[nodes] & (self._count > 0)
        return np.where(runs, fragments, idle[:, None]) @ self._often

    def place(self, task: Task) -> bool:
        cluster, every = self._cluster, self._cluster.cpu.size
        if task not in self._seen:
            self._seen[task] = (np.zeros(every, dtype=np.int64), np.zeros(every, dtype=np.int64), np.zeros(every, int))
        version, score, gpu = self._seen[task]
        stale = (version != self._version).nonzero()[0]
        version[stale], score[stale] = self._version[stale], -1
        nodes = stale[np.isin(stale, cluster.fitting(task), assume_unique=True)]
        if nodes.size:
            self._score(task, nodes, score, gpu)
        best = int(score.argmax())
        if score[best] < 0:
            return False
        cluster.take(task, best, int(gpu[best]))
        self._version[best] += 1
        one = np.array([best])
        self._fragments[best] = self._fragmentation(one, cluster.cpu[one], cluster.gpus[one])[0]
        return True

    def _score(self, task: Task, nodes: Ints, score: Ints, gpu: Ints) -> None:
        free = self._cluster.gpus[nodes]
        if task.gpus and task.gpu_milli < WHOLE:
            fits = free >= task.gpu_milli
            for other in range(1, free.shape[1]):  # equal GPUs of a node once
                fits[:, other] &= ~(free[:, :other] == free[:, other, None]).any(axis=1)
            rows, picks = fits.nonzero()
        else:
            rows, picks = np.arange(nodes.size), np.zeros(nodes.size, dtype=np.int64)
        after = free[rows]
        if task.gpus and task.gpu_milli < WHOLE:
            after[np.arange(rows.size), picks] -= task.gpu_milli
        elif task.gpus:
            whole = after == WHOLE
            after[whole & (whole.cumsum(axis=1) <= task.gpus)] = 0
        cpu = self._cluster.cpu[nodes[rows]] - task.cpu_milli
        gain = self._fragments[nodes[rows]] - self._fragmentation(nodes[rows], cpu, after)
        rounded = (100 / (1 + np.exp(-gain / 1000))).astype(np.int64)
        for row, pick, value in zip(nodes[rows].tolist(), picks.tolist(), rounded.tolist(), strict=True):
            if value > score[row]:
                score[row], gpu[row] = value, pick


class Solyx:
    """The production core's packing, which learns what is typical as tasks come."""

    def __init__(self, machines: Sequence[Machine]) -> None:
        nodes = [
            Node(
                name=machine.name,
                cpu_milli=machine.cpu_milli,
                memory_bytes=machine.memory_mib << 20,
                devices=(DeviceGroup(model=machine.model, count=machine.gpus),),
            )
            for machine in sorted(machines)
        ]
        inventory = Inventory(nodes)
        self._history = History()
        self._free = Capacity.empty(inventory, inventory.ready)
        self._demands: dict[Task, Demand] = {}

    def place(self, task: Task) -> bool:
        demand = self._demands.get(task)
        if demand is None:
            request = DeviceRequest(models=task.models, count=max(task.gpus, 1), share_milli=task.gpu_milli or WHOLE)
            demand = self._demands[task] = Demand(
                cpu_milli=task.cpu_milli,
                memory_bytes=task.memory_mib << 20,
                devices=(request,) if task.gpus else (),
                parallelism=1,
            )
        self._history.note(demand)
        if self._history.refresh():
            self._free.typical = self._history.typical
        spots = self._free.place(demand)
        if spots is None:
            return False
        self._free.take(demand, spots)
        return True


def policies(machines: Sequence[Machine], workload: Sequence[Task], seed: int) -> dict[str, Callable[[], Policy]]:
    """Every policy by name, made anew for each run."""
    return {
        "random": lambda: RandomFit(machines, seed),
        "dot_product": lambda: Scored(machines, dot_product),
        "gpu_clustering": lambda: GpuClustering(machines),
        "gpu_packing": lambda: Scored(machines, gpu_packing),
        "best_fit": lambda: Scored(machines, best_fit),
        "fgd": lambda: Fgd(machines, workload),
        "solyx": lambda: Solyx(machines),
    }
