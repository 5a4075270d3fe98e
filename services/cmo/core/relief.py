"""How sites answer the grid: work makes room before a window begins, nothing starts above the cap, and what was delivered is told.

From ``lead`` before a window (the time that other services need, and the longest grace of what runs there) until its end the core
looks, about once a second of the world, at what runs and is about to start at the site; whatever is above the cap is shed (`shedding.py`). A job that makes room is taken
back and placed anew by the rules for all placements: elsewhere, if that costs less than to wait, or here after the window. When the window
is over the work comes back over ``RAMP_S``, the most valuable first, so that the grid does not see it return at once.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from heapq import heappop, heappush
from math import inf
from typing import TYPE_CHECKING, Protocol

from services.cmo.core.answers import TO_CAP_S, TOLERANCE_W, Answer
from services.cmo.core.caps import joined
from services.cmo.core.expected import then_of
from services.cmo.core.limits import done_s, is_protected, slack_s
from services.cmo.core.shedding import Load, Shed, Step, shed
from services.cmo.model import Choice
from solyx.energy import dynamic_power_w
from solyx.events import DemandResponseReported

if TYPE_CHECKING:
    from services.cmo.core.expected import ExpectedUse
    from services.cmo.core.jobs import Job
    from services.cmo.core.ledger import Ledger
    from services.cmo.core.placing import Placer
    from services.cmo.core.sites import Site, Sites
    from services.cmo.model import Policy
    from solyx.events import GridEventAnnounced, JobSpec

RAMP_S = 300.0
"""Over which suspended work comes back."""
REPORT_EVERY_S = 300.0
DETAIL_EVERY_S = 60.0  # at most: other figures of a window that is short, or that it is not short any more
LOOK_EVERY_S = 60.0  # at a site whose window is to come: the grace of what runs there, and with it the lead, changes
_LOOK_SHARE = 0.1  # of the reaction time: how often a site is looked at in a window
_SOONER = timedelta(minutes=1)


class TakeBack(Protocol):
    """Takes a placement back for the grid's sake; the room at ``instead`` is held meanwhile."""

    def __call__(self, job: Job, spec: JobSpec, instead: Choice | None) -> None: ...


