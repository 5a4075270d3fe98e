"""What holds of movements of data whatever the network, the prices and the owners do; judged from the events alone."""

from __future__ import annotations

from datetime import timedelta
from random import Random

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from solyx.events import JobPlaced, JobSubmitted, PlacementWithdrawn, RouteDecided, WorkloadReason
from tests.unit.cmo.cmo_builders import (
    at,
    cancelled,
    carbon,
    core,
    prices,
    report,
    route,
    site,
    submitted,
)

NAMES = ("a", "b", "c")
MODEST = settings(max_examples=60, deadline=None)

jobs_of = st.builds(
    lambda **options: options,
    cores=st.sampled_from([1, 4, 8]),
    runs=st.sampled_from([0.5, 3.0, 12.0]),
    data=st.sampled_from([None, (5, "a"), (40, "a"), (40, "b"), (20, "elsewhere")]),
    max_delay=st.sampled_from([None, 0, 2]),
    suspendable=st.booleans(),
    priority=st.integers(0, 1),
    preemptible=st.booleans(),
)


class Network:
    """A world whose links and prices change, and what is to be true of every placement in it."""

    def __init__(self, random: Random) -> None:
        self.random, self.hours = random, 0.0
        self.routes: dict[tuple[str, str], RouteDecided] = {}
        self.live: dict[str, JobPlaced] = {}
        self.lies: dict[str, str] = {}  # where each job's data lies
        self.there: dict[str, tuple[str, object]] = {}  # the site to which the last placement moved it, and until when
        self.taken: dict[tuple[str, str], dict[str, object]] = {}  # pair → job → until when it is promised to it
        self.withdrawn: set[str] = set()
        self.cmo = core(*(event for name in NAMES for event in (site(name), carbon(name))))
        self.reprice()

    def reprice(self) -> None:
        hour = int(self.hours)
        for name in NAMES:
            self.cmo.fold(prices(name, *(self.random.uniform(1, 300) for _ in range(60)), start=hour))

    def relink(self) -> None:
        pair = self.random.choice([("a", "b"), ("a", "c"), ("b", "a"), ("b", "c"), ("elsewhere", "a"), ("c", "a")])
        known = self.routes.get(pair)
        gib_per_h = self.random.choice((0, 8, 60, 400))
        told = route(*pair, gib_per_h, revision=known.revision + 1 if known else 1, path=bool(gib_per_h))
        self.routes[pair] = told
        self.cmo.fold(told)

    def decide(self) -> None:
        for decision in self.cmo.decide(at(self.hours)):
            match decision:
                case JobPlaced():
                    self.judge(decision)
                case PlacementWithdrawn():
                    self.withdrawn.add(decision.job_id)
                    for pair in self.taken.values():
                        pair.pop(decision.job_id, None)
                case _:
                    pass

    def judge(self, placed: JobPlaced) -> None:
        job_id, data, now = placed.job_id, placed.spec.data, placed.decided_at
        self.live[job_id] = placed
        pair = (self.lies.get(job_id, data.site if data else ""), placed.site)
        told = self.routes.get(pair)
        if data is None or told is None or pair[0] == pair[1]:
            assert placed.data_at is None
            return
        assert told.path, "its data was sent where no path leads"
        before = self.there.get(job_id)
        if placed.data_at is None:  # the placement before it had moved the data there
            assert before is not None
            assert before[0] == placed.site
            assert before[1] <= now
            return
        assert placed.start_at >= placed.data_at
        takes = timedelta(seconds=data.size_bytes * 8 / told.headroom_bps)
        promised = self.taken.setdefault(pair, {})
        free = max([now, *(until for until in promised.values())])
        assert placed.data_at >= free + takes, "two movements share the pipe, or the data is too early"
        assert placed.data_at <= free + takes + timedelta(seconds=1), "it waits for nothing"
        promised[job_id] = placed.data_at
        self.there[job_id] = placed.site, placed.data_at

    def end(self, job_id: str, status: str) -> None:
        placed = self.live.pop(job_id)
        began = placed.start_at if placed.start_at <= at(self.hours) else None
        ended = report(placed, status, self.hours, reason=WorkloadReason.RELEASED)
        self.cmo.fold(msgspec.structs.replace(ended, started_at=began))
        self.withdrawn.discard(job_id)
        for pair in self.taken.values():
            pair.pop(job_id, None)
        if began is not None:
            self.lies[job_id] = placed.site

    def step(self, to_submit: list[JobSubmitted]) -> None:
        what = self.random.randrange(8)
        self.hours += self.random.choice((0.0, 0.05, 0.3, 1.0))
        if what <= 2 and to_submit:
            self.cmo.fold(msgspec.structs.replace(to_submit.pop(), submitted_at=at(self.hours)))
        elif what == 3:
            self.relink()
        elif what == 4:
            self.reprice()
        elif what == 5 and self.live:
            job_id = self.random.choice(sorted(self.live))
            placed = self.live[job_id]
            if self.random.random() < 0.3:
                for pair in self.taken.values():
                    pair.pop(job_id, None)
                self.cmo.fold(msgspec.structs.replace(cancelled(placed, self.hours), spec=placed.spec))
            elif job_id not in self.withdrawn and placed.start_at <= at(self.hours):
                started = report(placed, "started", self.hours)
                self.cmo.fold(msgspec.structs.replace(started, started_at=placed.start_at))
        for job_id in sorted(self.withdrawn & set(self.live)):
            self.end(job_id, "stopped")


@MODEST
@given(st.lists(jobs_of, min_size=1, max_size=12), st.randoms(use_true_random=False), st.integers(5, 50))
def test_no_start_before_its_data_is_there_and_no_pair_moves_more_than_its_headroom(draws, random, steps):
    network = Network(random)
    to_submit = [submitted(f"job-{index}", **options) for index, options in enumerate(draws)]
    for _ in range(3):
        network.relink()
    for _ in range(steps):
        network.step(to_submit)
        network.decide()
