"""The users of a replay: submit each job of the scenario at its scenario time, to the real REST API, exactly once.

A batch is written to a journal before it is sent and again when it was accepted. The next start sends what was left open
with the same Idempotency-Key and the same bytes, so a job whose answer was lost is not submitted twice.
"""

import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

import httpx
import msgspec

from devstack.errors import DevstackError
from solyx.events import DeviceRequest, JobSpec
from solyx.scenario import ScenarioJob

__all__ = ["Submitter", "document_of"]

_MAX_BATCH = 2000  # jobs in one request; the API takes 10,000
_TICK_S = 0.05
_RETRY_S = (0.1, 2.0)
_OVERLOADED = (429, 503)

_encode = msgspec.json.Encoder().encode


class Batch(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A line of the journal: the jobs [first, last) of the scenario, and when they were accepted their ids."""

    key: str
    first: int
    last: int
    ids: list[str] = []


class _Answer(msgspec.Struct):
    ids: list[str]


class Submitter:
    """A thread that submits; `accepted` grows."""

    def __init__(
        self,
        jobs: Sequence[ScenarioJob],
        *,
        start: datetime,
        now: Callable[[], datetime],
        api: str,
        key: str,
        journal: Path,
        name: str,
    ) -> None:
        """`start` is the scenario's, `now` the replay's clock; `name` begins the Idempotency-Keys."""
        self._jobs, self._start, self._now = jobs, start, now
        self._api, self._key = api, key
        self._journal, self._name = journal, name
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="submitter", daemon=True)
        self.accepted: list[str] = []
        self.accepted_at_ms: dict[str, float] = {}  # Unix ms at which the request that carried the job was sent
        self.error: Exception | None = None
        self.trouble = ""  # why it waits, while it does
        self._next, self._pending = self._read_journal()

    @property
    def total(self) -> int:
        """Jobs of the scenario."""
        return len(self._jobs)

    @property
    def submitted(self) -> int:
        """Jobs that were submitted, in this start and earlier ones."""
        return self._next

    def start(self) -> None:
        """Submit until `stop` or the last job."""
        self._thread.start()

    def stop(self, *, within_s: float = 5.0) -> None:
        """Finish the request at hand, send no more."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(within_s)

    def _read_journal(self) -> tuple[int, Batch | None]:
        """How far earlier starts came, and the batch whose answer they did not live to see."""
        upto, pending = 0, None
        for line in self._journal.read_bytes().splitlines() if self._journal.exists() else ():
            try:
                batch = msgspec.json.decode(line, type=Batch)
            except msgspec.MsgspecError:
                continue  # empty, or the line that a crash cut off: its batch was not sent
            if batch.ids:
                self.accepted.extend(batch.ids)
                upto, pending = batch.last, None
            else:
                pending = batch
        if upto > len(self._jobs) or (pending is not None and pending.last > len(self._jobs)):
            raise DevstackError(
                f"the scenario has {len(self._jobs)} jobs, but {upto} were submitted before: it is not the same any more",
                "start with --fresh",
            )
        return upto, pending

    def _run(self) -> None:
        try:
            with (
                httpx.Client(base_url=self._api, timeout=30.0, headers={"Authorization": f"Bearer {self._key}"}) as api,
                self._journal.open("ab", buffering=0) as journal,
            ):
                journal.write(b"\n")  # ends a line that a crash cut off
                if self._pending is not None:
                    self._send(api, self._pending, journal.write)
                while self._next < len(self._jobs) and not self._stopping.wait(_TICK_S):
                    last = self._due()
                    if last > self._next:
                        batch = Batch(key=f"{self._name}/{self._next}-{last}", first=self._next, last=last)
                        journal.write(_encode(batch) + b"\n")
                        self._send(api, batch, journal.write)
        except Exception as error:  # noqa: BLE001 - a thread's bug ends the program: the main thread raises it
            self.error = error

    def _due(self) -> int:
        passed_s = (self._now() - self._start).total_seconds()
        last, most = self._next, min(self._next + _MAX_BATCH, len(self._jobs))
        while last < most and self._jobs[last].arrival_s <= passed_s:
            last += 1
        return last

    def _send(self, api: httpx.Client, batch: Batch, write: Callable[[bytes], object]) -> None:
        """Until it is accepted, or this is to stop: then the next start sends it."""
        body = b"\n".join(_encode(document_of(job)) for job in self._jobs[batch.first : batch.last])
        headers = {"Content-Type": "application/x-ndjson", "Idempotency-Key": batch.key}
        sent_ms, pause_s = time.time() * 1000, _RETRY_S[0]
        while True:
            try:
                response = api.post("/v1/jobs", content=body, headers=headers)
            except httpx.TransportError as error:
                self.trouble = f"the API does not answer ({type(error).__name__})"
            else:
                if response.status_code == 202:
                    break
                if response.status_code < 500 and response.status_code not in _OVERLOADED:
                    raise DevstackError(
                        f"the API refused jobs {batch.first} to {batch.last - 1} of the scenario"
                        f" (status {response.status_code}): {response.text[:500]}",
                        "this is a bug in Solyx or in the scenario; see the gateway's log",
                    )
                self.trouble = f"the API is overloaded or starting (status {response.status_code})"
                pause_s = max(pause_s, _retry_after_s(response))
            if self._stopping.wait(pause_s):
                return
            pause_s = min(pause_s * 2, _RETRY_S[1])
        self.trouble = ""
        ids = msgspec.json.decode(response.content, type=_Answer).ids
        write(_encode(msgspec.structs.replace(batch, ids=ids)) + b"\n")
        self.accepted_at_ms.update(dict.fromkeys(ids, sent_ms))
        self.accepted.extend(ids)
        self._next = batch.last


def _retry_after_s(response: httpx.Response) -> float:
    text = response.headers.get("Retry-After", "")
    return min(float(text), 10.0) if text.isdecimal() else 0.0


def document_of(job: ScenarioJob) -> dict[str, object]:
    """The job as its user would write it (docs/api.md); `solyx.jobfile` reads the same `JobSpec` back."""
    spec = job.spec
    document: dict[str, object] = {
        "name": spec.name,
        "tenant": job.tenant,
        "image": spec.image,
        "resources": {
            "cpu": f"{spec.resources.cpu_milli}m",
            "memory": spec.resources.memory_bytes,
            "devices": [_device(request) for request in spec.resources.devices],
        },
        "parallelism": spec.parallelism,
        "duration_estimate": spec.duration_estimate_s,
        "priority": spec.priority,
        "preemptible": spec.preemptible,
        "suspendable": spec.suspendable,
        "grace_period": spec.grace_period_s,
        "tolerations": spec.tolerations,
        "weights": spec.weights,
        "labels": spec.labels,
    }
    return document | _optional(spec)


def _optional(spec: JobSpec) -> dict[str, object]:
    fields: dict[str, object] = {}
    if spec.deadline is not None:
        fields["deadline"] = spec.deadline
    if spec.max_delay_s is not None:
        fields["max_delay"] = spec.max_delay_s
    if spec.data is not None:
        fields["data"] = {"size": spec.data.size_bytes, "site": spec.data.site}
    if spec.allowed_sites:
        fields["allowed_sites"] = spec.allowed_sites
    if spec.home_site is not None:
        fields["home_site"] = spec.home_site
    if spec.max_latency is not None:
        fields["max_latency"] = {"to": spec.max_latency.to, "ms": spec.max_latency.max_ms}
    if spec.command:
        fields["command"] = spec.command
    if spec.env:
        fields["env"] = spec.env
    return fields


def _device(request: DeviceRequest) -> dict[str, object]:
    count: int | float = request.count if request.share_milli == 1000 else request.share_milli / 1000
    return {"kind": request.kind, "models": request.models, "count": count}
