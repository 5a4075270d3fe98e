"""What holds of movements of data whatever the network, the prices and the owners do; judged from the events alone."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise
from random import Random

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from services.cmo.core import CmoCore
from solyx.events import Event, JobPlaced, JobSubmitted, PlacementWithdrawn, RouteDecided, WorkloadReason
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
        self.moves: dict[str, tuple[tuple[str, str], JobPlaced]] = {}  # job → pair and placement: what is promised
        self.withdrawn: set[str] = set()
        self.cmo, self.log = core(), list[Event]()
        for name in NAMES:
            self.tell(site(name))
            self.tell(carbon(name))
        self.reprice()

    def tell(self, event: Event) -> None:
        self.log.append(event)
        self.cmo.fold(event)

    def reprice(self) -> None:
        hour = int(self.hours)
        for name in NAMES:
            self.tell(prices(name, *(self.random.uniform(1, 300) for _ in range(60)), start=hour))

    def relink(self) -> None:
        pair = self.random.choice([("a", "b"), ("a", "c"), ("b", "a"), ("b", "c"), ("elsewhere", "a"), ("c", "a")])
        known = self.routes.get(pair)
        gib_per_h = self.random.choice((0, 8, 60, 400))
        widths = (gib_per_h, self.random.choice((8, 70, 500))) if self.random.random() < 0.7 else (gib_per_h,)
        told = route(
            *pair,
            *widths,
            revision=known.revision + 1 if known else 1,
            hours=self.hours,
            path=bool(gib_per_h),
            via=(self.random.choice("xy"),) if len(widths) > 1 else (),
        )
        self.routes[pair] = told
        self.tell(told)

    def decide(self) -> None:
        for decision in self.cmo.decide(at(self.hours)):
            self.log.append(decision)
            match decision:
                case JobPlaced():
                    self.judge(decision)
                case PlacementWithdrawn():
                    self.withdrawn.add(decision.job_id)
                    self.moves.pop(decision.job_id, None)
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
        self.judge_movement(pair, placed)
        self.moves[job_id] = pair, placed
        self.there[job_id] = placed.site, placed.data_at

    def judge_movement(self, pair: tuple[str, str], placed: JobPlaced) -> None:
        """On each link, what was promised to all that move at a time is free; and it waits for no more than those."""
        assert placed.data_from is not None
        assert placed.data_at is not None
        assert placed.decided_at <= placed.data_from < placed.data_at
        bits, links = _bits(placed), self.links_of(pair)
        sharing = [
            move
            for job_id, (other, move) in self.moves.items()
            if job_id != placed.job_id
            and move.data_at > placed.decided_at
            and links.keys() & self.links_of(other).keys()
        ]
        for link, free_bps in links.items():
            on_it = [move for move in sharing if link in self.links_of(self.moves[move.job_id][0])]
            for moment in {placed.data_from, *(move.data_from for move in on_it)}:
                if placed.data_from <= moment < placed.data_at:
                    moving = sum(_rate_bps(move) for move in on_it if move.data_from <= moment < move.data_at)
                    assert moving + _rate_bps(placed) <= free_bps + len(on_it) + 1, (
                        "links carry more than they have free"
                    )
        takes = timedelta(seconds=bits / min(links.values()))
        free = max([placed.decided_at, *(move.data_at for move in sharing)])
        assert placed.decided_at + takes <= placed.data_at <= free + takes + timedelta(seconds=1.001)

    def arrival(self, cmo: CmoCore) -> tuple[datetime | None, datetime | None] | None:
        """Since when and until when the data of one more job would move from `b` to `a`."""
        cmo.fold(submitted("probe", data=(20, "b"), sites=("a",), hours=self.hours))
        made = [one for one in cmo.decide(at(self.hours)) if isinstance(one, JobPlaced) and one.job_id == "probe"]
        return (made[0].data_from, made[0].data_at) if made else None

    def links_of(self, pair: tuple[str, str]) -> dict[tuple[str, ...], float]:
        """The links of its path, and what each has free by what was told last of it."""
        told = self.routes.get(pair)
        if told is None or not told.path:
            return {}
        if not told.free_bps:
            return {("alone", *pair): told.headroom_bps}
        return {hop: self.free_bps(hop) for hop in pairwise(told.path)}

    def free_bps(self, hop: tuple[str, str]) -> float:
        over = [told for told in self.routes.values() if told.free_bps and hop in list(pairwise(told.path))]
        latest = max(over, key=lambda told: (told.decided_at, told.source, told.target))
        return latest.free_bps[list(pairwise(latest.path)).index(hop)]

    def end(self, job_id: str, status: str) -> None:
        placed = self.live.pop(job_id)
        began = placed.start_at if placed.start_at <= at(self.hours) else None
        ended = report(placed, status, self.hours, reason=WorkloadReason.RELEASED)
        self.tell(msgspec.structs.replace(ended, started_at=began))
        self.withdrawn.discard(job_id)
        self.moves.pop(job_id, None)
        if began is not None:
            self.lies[job_id] = placed.site

    def step(self, to_submit: list[JobSubmitted]) -> None:
        what = self.random.randrange(8)
        self.hours += self.random.choice((0.0, 0.05, 0.3, 1.0))
        if what <= 2 and to_submit:
            self.tell(msgspec.structs.replace(to_submit.pop(), submitted_at=at(self.hours)))
        elif what == 3:
            self.relink()
        elif what == 4:
            self.reprice()
        elif what == 5 and self.live:
            job_id = self.random.choice(sorted(self.live))
            placed = self.live[job_id]
            if self.random.random() < 0.3:
                self.moves.pop(job_id, None)
                self.tell(msgspec.structs.replace(cancelled(placed, self.hours), spec=placed.spec))
            elif job_id not in self.withdrawn and placed.start_at <= at(self.hours):
                started = report(placed, "started", self.hours)
                self.tell(msgspec.structs.replace(started, started_at=placed.start_at))
        for job_id in sorted(self.withdrawn & set(self.live)):
            self.end(job_id, "stopped")


def _bits(placed: JobPlaced) -> float:
    assert placed.spec.data is not None
    return placed.spec.data.size_bytes * 8.0


def _rate_bps(placed: JobPlaced) -> float:
    assert placed.data_from is not None
    assert placed.data_at is not None
    return _bits(placed) / (placed.data_at - placed.data_from).total_seconds()


@MODEST
@given(st.lists(jobs_of, min_size=1, max_size=12), st.randoms(use_true_random=False), st.integers(5, 50))
def test_no_start_before_its_data_is_there_and_no_link_moves_more_than_it_has_free(draws, random, steps):
    network = Network(random)
    to_submit = [submitted(f"job-{index}", **options) for index, options in enumerate(draws)]
    for _ in range(3):
        network.relink()
    for _ in range(steps):
        network.step(to_submit)
        network.decide()
    arrivals = {network.arrival(cmo) for cmo in (core(*network.log), network.cmo)}
    assert len(arrivals) == 1, "a recovered core promises otherwise"
