"""CMO and DRMs together, with work of several priorities at small full sites: every job ends, nowhere twice, and nobody is stopped without end."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.cmo.model import Policy
from services.drm.core import DrmCore
from services.drm.quotas import Cohort, Quota, Quotas
from simulator.knowledge import Moment
from simulator.production import Production
from simulator.workload import Job, Workload
from solyx.energy import cores_of
from tests.unit.cmo.cmo_builders import T0, at, flat, submitted

if TYPE_CHECKING:
    from solyx.events import Event

SITES, CORES = ("a", "b", "c"), 8
QUOTAS = Quotas(
    cohorts={"both": Cohort(tenants={name: Quota(cpu_milli=CORES * 1000) for name in ("t", "u")})},
)
job_of = st.fixed_dictionaries(
    {
        "cores": st.sampled_from([1, 2, 4, 8]),
        "pods": st.sampled_from([1, 1, 1, 2]),
        "runs": st.sampled_from([0.4, 1.0, 3.0, 20.0]),
        "priority": st.integers(0, 3),
        "preemptible": st.sampled_from([True, True, False]),
        "suspendable": st.booleans(),
        "max_delay": st.sampled_from([0, 0, 3, None]),
        "tenant": st.sampled_from(["t", "u"]),
        "arrival": st.sampled_from([0.0, 0.5, 1.0, 1.0, 2.25]),
    }
)


def workload_of(draws) -> Workload:
    jobs = []
    for index, drawn in enumerate(sorted(draws, key=lambda one: one["arrival"])):
        options = {key: value for key, value in drawn.items() if key != "arrival"}
        options["cores"] = min(drawn["cores"], CORES // drawn["pods"])
        spec = submitted(f"job{index:02}", **options).spec
        arrival_s = at(drawn["arrival"]).timestamp()
        jobs.append(
            Job(
                index=index,
                job_id=f"job{index:02}",
                tenant=drawn["tenant"],
                spec=spec,
                arrival_s=arrival_s,
                true_duration_s=spec.duration_estimate_s,
                cores=cores_of(spec),
                gpus=0.0,
                home=0,
                sites=tuple(range(len(SITES))),
                data_gib=0.0,
                limit_s=float("inf"),
                deadline_s=float("inf"),
            )
        )
    return Workload(jobs=jobs, refused=0)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(job_of, min_size=3, max_size=14), st.booleans())
def test_every_job_ends_once_nowhere_twice_and_is_stopped_for_higher_priorities_only(draws, protected):
    """``protected``: all of a site is guaranteed to each tenant, so nobody is stopped for another tenant, whom the CMO may name."""
    workload = workload_of(draws)
    known: list[Event] = flat(*SITES)
    moment = Moment(at=T0, published=tuple(known), issued=())  # pyright: ignore[reportArgumentType]
    production = Production(workload, SITES, Policy(), suspend_overhead_s=60.0)
    if protected:
        production.drm = DrmCore(QUOTAS)
    runs = production.run([moment])
    assert production.refusals == {}
    assert set(runs.done_s) == set(range(len(workload.jobs))), "lost"
    spans: dict[int, list[tuple[float, float]]] = defaultdict(list)
    changes: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for index, where, start_s, end_s in zip(runs.job, runs.site, runs.start_s, runs.end_s, strict=True):
        spans[index].append((start_s, end_s))
        changes[where] += [(start_s, workload.jobs[index].cores), (end_s, -workload.jobs[index].cores)]
    for index, job in enumerate(workload.jobs):
        lives = sorted(spans[index])
        assert all(one[1] <= other[0] for one, other in pairwise(lives)), "two places at once"
        higher = sum(
            other.spec.priority > job.spec.priority and (not protected or other.tenant == job.tenant)
            for other in workload.jobs
        )
        assert len(lives) <= 1 + (higher if job.spec.preemptible else 0)
    for taken in changes.values():
        used = 0.0
        for _, cores in sorted(taken):
            used += cores
            assert used <= CORES + 1e-9
