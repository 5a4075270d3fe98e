"""Whatever happens to actuators, nodes and objects: no job runs twice at a time, and each revision ends once and leaves nothing."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from devstack.work import wrong_work
from services.actuator.model import Command
from services.actuator.simulated.course import NODE_LOSS_DETECTED_S, Chance
from services.actuator.simulated.run_log import doubled, run_logs
from solyx.clock import ManualClock
from solyx.events import AllocationReleased, Event, JobAllocated, ReleaseReason, WorkloadReported
from tests.unit.actuator.actuator_cases import START, Actuator, allocated, released

JOBS = st.sampled_from(["a", "b", "c"])
SITES = st.sampled_from(["paris", "oslo"])
NODES = st.sampled_from(["n1", "n2"])
DURATIONS = st.sampled_from([1.0, 10.0, 100.0])
CHECKPOINTS_S = st.sampled_from([0.0, 0.5, 20.0])
GRACES_S = st.sampled_from([0.0, 5.0, 30.0])
ACTUATORS = st.integers(0, 1)
INTERLEAVINGS = st.lists(st.booleans(), max_size=12)


class Actuation(RuleBasedStateMachine):
    """Two actuators on the same clusters and log. One leads; what the other decides is never committed, but it still acts."""

    @initialize(failure_rate=st.sampled_from([0.0, 0.5]))
    def begin(self, failure_rate: float) -> None:
        self.state_dir = Path(tempfile.mkdtemp())
        self.clock = ManualClock(START)
        self.log: list[Event] = []
        self.reports: list[WorkloadReported] = []
        chance = Chance(failure_rate=failure_rate)
        self.actuators = [Actuator(self.state_dir, self.clock, self.log, self.reports, chance=chance) for _ in range(2)]
        self.leader = 0
        self.under_way: list[list[tuple[str, Command]]] = [[], []]
        self.sites: dict[str, str] = {}  # where each job's latest revision is
        self.revisions: Counter[str] = Counter()
        self.open: dict[tuple[str, int], JobAllocated | None] = {}  # not released
        self.superseded: set[tuple[str, int]] = set()
        self.work_s: dict[str, float] = {}  # the whole work of each job

    # ------------------------------------------------------------------------------------------------ what is decided

    def _ended(self, job: str, revision: int) -> str | None:
        for report in self.reports:
            if (report.job_id, report.revision) == (job, revision) and report.status != "started":
                return report.status
        return None

    def _over(self, job: str) -> bool:
        """Whether the job may be placed anew."""
        return self.revisions[job] == 0 or self._ended(job, self.revisions[job]) is not None

    def _next(self, job: str, site: str) -> int:
        self.revisions[job] += 1
        self.sites[job] = site
        return self.revisions[job]

    def _kept_s(self, job: str) -> float:
        """What the job's last run kept; a run that never started leaves what there was."""
        ran = [r for r in self.reports if r.job_id == job and r.status != "started" and r.started_at is not None]
        return max(ran, key=lambda report: report.revision).progress_s if ran else 0.0

    @rule(job=JOBS, site=SITES, node=NODES, duration_s=DURATIONS, checkpoint_s=CHECKPOINTS_S)
    def allocate(self, job: str, site: str, node: str, duration_s: float, checkpoint_s: float) -> None:
        if self._over(job):
            event = allocated(
                job,
                self._next(job, site),
                site=site,
                node=node,
                duration_s=self.work_s.setdefault(job, duration_s),
                suspendable=job != "a",
                progress_s=self._kept_s(job),
                checkpoint_s=checkpoint_s,
            )
            self.log.append(event)
            self.open[job, event.revision] = event

    @rule(job=JOBS, node=NODES)
    def supersede(self, job: str, node: str) -> None:
        """Nobody should, but a higher revision may come to the same site before the lower one ended."""
        if self.revisions[job]:
            self.superseded.add((job, self.revisions[job]))
            self.open.pop((job, self.revisions[job]), None)
            event = allocated(job, self._next(job, self.sites[job]), site=self.sites[job], node=node)
            self.log.append(event)
            self.open[job, event.revision] = event

    @rule(job=JOBS, site=SITES)
    def withdraw_what_was_never_allocated(self, job: str, site: str) -> None:
        if self._over(job):
            self.log.append(released(job, self._next(job, site), site=site))

    @rule(
        job=JOBS,
        reason=st.sampled_from([ReleaseReason.WITHDRAWN, ReleaseReason.PREEMPTED, ReleaseReason.DRAINED]),
        grace_s=GRACES_S,
    )
    def release(self, job: str, reason: ReleaseReason, grace_s: float) -> None:
        self._release(job, self.revisions[job], reason, grace_s)

    @rule(job=JOBS)
    def release_what_ended(self, job: str) -> None:
        match self._ended(job, self.revisions[job]):
            case "succeeded":
                self._release(job, self.revisions[job], ReleaseReason.FINISHED)
            case "failed":
                self._release(job, self.revisions[job], ReleaseReason.FAILED)
            case _:
                pass

    def _release(self, job: str, revision: int, reason: ReleaseReason, grace_s: float = 0.0) -> None:
        event = self.open.pop((job, revision), None)
        if event is not None:
            self.log.append(released(job, revision, reason, site=event.site, grace_s=grace_s))

    # ---------------------------------------------------------------------------------------------- what actuators do

    @rule(which=ACTUATORS, complete=st.booleans(), publish=st.booleans())
    def work(self, which: int, complete: bool, publish: bool) -> None:
        """Read, look and take commands, which are then under way."""
        actuator = self.actuators[which]
        actuator.read()
        actuator.look(complete=complete)
        if publish:
            self._publish(which)
        for site in list(actuator.core.sites):
            self.under_way[which] += [
                (site, command) for command in actuator.core.commands(site, limit=100, wall_s=0.0)
            ]

    @rule(which=ACTUATORS, known=st.booleans())
    def carry_out(self, which: int, known: bool) -> None:
        """What is under way reaches the clusters, whatever has happened since; the actuator dies or learns the outcomes."""
        actuator = self.actuators[which]
        under_way, self.under_way[which] = self.under_way[which], []
        for site, command in under_way:
            done = actuator.calls(site).carry_out([command])
            actuator.core.observe(done, wall_s=0.0)
        if not known:
            self._restart(which)

    @rule(which=ACTUATORS)
    def publish(self, which: int) -> None:
        self._publish(which)

    def _publish(self, which: int) -> None:
        if which == self.leader:
            self.actuators[which].publish()
        elif self.actuators[which].core.decide(self.clock.now()):
            self._restart(which)  # fenced: its core is dropped

    @rule()
    def settle(self) -> None:
        """With nothing under way, what should run does."""
        leader = self.actuators[self.leader]
        if self.under_way[self.leader]:
            self._restart(self.leader)
        leader.settle()
        for (job, revision), event in self.open.items():
            if event is not None and self._ended(job, revision) is None:
                states = {state.job_id: state for state in leader.cluster(event.site).observe(None).states}
                assert job in states, (job, revision)
                assert states[job].revision == revision

    # ---------------------------------------------------------------------------------------------- what goes wrong

    def _restart(self, which: int, own_first: Sequence[bool] = (), *, compacted: bool = False) -> None:
        self.under_way[which] = []
        self.actuators[which].start(own_first=own_first, compacted=compacted)

    @rule(which=ACTUATORS, own_first=INTERLEAVINGS, compacted=st.booleans())
    def crash(self, which: int, own_first: list[bool], compacted: bool) -> None:
        self._restart(which, own_first, compacted=compacted)

    @rule(own_first=INTERLEAVINGS)
    def take_over(self, own_first: list[bool]) -> None:
        """The other leads now; what the former has just taken may still reach the clusters."""
        self.work(self.leader, complete=False, publish=False)
        self.leader = 1 - self.leader
        self._restart(self.leader, own_first)

    @rule(seconds=st.sampled_from([0.5, 5.0, 60.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(site=SITES, node=NODES, down_s=st.sampled_from([0.0, 30.0]))
    def node_dies(self, site: str, node: str, down_s: float) -> None:
        self.actuators[0].cluster(site).kill_node(node, down_s=down_s)

    @rule(job=JOBS)
    @precondition(lambda self: bool(self.sites))
    def object_is_lost(self, job: str) -> None:
        if job in self.sites:
            self.actuators[0].cluster(self.sites[job]).lose(job)

    # ------------------------------------------------------------------------------------------------------- always

    @invariant()
    def no_job_runs_twice_at_a_time(self) -> None:
        assert doubled(run_logs(self.state_dir)) == []

    @invariant()
    def nothing_runs_that_was_reported_ended(self) -> None:
        running = {(run.job_id, run.revision) for run in run_logs(self.state_dir) if run.ended_at is None}
        assert [key for key in running if self._ended(*key) is not None] == []

    @invariant()
    def each_status_is_told_once_and_one_end_for_each_revision(self) -> None:
        ids = Counter(report.id for report in self.reports)
        assert ids.total() == len(ids), ids
        ends = Counter((report.job_id, report.revision) for report in self.reports if report.status != "started")
        assert ends.total() == len(ends), ends

    @invariant()
    def nothing_started_is_told_after_an_end(self) -> None:
        ended: set[tuple[str, int]] = set()
        for report in self.reports:
            assert (report.job_id, report.revision) not in ended
            if report.status != "started":
                ended.add((report.job_id, report.revision))

    @invariant()
    def the_useful_work_of_a_jobs_runs_adds_up(self) -> None:
        superseded = {job for job, _ in self.superseded}
        runs = {
            (event.job_id, event.revision): event
            for event in self.log
            if isinstance(event, JobAllocated) and event.job_id not in superseded
        }
        reports: defaultdict[tuple[str, int], list[WorkloadReported]] = defaultdict(list)
        for report in self.reports:
            reports[report.job_id, report.revision].append(report)
        assert list(wrong_work(runs, reports, ())) == []

    def teardown(self) -> None:
        """In the end everything is released: every revision has ended, and nothing is left over."""
        if not hasattr(self, "actuators"):
            return
        try:
            leader = self.actuators[self.leader]
            self._restart(self.leader)
            leader.settle()
            for job, revision in list(self.open):
                status = self._ended(job, revision)
                reason = {"succeeded": ReleaseReason.FINISHED, "failed": ReleaseReason.FAILED}.get(
                    status or "", ReleaseReason.WITHDRAWN
                )
                self._release(job, revision, reason)
            for _ in range(3):
                leader.settle()
                self.clock.advance(NODE_LOSS_DETECTED_S)
            self.each_status_is_told_once_and_one_end_for_each_revision()
            self.no_job_runs_twice_at_a_time()
            wanted = {
                (event.job_id, event.revision)
                for event in self.log
                if isinstance(event, JobAllocated | AllocationReleased)
            }
            missing = {key for key in wanted - self.superseded if self._ended(*key) is None}
            assert missing == set()
            for site in ("paris", "oslo"):
                assert leader.cluster(site).observe(None).states == ()
                assert leader.core.jobs(site) == 0
        finally:
            for actuator in self.actuators:
                actuator.close()
            shutil.rmtree(self.state_dir)


Actuation.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestActuation = Actuation.TestCase
