"""When the price of a site is above the bound of its owner: which of its work the CMO is asked to move or suspend.

The simple algorithm: of the published prices take the first run of hours above the bound (a single hour below it between two above is
bridged: stopping and going on costs more than it saves). Say so as soon as it is known, so that nothing is planned into these hours; when
they begin, name what runs and is worth stopping, the least valuable first; say it again when the hours change, and when they are
taken back. Hours without a published price are never guessed.

**Worth stopping** is work for which the owner saves more than is lost, both from now to the end of the window or of the work, if that is sooner:

    saved   power × ∫ (price − bound)⁺ dt
    lost    power × work that is done again × bound  +  the owner of the job's own weight of delay × the wait

and of which more is left than is lost: what is about to end is let end. Work that may be neither suspended nor preempted is not named.
**Value** is priority, then the job's own weight of delay, then the work that would be done again, so that what is suspendable goes first, and of
equals the largest, so that few are disturbed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import inf
from typing import TYPE_CHECKING

from services.drm.model import IMMINENT, RESTART_S
from solyx.energy import HOUR_S, HourlySeries
from solyx.events import PowerModel, ReliefJob, ReliefReason, ReliefRequested

if TYPE_CHECKING:
    from collections.abc import Iterable

    from services.drm.model import Holding
    from solyx.energy import HourlyCurve
    from solyx.events import EnergySeriesPublished, SiteObserved

BRIDGED_H = 1
"""So many hours below the bound between hours above it are not worth going on for."""
NAMED_JOBS = 4000
"""In one request, so that it stays below a record's largest size. The most valuable of a larger site stay."""
_KEPT_H = 2  # hours that are over, of which the price is still known
_TICK = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Window:
    """Hours above the bound, since the Unix epoch."""

    first: int
    end: int
    highest: float  # EUR/MWh


