"""What a gateway answers about one job, and a job file: what the command line's tests share."""

from collections.abc import Callable
from typing import Any

AT = "2026-01-02T03:04:05Z"
JOB_FILE = """\
image: registry.example/sum:1
resources: {cpu: 1}
duration_estimate: 5m
"""
SUMMARY = {
    "id": "j1",
    "tenant": "lab",
    "name": "sum",
    "state": "running",
    "reason": "applied",
    "site": "north",
    "revision": 1,
    "submitted_at": AT,
    "state_at": AT,
    "labels": {},
}
PLACED = {
    "seq": 5,
    "type": "io.solyx.job.placed.v1",
    "time": AT,
    "reason": "least_cost",
    "site": "north",
    "revision": 1,
    "figures": {"cost": {"energy_eur": 0.0123456, "carbon_kg": 1.5}, "alternative": {"site": "south"}, "bound_by": ""},
}
SPEC = {
    "name": "sum",
    "image": "registry.example/sum:1",
    "resources": {"cpu_milli": 1500, "memory_bytes": 2**31, "devices": [{"count": 2, "models": ["A100", "H100"]}]},
    "duration_estimate_s": 5400,
    "parallelism": 3,
}
DETAIL = SUMMARY | {"spec": SPEC, "trace_id": "ab" * 16, "history": [PLACED]}
EVENTS = b'id: 7\nevent: io.solyx.job.placed.v1\ndata: {"time": "T", "subject": "j1", "site": "north", "reason": "least_cost"}\n\n'
Solyx = Callable[..., Any]
