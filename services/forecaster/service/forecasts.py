"""``energy`` and ``features`` in, ``forecasts`` and ``anomalies`` out: the role that the shard runner plays with the forecast core."""

from __future__ import annotations

import queue
from typing import TYPE_CHECKING, cast

from services.forecaster.core import Fit, ForecastCore
from solyx.bus.runner import Core, Role
from solyx.topics import ANOMALIES, ENERGY, FEATURES, FORECASTS, SITE_PARTITIONS

if TYPE_CHECKING:
    from datetime import datetime

    from services.forecaster.model import ForecastPolicy
    from services.forecaster.service.fitting import Fitting

SERVICE = "forecaster"


class FitHooks:
    """Carries fits between the core of one shard and the fitting process."""

    def __init__(self, fitting: Fitting) -> None:
        self._fitting = fitting
        self._done: queue.SimpleQueue[Fit] = queue.SimpleQueue()

    def started(self, core: Core) -> None:
        """Nothing to prepare: the core asks for the fits it misses."""

    def before_decide(self, core: Core, now: datetime) -> None:  # noqa: ARG002 - the protocol's
        """Bring finished fits into the core."""
        while not self._done.empty():
            cast("ForecastCore", core).offer(self._done.get())

    def after_commit(self, core: Core, now: datetime) -> None:  # noqa: ARG002 - the protocol's
        """Hand out the fits that the core wants."""
        for request in cast("ForecastCore", core).take_fit_requests():
            self._fitting.submit(request, self._done.put)

    def stopped(self) -> None:
        """A fit in flight has no effect outside of the core that asked for it."""


def forecasting_role(policy: ForecastPolicy, fitting: Fitting) -> Role:
    """Shard ``s`` forecasts the sites and sources of partition ``s``."""
    return Role(
        service=SERVICE,
        inputs=(ENERGY, FEATURES),
        outputs=(FORECASTS, ANOMALIES),
        shards=SITE_PARTITIONS,
        by="site",
        standby=False,
        make_core=lambda _: ForecastCore(policy),
        hooks=lambda _: FitHooks(fitting),
    )
