"""Keys, tenants and allowances, remembered for moments so that a request does not cost a query each."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from services.gateway.api.problem import ApiProblem
from solyx.clock import monotonic_s
from solyx.security import digest

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.gateway.store.tenants import TenantStore
    from solyx.security import Principal

MOST_REMEMBERED = 10_000
"""Bound of each memory: somebody who tries keys fills nothing."""
STREAM_RETRY_S = 10
"""A stream lasts until its reader leaves."""


class KeyRing:
    """API keys, each remembered for ``ttl_s`` by its digest; unknown ones too."""

    def __init__(self, store: TenantStore, ttl_s: float) -> None:
        self._store, self._ttl_s = store, ttl_s
        self._known: dict[bytes, tuple[float, Principal | None]] = {}

    async def principal(self, key: str) -> Principal | None:
        """Whose key it is."""
        fingerprint, now = digest(key), monotonic_s()
        known = self._known.get(fingerprint)
        if known is not None and known[0] > now:
            return known[1]
        principal = await self._store.principal(key)
        if len(self._known) >= MOST_REMEMBERED:
            self._known.clear()
        self._known[fingerprint] = (now + self._ttl_s, principal)
        return principal

    def forget(self) -> None:
        """A key was revoked here: from now on every key is looked up anew."""
        self._known.clear()


class Directory:
    """Home sites of the tenants."""

    def __init__(self, store: TenantStore, ttl_s: float) -> None:
        self._store, self._ttl_s = store, ttl_s
        self._homes: dict[str, str | None] = {}
        self._expires = 0.0

    async def homes(self) -> dict[str, str | None]:
        """Tenant → home site, at most ``ttl_s`` old."""
        if self._expires <= monotonic_s():
            self._homes = {tenant.name: tenant.home_site for tenant in await self._store.all()}
            self._expires = monotonic_s() + self._ttl_s
        return self._homes

    def forget(self) -> None:
        """A tenant was added here."""
        self._expires = 0.0


class TokenBucket:
    """``rate`` tokens a second, at most ``burst`` at a time (Turner 1986, "leaky bucket as a meter")."""

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate, self._burst = rate, burst
        self._tokens, self._at = burst, now

    def take(self, count: float, now: float) -> float:
        """Take ``count`` and return 0, or take nothing and return the seconds until they are there."""
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if count <= self._tokens:
            self._tokens -= count
            return 0.0
        return (count - self._tokens) / self._rate


class RateLimit:
    """Requests and jobs of each key."""

    def __init__(
        self,
        *,
        requests_per_s: float,
        jobs_per_s: float,
        jobs_burst: float,
        now: Callable[[], float] = monotonic_s,
    ) -> None:
        self._requests = (requests_per_s, max(1.0, requests_per_s * 2))
        self._jobs = (jobs_per_s, jobs_burst)
        self._now = now
        self._buckets: dict[tuple[str, str], TokenBucket] = {}

    def take_request(self, key_id: str) -> None:
        """Raises 429 when the key's requests are used up."""
        self._take("requests", key_id, 1, self._requests)

    def take_jobs(self, key_id: str, count: int) -> None:
        """Raises 429 when the key's jobs are used up, 413 when it never has so many at a time."""
        self._take("jobs", key_id, count, self._jobs)

    def _take(self, what: str, key_id: str, count: int, allowance: tuple[float, float]) -> None:
        rate, burst = allowance
        if count > burst:  # no wait would help
            raise ApiProblem("too-large", f"this key may send {burst:g} {what} at a time; send several requests")
        now = self._now()
        bucket = self._buckets.get((what, key_id))
        if bucket is None:
            if len(self._buckets) >= MOST_REMEMBERED:
                self._buckets.clear()
            bucket = self._buckets[what, key_id] = TokenBucket(rate, burst, now)
        wait_s = bucket.take(count, now)
        if wait_s > 0:
            detail = f"this key may send {rate:g} {what} a second"
            raise ApiProblem("too-many-requests", detail, headers={"Retry-After": str(int(wait_s) + 1)})


class StreamLimit:
    """Event streams that each key has open. Each costs queries for as long as it lasts, so requests a second do not bound them."""

    def __init__(self, streams_per_key: int) -> None:
        self._most = streams_per_key
        self._open: Counter[str] = Counter()

    def take(self, key_id: str) -> None:
        """One more, until ``give_back``; raises 429 when the key has as many as it may."""
        if self._open[key_id] >= self._most:
            detail = (
                f"this key has {self._most} event streams open, the most that it may; close one, or use another key"
            )
            raise ApiProblem("too-many-requests", detail, headers={"Retry-After": str(STREAM_RETRY_S)})
        self._open[key_id] += 1

    def give_back(self, key_id: str) -> None:
        """One of them has ended."""
        self._open[key_id] -= 1
        if not self._open[key_id]:
            del self._open[key_id]

    def __len__(self) -> int:
        """Keys that have any."""
        return len(self._open)