class PriceRelief:
    """What one site asks for, and what it has asked for."""

    def __init__(self, site: str) -> None:
        self._site = site
        self._bound: float | None = None
        self._power = PowerModel()
        self._observed_at: datetime | None = None
        self._prices = HourlySeries()
        self._asked: ReliefRequested | None = None  # the latest
        self._look_at_s = inf

    # Facts -----------------------------------------------------------------------------------------------------------

    def observe(self, event: SiteObserved) -> None:
        """A newer inventory: the bound and the power model."""
        if self._observed_at is not None and event.observed_at < self._observed_at:
            return
        self._observed_at, self._power = event.observed_at, event.power
        if event.price_bound_eur_per_mwh != self._bound:
            self._bound = event.price_bound_eur_per_mwh
            self._look_at_s = -inf

    def learn(self, event: EnergySeriesPublished) -> None:
        """Published prices."""
        self._prices.add(event.start, event.step_s, event.values)
        self._look_at_s = -inf

    def recall(self, event: ReliefRequested) -> None:
        """An own request, read back."""
        if self._asked is None or event.requested_at > self._asked.requested_at:
            self._asked = event
            self._look_at_s = -inf

    # What is asked for -----------------------------------------------------------------------------------------------

    def is_due(self, now_s: float) -> bool:
        """Whether something may have to be asked for."""
        return self._look_at_s <= now_s

    def ask(self, holdings: Iterable[Holding], now: datetime) -> ReliefRequested | None:
        """What has to be asked for now; None: nothing, or it was asked for before."""
        now_s, asked = now.timestamp(), self._asked
        open_since = asked.start if asked is not None and _is_open(asked, now) else None
        window = self._window(now_s, open_since)
        self._look_at_s = inf if window is None else window.first * HOUR_S
        if window is not None and window.first * HOUR_S <= now_s:
            self._look_at_s = window.end * HOUR_S
        request = self._request(window, holdings, now)
        if request is not None:
            self._asked = request
        return request

    def _window(self, now_s: float, open_since: datetime | None) -> Window | None:
        """The hours above the bound that are under way, or else the next ones; None: none that is published."""
        hour, bound = int(now_s // HOUR_S), self._bound
        first = hour if open_since is None else int(open_since.timestamp() // HOUR_S)
        self._prices.forget_before(min(hour, first) - _KEPT_H)
        curve = None if bound is None else self._prices.curve()
        if bound is None or curve is None:
            return None
        found: Window | None = None
        for at in range(max(first, curve.start_hour), curve.end_hour):
            if curve.held[at - curve.start_hour]:
                if found is not None and found.end > hour:
                    break
                found = None  # what is not published bridges nothing
                continue
            price = float(curve.values[at - curve.start_hour])
            if price <= bound:
                continue
            if found is not None and at - found.end <= BRIDGED_H:
                found = Window(found.first, at + 1, max(found.highest, price))
            elif found is not None and found.end > hour:
                break
            else:
                found = Window(at, at + 1, price)
        return found if found is not None and found.end > hour else None

    def _request(self, window: Window | None, holdings: Iterable[Holding], now: datetime) -> ReliefRequested | None:
        asked, bound = self._asked, self._bound
        requested_at = now if asked is None else max(now, asked.requested_at + _TICK)
        if window is None or bound is None:
            if asked is None or asked.end <= now or asked.reason is ReliefReason.LIFTED:
                return None
            return ReliefRequested(
                site=self._site,
                start=min(asked.start, now),
                end=now,
                reason=ReliefReason.LIFTED,
                price_bound_eur_per_mwh=asked.price_bound_eur_per_mwh if bound is None else bound,
                price_eur_per_mwh=asked.price_eur_per_mwh,
                detail="no published hour is above the bound any more"
                if bound is not None
                else "there is no bound any more",
                requested_at=requested_at,
            )
        start, end = _time(window.first), _time(window.end)
        reason = ReliefReason.PRICE_BOUND if start <= now else ReliefReason.ANNOUNCED
        known = None if asked is None else (asked.start, asked.end, asked.price_bound_eur_per_mwh, asked.reason)
        if known == (start, end, bound, reason):
            return None
        named = self._worth_stopping(holdings, bound, end.timestamp(), now.timestamp()) if start <= now else []
        return ReliefRequested(
            site=self._site,
            start=start,
            end=end,
            reason=reason,
            price_bound_eur_per_mwh=bound,
            price_eur_per_mwh=window.highest,
            jobs=tuple(named[:NAMED_JOBS]),
            detail=_words(window, bound),
            requested_at=requested_at,
        )

    def _worth_stopping(
        self, holdings: Iterable[Holding], bound: float, until_s: float, now_s: float
    ) -> list[ReliefJob]:
        """What runs and is worth stopping, the least valuable first."""
        curve = self._prices.curve()
        assert curve is not None
        found: list[tuple[tuple[int, float, float, float, str], ReliefJob]] = []
        for holding in holdings:
            if holding.end_s == IMMINENT or not (holding.suspendable or holding.preemptible):
                continue
            left_s, done_s = expected_s(holding, now_s)
            lost_s = RESTART_S if holding.suspendable else done_s
            if left_s <= lost_s:
                continue
            power_w = self._power_w(holding)
            over = _over(curve, bound, now_s, min(until_s, now_s + left_s))
            delay = holding.delay_eur_per_h * (until_s - now_s) / HOUR_S
            saves_eur = power_w / 1e6 * (over - lost_s / HOUR_S * max(0.0, bound)) - delay
            if saves_eur <= 0.0:
                continue
            value = (holding.priority, holding.delay_eur_per_h, lost_s, -power_w, holding.job_id)
            job = ReliefJob(job_id=holding.job_id, revision=holding.revision, power_w=power_w, saves_eur=saves_eur)
            found.append((value, job))
        return [job for _, job in sorted(found, key=lambda one: one[0])]

    def _power_w(self, holding: Holding) -> float:
        demand = holding.demand
        return self._power.dynamic_w(cores=demand.total_cpu_milli / 1000.0, gpus=demand.total_gpu_milli / 1000.0)


def expected_s(holding: Holding, now_s: float) -> tuple[float, float]:
    """What a run has left, and what it has done. One that outlasts its estimate is taken to need as long again as it is late."""
    left_s = holding.end_s - now_s
    done_s = max(0.0, holding.duration_s - left_s)
    return (left_s if left_s > 0.0 else -left_s), done_s


def _is_open(asked: ReliefRequested, now: datetime) -> bool:
    return asked.reason is not ReliefReason.LIFTED and asked.start <= now < asked.end


def _over(curve: HourlyCurve, bound: float, since_s: float, until_s: float) -> float:
    """∫ (price − bound)⁺ dt, EUR/MWh × h."""
    total = 0.0
    for hour in range(int(since_s // HOUR_S), int(-(-until_s // HOUR_S))):
        index = hour - curve.start_hour
        if not 0 <= index < len(curve.values):
            continue
        span_s = min(until_s, (hour + 1) * HOUR_S) - max(since_s, hour * HOUR_S)
        total += max(0.0, float(curve.values[index]) - bound) * max(0.0, span_s) / HOUR_S
    return total


def _words(window: Window, bound: float) -> str:
    until = _time(window.end).isoformat(timespec="minutes")
    return f"up to {window.highest:.2f} EUR/MWh until {until}, above the bound of {bound:.2f}"


def _time(hour: int) -> datetime:
    return datetime.fromtimestamp(hour * HOUR_S, UTC)
