"""How long a placement may queue at its site before it is better off at another.

The simple algorithm: buy or rent (Karlin et al., "Competitive snoopy caching", Algorithmica 1988, §2). Nobody knows when a place in a
queue will be free. Who waits until the wait has cost what another site would cost more, and goes there then, pays at most twice the
least. After the stuck time it goes whatever waiting weighs, if that costs little beside the run itself: in a full hour a job is late because
others end late, and what is free next is mostly free at its own site, while another is far from its data. Short jobs pay more for the
movement than for the run, so where sites are full for hours, going where there is room would cost all that planning saves. Nobody knows
that there will ever be room (the site's quotas or nodes may forbid it), so after twelve stuck times, a day by default, it goes whatever it
costs, and before it if it would else miss its deadline or maximum delay.

Times are counted from the start that was planned, so that a recovered core looks when the one before it would have.
"""

from __future__ import annotations

from math import floor
from typing import TYPE_CHECKING

from services.cmo.core.ledger import SLOT_S
from services.cmo.core.limits import limit_of

if TYPE_CHECKING:
    from services.cmo.core.jobs import Job
    from services.cmo.model import Policy
    from solyx.events import JobSpec

_DEAR_SHARE = 0.05  # of what its run costs: so much more another site may cost for each stuck time that it has waited
_AT_LAST = 12.0  # stuck times, a day by default, after which it goes whatever that costs
_AGAIN_SHARE = 0.25  # a stuck placement with no room elsewhere is looked at again after this share of the stuck time


class Patience:
    """With placements that have not started."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    @property
    def stuck_s(self) -> float:
        """How long after its start time a placement that has not started is stuck."""
        return max(self._policy.stuck_s, self._policy.reaction_s)

    def next_look_s(self, job: Job, now_s: float) -> float:
        """When it is looked at next, if it has not started by then."""
        start_s = now_s if job.start_at is None else job.start_at.timestamp()
        waited_s, stuck_s = now_s - start_s, self.stuck_s
        if waited_s >= stuck_s:
            every_s = _AGAIN_SHARE * stuck_s
            return start_s + stuck_s + (floor((waited_s - stuck_s) / every_s) + 1) * every_s
        look_s = self._first_look_s(job)
        while look_s <= waited_s:
            look_s *= 2.0
        return start_s + min(look_s, stuck_s)

    def is_over(self, job: Job, spec: JobSpec, more_eur: float, now_s: float) -> bool:
        """Whether it should go where it could start now for ``more_eur``."""
        if job.start_at is None:
            return True
        waited_s = now_s - job.start_at.timestamp()
        if waited_s < self._first_look_s(job):
            return False
        policy, waited = self._policy, waited_s / self.stuck_s
        waited_eur = policy.delay_of(spec) * waited_s / SLOT_S
        cost_eur = 0.0 if job.cost is None else abs(job.cost.total_eur)
        if waited >= _AT_LAST or (waited >= 1.0 and more_eur <= _DEAR_SHARE * cost_eur * waited):
            return True
        if waited >= 1.0 and now_s <= limit_of(job, spec, 0.0).latest_s < self.next_look_s(job, now_s):
            return True  # it is not to be late for what another place costs
        return waited_eur - max(more_eur, 0.0) > max(policy.worth_eur, policy.worth_share * cost_eur)

    def is_stuck(self, job: Job, now_s: float) -> bool:
        """It has waited as long as anybody should."""
        return job.start_at is None or now_s - job.start_at.timestamp() >= self.stuck_s

    def _first_look_s(self, job: Job) -> float:
        """Later with each placement: where all sites take long to start it, it does not go to and fro."""
        first_s = max(self._policy.patience_s, self._policy.reaction_s)
        return min(first_s * 2.0 ** min(job.revision - 1, 16), self.stuck_s)