class Relief:
    """The answers to all events that are to come or under way."""

    def __init__(self, policy: Policy, sites: Sites, ledger: Ledger, placer: Placer, use: ExpectedUse) -> None:
        self._policy, self._sites, self._ledger, self._placer, self._use = policy, sites, ledger, placer, use
        self._answers: dict[tuple[str, str], Answer] = {}
        self._told: dict[tuple[str, str], DemandResponseReported] = {}  # by an earlier life, or another replica
        self._over: dict[tuple[str, str], float] = {}  # when the last word on it was told
        self._coming_back: list[tuple[float, str]] = []  # when, job
        self._due_s = inf  # nothing is to be done before, if the sites stay as they are
        self._seen_generation = 0

    def announce(self, event: GridEventAnnounced) -> None:
        """Take over an event, its change or its cancellation."""
        key = (event.site, event.event_id)
        self._due_s = -inf
        answer = self._answers.get(key)
        if answer is not None:
            answer.event = event
        elif event.status == "announced" and event.announced_at.timestamp() > self._over.get(key, -inf):
            self._answers[key] = self._remembered(Answer(event))

    def recall(self, told: DemandResponseReported) -> None:
        """What was told before this life."""
        key = (told.site, told.event_id)
        if told.status in ("ended", "cancelled"):
            over_s = self._over[key] = max(told.reported_at.timestamp(), self._over.get(key, -inf))
            self._told.pop(key, None)
            answer = self._answers.get(key)
            if answer is not None and answer.event.announced_at.timestamp() <= over_s:
                del self._answers[key]
            elif answer is not None:  # announced anew: nothing of what was told before is about it
                self._answers[key] = Answer(answer.event)
            return
        self._told[key] = told
        if key in self._answers:
            self._remembered(self._answers[key])

    def _remembered(self, answer: Answer) -> Answer:
        told = self._told.pop((answer.event.site, answer.event.event_id), None)
        if told is not None:
            answer.status, answer.detail, answer.told = told.status, told.detail, (told.status, told.detail)
            answer.told_s = answer.measured_s = told.reported_at.timestamp()
            answer.baseline_w, answer.planned_w, answer.now_w = told.baseline_w, told.planned_w, told.now_w
            answer.mean_w, answer.peak_w, answer.capped_at = told.mean_w, told.peak_w, told.capped_at
            names = ("suspended", "migrated", "delayed", "stopped")
            answer.before, answer.missed = {one: getattr(told, one) for one in names}, told.protected_deadlines_missed
        return answer

    # Who makes room --------------------------------------------------------------------------------------------------

    def act(self, jobs: dict[str, Job], now: datetime, take_back: TakeBack) -> list[Answer]:
        """Shed what is above the caps; the answers that came to their end, whose caps hold no more.

        Windows that are near or open are looked at again and again: work starts, ends and outlasts its estimate at any time.
        """
        now_s, over = now.timestamp(), []
        if now_s < self._due_s and self._sites.generation == self._seen_generation:
            return []
        self._due_s, self._seen_generation = inf, self._sites.generation
        for key, answer in list(self._answers.items()):
            site = self._sites.by_name.get(answer.event.site)
            if key in self._over and answer.told is None and now_s >= answer.end_s:
                del self._answers[key]  # announced anew for a window that is over: its last word was told
            elif answer.event.status == "cancelled" or now_s >= answer.end_s:
                self._close(answer, jobs, now_s)
                over.append(answer)
                self._over[key] = now_s
                del self._answers[key]
            elif site is None:  # nobody has seen it yet
                self._due_s = min(self._due_s, answer.end_s)
            else:
                self._look_at(answer, site, jobs, now, take_back)
        return over

    def _look_at(self, answer: Answer, site: Site, jobs: dict[str, Job], now: datetime, take_back: TakeBack) -> None:
        now_s = now.timestamp()
        here = [job for job_id in self._use.at_site(site.name) if (job := jobs.get(job_id)) is not None]
        lead_s = self._policy.reaction_s + max((job.spec.grace_period_s for job in here if job.spec), default=0.0)
        begin_s, answer.lead_s = answer.start_s - lead_s, lead_s
        loads = [load for job in here if (load := self._load(answer, job, site, now)) is not None]
        battery_w = self._battery_w(answer, site, now_s)
        plan = shed(loads, answer.event.power_cap_w + battery_w - site.idle_w)
        answer.planned_w = max(0.0, site.idle_w + plan.left_w - battery_w)
        if now_s >= begin_s:
            for job_id, step in plan.steps:
                self._make_room(answer, jobs[job_id], step, site, now, take_back)
        now_w = self._power_w(here, site)
        if now_s < begin_s or answer.baseline_w == 0.0:
            answer.baseline_w = now_w
        if now_s >= answer.start_s:  # its controller gives what is missing
            now_w -= min(battery_w, max(0.0, now_w - answer.event.power_cap_w))
        answer.measure(now_w, now_s)
        self._judge(answer, plan, now_s)
        again_s = (
            min(begin_s, now_s + LOOK_EVERY_S) if now_s < begin_s else now_s + _LOOK_SHARE * self._policy.reaction_s
        )
        self._due_s = min(self._due_s, again_s, answer.end_s)

    def _battery_w(self, answer: Answer, site: Site, now_s: float) -> float:
        """What the battery can give all through the window and those that overlap it, or what is left; never more than at the start."""
        others = (
            one for one in self._answers.values() if one.event.site == site.name and one.event.status == "announced"
        )
        begin_s, end_s = joined((answer.start_s, answer.end_s), ((one.start_s, one.end_s) for one in others))
        if now_s < begin_s or answer.battery_w is None:
            answer.battery_w = site.battery_w(end_s - max(now_s, begin_s))
        elif site.observed.observed_at.timestamp() > begin_s:  # its charge was read since
            left_s = end_s - site.observed.observed_at.timestamp()
            answer.battery_w = min(answer.battery_w, site.battery_w(left_s))
        return answer.battery_w

    def _power_w(self, here: list[Job], site: Site) -> float:
        """What runs takes now, and the idle floor."""
        running = (
            dynamic_power_w(job.spec, site.power) for job in here if job.spec is not None and job.live and job.started
        )
        return site.idle_w + sum(running)

    def _load(self, answer: Answer, job: Job, site: Site, now: datetime) -> Load | None:
        """What a job takes, if it runs or is about to start and was not taken back."""
        spec, now_s = job.spec, now.timestamp()
        if spec is None or not job.live or job.withdrawn >= job.revision:
            return None
        if not job.started and job.start_at is not None:
            start_s = job.start_at.timestamp()
            if start_s > now_s + answer.lead_s or start_s >= answer.end_s:
                return None
        kept_s = done_s(job, spec, now_s, self._policy.restart_s)
        may_wait_s = slack_s(job, spec, self._placer.left_s(job, spec, kept_s), now_s)
        waits = now_s + may_wait_s >= answer.end_s + RAMP_S
        # Once: if it was placed here again, it is cheaper here, and would be placed and taken back all through the window.
        may_move = may_wait_s >= 0.0 and (job.started or job.job_id not in answer.did)
        ran_s = max(0.0, now_s - job.run_began_at.timestamp()) if job.run_began_at is not None else 0.0
        return Load(
            job_id=job.job_id,
            power_w=dynamic_power_w(spec, site.power),
            priority=spec.priority,
            running=job.started,
            suspendable=spec.suspendable,
            preemptible=spec.preemptible,
            keeps_deadline=waits or (may_move and self._placer.room_elsewhere(job, spec, now) is not None),
            slack_s=may_wait_s,
            lost_s=self._policy.restart_s if spec.suspendable else ran_s,
        )

    def _make_room(self, answer: Answer, job: Job, step: Step, site: Site, now: datetime, take_back: TakeBack) -> None:
        spec = job.spec
        assert spec is not None
        self._ledger.release(job.job_id)  # its own hours are no reason why there is no room for it later
        chosen = self._placer.choose(job, spec, now, done_s=done_s(job, spec, now.timestamp(), self._policy.restart_s))
        instead = chosen if isinstance(chosen, Choice) and not chosen.queued else None
        moves = instead is not None and instead.site != site.name
        name = {Step.DELAY: "delayed", Step.STOP: "stopped"}.get(step, "migrated" if moves else "suspended")
        answer.did.setdefault(job.job_id, name)
        if not moves:
            answer.made_room_w[job.job_id] = dynamic_power_w(spec, site.power)
        if spec.deadline is not None and is_protected(spec):
            answer.deadlines_s[job.job_id] = spec.deadline.timestamp()
        take_back(job, spec, instead)

    # What is told ----------------------------------------------------------------------------------------------------

    def _judge(self, answer: Answer, plan: Shed, now_s: float) -> None:
        """Active or short, and why."""
        cap_w, late_s = answer.event.power_cap_w, TO_CAP_S + self._policy.reaction_s
        answer.detail = ""
        if plan.short_w > TOLERANCE_W:
            answer.detail = plan.reason
        elif answer.now_w > cap_w + TOLERANCE_W and now_s >= answer.start_s + late_s:
            answer.detail = "work that was told to stop still runs"
        if now_s >= answer.start_s:
            answer.status = "short" if answer.detail else "active"

    def _close(self, answer: Answer, jobs: dict[str, Job], now_s: float) -> None:
        """Its time is over: what it delivered is final, and what made room comes back."""
        answer.measure(answer.now_w, now_s)
        answer.status = "cancelled" if answer.event.status == "cancelled" else "ended"
        cap_w, peak_w = answer.event.power_cap_w, answer.peak_w
        answer.detail = ""
        if answer.status == "ended" and peak_w is not None and peak_w > cap_w + TOLERANCE_W:
            answer.detail = f"the power was up to {peak_w - cap_w:.0f} W above the cap"
        total_w, back_w = sum(answer.made_room_w.values()), 0.0
        waiting = [job for job_id in answer.made_room_w if (job := jobs.get(job_id)) is not None]
        for job in sorted(waiting, key=lambda job: (-job.spec.priority if job.spec else 0, job.job_id)):
            heappush(self._coming_back, (now_s + RAMP_S * back_w / total_w, job.job_id))
            back_w += answer.made_room_w[job.job_id]

    def come_back(self, jobs: dict[str, Job], now: datetime, take_back: TakeBack) -> None:
        """Jobs that made room and whose turn to come back has come: those that may start earlier than was planned are placed anew."""
        now_s = now.timestamp()
        while self._coming_back and self._coming_back[0][0] <= now_s:
            job = jobs.get(heappop(self._coming_back)[1])
            if job is None or job.spec is None or job.start_at is None or job.started:
                continue
            if not job.live or job.withdrawn >= job.revision or job.cancel_requested:
                continue
            known = self._ledger.committed(job.job_id)
            self._ledger.release(job.job_id)
            choice = self._placer.choose(job, job.spec, now)
            earlier = isinstance(choice, Choice) and not choice.queued and choice.start_at < job.start_at - _SOONER
            if earlier and isinstance(choice, Choice):
                take_back(job, job.spec, choice)
            else:
                stretches, then = ((), ()) if known is None else (known.stretches, then_of(known))
                self._use.write_down(job, job.spec, now_s, stretches, then)

    def in_turn(self, job: Job, spec: JobSpec, choice: Choice, now: datetime) -> Choice:
        """The choice, moved so that nothing starts above a cap, nor all at once when the window is over."""
        now_s = now.timestamp()
        for answer in self._answers.values():
            site = self._sites.by_name.get(choice.site)
            if site is None or answer.event.site != choice.site or answer.event.status == "cancelled":
                continue
            choice = self._under_cap(answer, job, spec, site, choice, now_s)
            start_s = choice.start_at.timestamp()
            if job.job_id in answer.made_room_w and answer.end_s <= start_s < answer.end_s + RAMP_S:
                total_w = sum(answer.made_room_w.values())
                left_s = choice.run_s
                may_wait_s = max(0.0, slack_s(job, spec, left_s, start_s))
                choice = self._placer.moved(
                    job, spec, choice, start_s + min(may_wait_s, RAMP_S * min(1.0, answer.back_w / total_w))
                )
                answer.back_w += answer.made_room_w[job.job_id]
        return choice

    def _under_cap(self, answer: Answer, job: Job, spec: JobSpec, site: Site, choice: Choice, now_s: float) -> Choice:
        """The ledger counts in hours: whether a start fits at this very moment is seen here.

        One that does not waits for the end of the window; protected work whose time limit does not allow that, for as long as others need
        to make room, and they are told in the next decision.
        """
        start_s, lead_s = choice.start_at.timestamp(), answer.lead_s
        if not (choice.queued or start_s <= now_s + lead_s) or not answer.start_s - lead_s <= start_s < answer.end_s:
            return choice
        more_w, cap_w = dynamic_power_w(spec, site.power), answer.event.power_cap_w
        fits = answer.planned_w + more_w <= cap_w
        if not choice.queued and fits:
            answer.planned_w += more_w
            return (
                choice
                if answer.now_w + more_w <= cap_w
                else self._placer.moved(job, spec, choice, max(start_s, now_s + lead_s))
            )
        left_s = choice.run_s
        may_wait = start_s + slack_s(job, spec, left_s, start_s) >= answer.end_s
        # Nobody makes room for what is itself the first to make room: it would be placed and taken back all through the window.
        if may_wait or not (fits or is_protected(spec)):
            return self._placer.moved(job, spec, choice, answer.end_s)
        return self._placer.moved(job, spec, choice, max(start_s, now_s + lead_s))

    def reports(self, jobs: dict[str, Job], over: list[Answer], now: datetime) -> list[DemandResponseReported]:
        """What has changed, and what is told from time to time."""
        now_s = now.timestamp()
        reports: list[DemandResponseReported] = []
        for answer in [*self._answers.values(), *over]:
            if answer.event.site not in self._sites.by_name or (answer.told is None and answer.status == "cancelled"):
                continue
            missed = [one for one, deadline_s in answer.deadlines_s.items() if deadline_s < now_s and one in jobs]
            for job_id in missed:
                del answer.deadlines_s[job_id]
                answer.missed += 1
            changed = _is_news(answer, now_s)
            open_now = answer.start_s <= now_s < answer.end_s
            if changed or (open_now and now_s >= answer.told_s + REPORT_EVERY_S):
                answer.told, answer.told_s = (answer.status, answer.detail), now_s
                reports.append(answer.report(now))
        return reports


def _is_news(answer: Answer, now_s: float) -> bool:
    """Another status is, at once; but with work that comes and goes the figures, and whether it is short, may change at every look."""
    if answer.told is None:
        return True
    before, now = answer.told, (answer.status, answer.detail)
    if before[0] != now[0] and before[0] != "short":
        return True
    return before != now and (now[0] not in ("short", "active") or now_s >= answer.told_s + DETAIL_EVERY_S)
