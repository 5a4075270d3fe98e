"""The typed Python client of the REST API, sync and async.

>>> from solyx.client import Client
>>> with Client("http://127.0.0.1:8080", key="sk_…") as solyx:  # doctest: +SKIP
...     job = solyx.submit({"image": "busybox", "duration_estimate": "5m", "resources": {"cpu": 1}})
...     print(solyx.job(job.id).state)
"""

from solyx.client.aio import AsyncClient
from solyx.client.calls import ApiError, Unreachable
from solyx.client.model import (
    BudgetStatus,
    CancelledJob,
    Energy,
    FieldProblem,
    Grid,
    GridEntry,
    HistoryEntry,
    Job,
    JobPage,
    JobSummary,
    PriceRelief,
    Route,
    Run,
    ServerEvent,
    SubmittedBatch,
    SubmittedJob,
    TenantBudgets,
    UsageReport,
    UsageRow,
)
from solyx.client.sync import Client

__all__ = [
    "ApiError",
    "AsyncClient",
    "BudgetStatus",
    "CancelledJob",
    "Client",
    "Energy",
    "FieldProblem",
    "Grid",
    "GridEntry",
    "HistoryEntry",
    "Job",
    "JobPage",
    "JobSummary",
    "PriceRelief",
    "Route",
    "Run",
    "ServerEvent",
    "SubmittedBatch",
    "SubmittedJob",
    "TenantBudgets",
    "Unreachable",
    "UsageReport",
    "UsageRow",
]
