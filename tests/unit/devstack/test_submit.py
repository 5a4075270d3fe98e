import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
import pytest

from devstack.errors import DevstackError
from devstack.submit import Submitter, document_of
from solyx.events import DataSet, DeviceRequest, JobSpec, LatencyBound, Resources, Weights
from solyx.jobfile import parse_job, parse_ndjson
from solyx.scenario import ScenarioJob

T0 = datetime(2025, 6, 2, tzinfo=UTC)


def job(number: int, *, arrival_s: float = 0.0) -> ScenarioJob:
    spec = JobSpec(name=f"job-{number}", image="x", resources=Resources(cpu_milli=500), duration_estimate_s=60.0)
    return ScenarioJob(
        arrival_s=arrival_s, name=spec.name, tenant="tenant-1", home_site="north", spec=spec, true_duration_s=50.0
    )


class FakeApi:
    """Accepts NDJSON as the gateway does; `refusals` are answered first."""

    def __init__(self) -> None:
        self.refusals: list[int] = []
        self.bodies: list[tuple[str, bytes]] = []
        self.by_key: dict[str, list[str]] = {}
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                key = self.headers["Idempotency-Key"]
                api.bodies.append((key, body))
                if api.refusals:
                    self._answer(api.refusals.pop(0), b"{}")
                    return
                count = len(parse_ndjson(body))
                ids = api.by_key.setdefault(key, [f"{key}#{index}" for index in range(count)])
                self._answer(202, json.dumps({"count": count, "ids": ids}).encode())

            def _answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                if status == 429:
                    self.send_header("Retry-After", "0")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def api() -> Iterator[FakeApi]:
    served = FakeApi()
    yield served
    served.close()


def submitter(api: FakeApi, journal: Path, jobs: list[ScenarioJob], *, passed_s: float = 0.0) -> Submitter:
    return Submitter(
        jobs,
        start=T0,
        now=lambda: T0 + timedelta(seconds=passed_s),
        api=api.url,
        key="sk_test",
        journal=journal,
        name="replay-1",
    )


def wait_for(condition: object, within_s: float = 10.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_job_is_written_as_its_user_would_and_read_back_the_same() -> None:
    spec = JobSpec(
        name="all",
        image="x",
        command=("python", "train.py"),
        env={"A": "b"},
        resources=Resources(
            cpu_milli=1500, memory_bytes=3 * 1024**3, devices=(DeviceRequest(models=("T4", "P100"), count=2),)
        ),
        parallelism=3,
        duration_estimate_s=12.5,
        deadline=T0,
        priority=5,
        preemptible=True,
        suspendable=True,
        data=DataSet(size_bytes=7, site="north"),
        allowed_sites=("north",),
        home_site="north",
        max_latency=LatencyBound(to="paris", max_ms=20.0),
        grace_period_s=90.0,
        tolerations=("spot",),
        weights=Weights(carbon_eur_per_t=80.0),
        labels={"k": "v"},
    )
    shared = msgspec.structs.replace(
        job(1).spec,
        resources=Resources(cpu_milli=1, devices=(DeviceRequest(share_milli=250),)),
        max_delay_s=0.0,
    )
    for wanted in (spec, shared):
        scenario_job = msgspec.structs.replace(job(1), spec=wanted)
        read = parse_job(msgspec.json.decode(msgspec.json.encode(document_of(scenario_job))))
        assert read.spec == wanted
        assert read.tenant == "tenant-1"


def test_only_jobs_whose_time_has_come_are_submitted(api: FakeApi, tmp_path: Path) -> None:
    sender = submitter(api, tmp_path / "j", [job(0), job(1, arrival_s=5), job(2, arrival_s=50)], passed_s=10)
    sender.start()
    wait_for(lambda: len(sender.accepted) == 2)
    sender.stop()
    assert sender.submitted == 2
    assert set(sender.accepted_at_ms) == set(sender.accepted)


def test_the_next_start_submits_only_what_is_left(api: FakeApi, tmp_path: Path) -> None:
    jobs = [job(0), job(1), job(2, arrival_s=50)]
    first = submitter(api, tmp_path / "j", jobs)
    first.start()
    wait_for(lambda: len(first.accepted) == 2)
    first.stop()
    second = submitter(api, tmp_path / "j", jobs, passed_s=60)
    assert second.accepted == first.accepted
    second.start()
    wait_for(lambda: len(second.accepted) == 3)
    second.stop()
    assert len(set(second.accepted)) == 3


def test_a_batch_whose_answer_was_lost_is_sent_again_with_the_same_key_and_bytes(api: FakeApi, tmp_path: Path) -> None:
    journal = tmp_path / "j"
    jobs = [job(0), job(1), job(2)]
    first = submitter(api, journal, jobs)
    first.start()
    wait_for(lambda: len(first.accepted) == 3)
    first.stop()
    # as a crash between the answer and its line in the journal leaves it, half a line included
    lines = [line for line in journal.read_bytes().splitlines() if line]
    journal.write_bytes(lines[0] + b"\n" + lines[1][:10])
    second = submitter(api, journal, jobs)
    assert second.accepted == []
    second.start()
    wait_for(lambda: len(second.accepted) == 3)
    second.stop()
    assert api.bodies[0] == api.bodies[-1]
    assert second.accepted == first.accepted
    assert submitter(api, journal, jobs).accepted == first.accepted


def test_an_overloaded_api_is_asked_again(api: FakeApi, tmp_path: Path) -> None:
    api.refusals = [429, 503, 500]
    sender = submitter(api, tmp_path / "j", [job(0)])
    sender.start()
    wait_for(lambda: sender.accepted)
    sender.stop()
    assert len(api.bodies) == 4
    assert len({key for key, _ in api.bodies}) == 1


def test_a_refused_job_ends_the_submission_with_the_apis_words(api: FakeApi, tmp_path: Path) -> None:
    api.refusals = [422]
    sender = submitter(api, tmp_path / "j", [job(0)])
    sender.start()
    wait_for(lambda: sender.error)
    assert isinstance(sender.error, DevstackError)
    assert "422" in str(sender.error)


def test_a_scenario_that_has_shrunk_is_not_gone_on_with(api: FakeApi, tmp_path: Path) -> None:
    first = submitter(api, tmp_path / "j", [job(0), job(1)])
    first.start()
    wait_for(lambda: len(first.accepted) == 2)
    first.stop()
    with pytest.raises(DevstackError, match="not the same any more"):
        submitter(api, tmp_path / "j", [job(0)])
