"""Simulated clusters around the CMO's core: they do at random what the protocol allows, and each decision is judged as it comes."""

from random import Random

from services.cmo.core import CmoCore
from services.cmo.model import Policy
from solyx.events import (
    Event,
    JobFinished,
    JobPlaced,
    JobSubmitted,
    LatencyBoundReported,
    PlacementDeferred,
    PlacementWithdrawn,
    WorkloadReason,
)
from tests.unit.cmo.cmo_builders import at, cancelled, carbon, measured, node, prices, report, route, site

NAMES = ("a", "b", "c")


def world(seed=0) -> list[Event]:
    random = Random(seed)
    shapes = {
        "a": (node("1", gpus=2, model="V100"), node("2")),
        "b": (node("1", gpus=2, model="T4"),),
        "c": (node("1"), node("2"), node("3")),
    }
    events: list[Event] = [site(name, *shapes[name]) for name in NAMES]
    for name in NAMES:
        events.append(prices(name, *[random.uniform(-20, 120) for _ in range(110)], start=-24))
        events.append(carbon(name, *[random.uniform(50, 600) for _ in range(30)], start=-24))
    return events


class Run:
    """Clusters that do what they like within the protocol, and the log of all that was said."""

    def __init__(self, random: Random, jobs: list[JobSubmitted]) -> None:
        self.random, self.to_submit = random, list(jobs)
        # Without patience it is looked at in every decision whether a site is near enough, by a recovered core too.
        self.policy = Policy(delay_eur_per_job_h=1e-7, max_attempts=2, stuck_s=3600.0, latency_patience_s=0.0)
        self.cmo = CmoCore(self.policy)
        self.inputs: list[Event] = []
        self.decisions: list[Event] = []
        self.jobs = {job.job_id: job for job in jobs}
        self.live: dict[str, JobPlaced] = {}
        self.started: set[str] = set()
        self.withdrawn: set[str] = set()
        self.lost: set[str] = set()
        self.hours = 0.0
        self.routes = 0

    def say(self, *events: Event) -> None:
        for event in events:
            self.inputs.append(event)
            for _ in range(self.random.choice((1, 1, 2))):  # some records come twice
                self.cmo.fold(event)

    def decide(self) -> list[Event]:
        decided = self.cmo.decide(at(self.hours))
        for decision in decided:
            self.judge(decision)
        self.decisions += decided
        assert self.cmo.decide(at(self.hours)) == []
        return decided

    def judge(self, decision: Event) -> None:
        """The rules that every single decision has to keep."""
        match decision:
            case JobPlaced():
                assert decision.job_id not in self.live, "placed while an earlier placement may still run"
                assert decision.site not in self.lost
                last = max((d.revision for d in self.of(decision.job_id, JobPlaced)), default=0)
                assert decision.revision == last + 1
                assert not self.of(decision.job_id, JobFinished)
                self.live[decision.job_id] = decision
            case PlacementWithdrawn():
                assert self.live[decision.job_id].revision == decision.revision
                self.withdrawn.add(decision.job_id)
                if decision.site in self.lost:
                    self.end(decision.job_id)
            case JobFinished():
                assert decision.job_id not in self.live, "finished while a placement may still run"
                assert not self.of(decision.job_id, JobFinished), "finished twice"
            case PlacementDeferred():
                assert decision.job_id not in self.live, "waits while a placement may still run"
            case LatencyBoundReported():
                assert self.live[decision.job_id].revision == decision.revision, "told of a placement that is over"
            case _:
                raise AssertionError(decision)

    def of(self, job_id: str, kind: type) -> list:
        return [decision for decision in self.decisions if isinstance(decision, kind) and decision.job_id == job_id]

    def end(self, job_id: str) -> None:
        del self.live[job_id]
        self.started.discard(job_id)
        self.withdrawn.discard(job_id)

    def step(self) -> None:
        """One thing happens."""
        random = self.random
        self.hours += random.choice((0.0, 0.1, 0.4, 3.0))
        what = random.randrange(10)
        if what <= 1 and self.to_submit:
            self.say(self.to_submit.pop())
        elif what == 2:
            job = self.jobs[random.choice(sorted(self.jobs))]
            if job not in self.to_submit:
                self.say(cancelled(job, self.hours))
        elif what == 3:
            self.lose_or_find(random.choice(NAMES))
        elif what == 4 and self.decisions:
            old = random.choice(self.decisions)
            if isinstance(old, JobPlaced) and self.live.get(old.job_id) != old:
                self.repeat(old)
        elif what == 5:
            self.measure(random.choice(NAMES), random.choice((5.0, 12.0, 19.0, 25.0, 80.0, None)))
        elif what == 6:
            source, target = random.sample(NAMES, 2)
            self.link(source, target, random.choice((5.0, 60.0, 600.0, None)))
        elif self.live:
            self.report_on(random.choice(sorted(self.live)))

    def link(self, source: str, target: str, gib_per_h: float | None) -> None:
        self.routes += 1
        self.say(route(source, target, gib_per_h or 0.0, revision=self.routes, hours=self.hours, path=bool(gib_per_h)))

    def measure(self, name: str, office_ms: float | None) -> None:
        self.hours += 0.001
        self.say(measured(name, self.hours, office=office_ms))

    def repeat(self, old: JobPlaced) -> None:
        """What was said of an earlier revision is said again."""
        said = [e for e in self.inputs if getattr(e, "revision", 0) == old.revision and e.key == old.key]
        self.say(*said[-1:])

    def lose_or_find(self, name: str) -> None:
        lost = name not in self.lost and self.random.random() < 0.3
        event = next(event for event in world() if event.key == name)
        if lost:
            self.lost.add(name)
        else:
            # found again only after the loss was decided upon, as a fence would have it
            if name in self.lost:
                self.decide()
            self.lost.discard(name)
        self.hours += 0.001
        self.say(site(name, *event.nodes, hours=self.hours, lost=lost))

    def report_on(self, job_id: str) -> None:
        placed = self.live[job_id]
        if placed.site in self.lost:
            return
        if job_id not in self.started and job_id not in self.withdrawn and self.random.random() < 0.6:
            self.started.add(job_id)
            self.say(report(placed, "started", self.hours))
            return
        status = "stopped" if job_id in self.withdrawn else self.random.choice(("succeeded", "failed", "stopped"))
        reason = self.random.choice((WorkloadReason.EXIT_CODE, WorkloadReason.NODE_LOST, WorkloadReason.REJECTED))
        self.say(report(placed, status, self.hours, reason=reason if status == "failed" else WorkloadReason.RELEASED))
        self.end(job_id)

    def settle(self) -> None:
        """Everything that may run runs to its end."""
        for name in NAMES:
            self.hours += 1
            self.decide()
            self.lost.discard(name)
            event = next(event for event in world() if event.key == name)
            self.say(site(name, *event.nodes, hours=self.hours))
            self.say(measured(name, self.hours + 0.001, lasts=100.0, office=5.0))
            for target in NAMES:
                self.link(name, target, 600.0)
        self.say(*self.to_submit)
        self.to_submit.clear()
        for _ in range(20):
            self.hours += 0.1
            self.decide()
            for job_id in sorted(self.live):
                status = "stopped" if job_id in self.withdrawn else "succeeded"
                self.say(report(self.live[job_id], status, self.hours))
                self.end(job_id)


def by_key(events: list[Event], random: Random) -> list[Event]:
    """Another order that keeps, as the log does, the order of each key of a topic."""
    queues: dict[tuple[str, str], list[Event]] = {}
    for event in events:
        queues.setdefault((event.TOPIC, event.key), []).append(event)
    mixed = []
    while queues:
        name = random.choice(sorted(queues))
        mixed.append(queues[name].pop(0))
        if not queues[name]:
            del queues[name]
    return mixed


def compacted(events: list[Event]) -> list[Event]:
    """What compaction may leave of it: the last record of each key."""
    last = {(event.TOPIC, event.key): index for index, event in enumerate(events)}
    return [event for index, event in enumerate(events) if last[event.TOPIC, event.key] == index]
