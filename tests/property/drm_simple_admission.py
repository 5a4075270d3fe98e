"""The simple algorithm that the fast admission of the DRM is equal to."""

import math

from services.drm.core.capacity import Capacity
from services.drm.core.consolidation import choose_moves
from services.drm.core.models import settle
from services.drm.core.reservation import reserve
from services.drm.core.victims import choose_victims
from services.drm.core.waits import QuotaWaits
from solyx.events import AllocationReason, DeferralReason


def turn_of(accounts, waiting):
    """When it is this job's turn, as things are; the lowest is first."""
    return waiting.lane.borrows(accounts), waiting.order[0], accounts.share(waiting.account), *waiting.order[1:]


class SimpleAdmission:
    """``services.drm.core.admission`` as its docstring states it: one sorted list, nothing remembered."""

    def __init__(self, pool, queue, outcome) -> None:
        self.pool, self.queue, self.outcome = pool, queue, outcome

    def admit(self, now_s: float) -> None:
        reasons = {}
        ahead = True
        while ahead:
            ahead, head, reasons = False, None, {}
            self.queue.know(self.pool.inventory)
            quotas = QuotaWaits(self.pool, self.queue.lanes(), now_s)
            waiting = [job for lane in self.queue.lanes() for _, job in lane.entries if job.alive]
            while waiting:
                job = min(waiting, key=lambda job: turn_of(self.pool.accounts, job))
                waiting.remove(job)
                if obstacle := settle(job, job.lane, quotas, self.pool, lambda j=job, h=head: self.fits(j, h, now_s)):
                    reasons[job] = DeferralReason.QUOTA
                    if obstacle.before is None:
                        for victim in quotas.wait(job)[1]:
                            self.outcome.preempt(victim)
                elif head is not None:
                    spots = self.beside(job, head, now_s)
                    if spots is None:
                        reasons[job] = DeferralReason.NO_CAPACITY
                        continue
                    self.outcome.allocate(job, spots, AllocationReason.BACKFILL)
                    quotas.took(job, spots)
                    head.took(job.demand, spots, until_s=now_s + job.duration_s)
                    ahead = True
                elif spots := self.pool.free.place(job.demand):
                    reason = AllocationReason.BACKFILL if quotas.goes_ahead(job) else AllocationReason.FITS
                    self.outcome.allocate(job, spots, reason)
                    quotas.took(job, spots)
                else:
                    head, reasons[job] = self.become_head(job, now_s)
        for job, reason in reasons.items():
            self.outcome.defer(job, reason, "")

    def beside(self, job, head, now_s):
        short = job.duration_s <= head.at_s - now_s
        return (self.pool.free if short else self.pool.free.limited_by(head.extra)).place(job.demand)

    def fits(self, job, head, now_s):
        return (self.pool.free.place(job.demand) if head is None else self.beside(job, head, now_s)) is not None

    def become_head(self, job, now_s):
        inventory, is_open = self.pool.inventory, self.pool.free.open
        if Capacity.empty(inventory, is_open).place(job.demand) is None:
            anywhere = Capacity.empty(inventory, is_open | True).count(job.demand)
            return None, DeferralReason.NO_CAPACITY if anywhere else DeferralReason.NO_NODE_FITS
        found = reserve(self.pool, job)
        moved = choose_moves(self.pool, job, math.inf if found is None else found.at_s, now_s)
        for holding in moved:
            self.outcome.move(holding)
        for victim in [] if moved else choose_victims(self.pool, job, now_s):
            self.outcome.preempt(victim)
        return reserve(self.pool, job), DeferralReason.NO_CAPACITY
