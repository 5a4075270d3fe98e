"""docs/operations.md as it is written: each service started by hand on an existing Kafka and PostgreSQL, without a scenario."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import msgspec
import pytest

from devstack.bootstrap import ROOT
from devstack.broker import KafkaBroker
from devstack.child import free_port
from devstack.options import SERVICES

READY_WITHIN_S = 120.0


@pytest.fixture
def environment(kafka: KafkaBroker, postgres_url: str, tmp_path: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "SOLYX_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "SOLYX_DATABASE_URL": postgres_url,
        "SOLYX_STATE_DIR": str(tmp_path),
    }


@pytest.fixture
def processes(
    environment: dict[str, str], tmp_path: Path
) -> Iterator[dict[str, tuple[int, "subprocess.Popen[bytes]"]]]:
    """Service → port and process; killed at the end if a test left them."""
    started: dict[str, tuple[int, subprocess.Popen[bytes]]] = {}
    with ExitStack() as stack:
        for service in SERVICES:
            port = free_port()
            log = stack.enter_context((tmp_path / f"{service}.log").open("wb"))
            process = subprocess.Popen(
                [sys.executable, "-m", f"services.{service}"],
                env=environment | {f"SOLYX_{service.upper()}_HTTP_PORT": str(port)},
                cwd=ROOT,
                stdout=log,
                stderr=log,
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            started[service] = port, process
        yield started


def is_ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=5.0).status_code == 200
    except httpx.TransportError:
        return False


def bootstrap(environment: dict[str, str], key_file: Path) -> str:
    """The administrator's key."""
    command = [sys.executable, "-m", "services.gateway", "bootstrap"]
    arguments = ["--admin-key-file", str(key_file), "--tenants", "0"]
    done = subprocess.run([*command, *arguments], env=environment, cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return msgspec.json.decode(key_file.read_bytes(), type=dict[str, str])["admin"]


def test_services_started_by_hand_become_ready_take_a_job_and_leave_with_status_0(
    environment: dict[str, str], processes: dict[str, tuple[int, "subprocess.Popen[bytes]"]], tmp_path: Path
) -> None:
    key = bootstrap(environment, tmp_path / "keys.json")
    deadline = time.monotonic() + READY_WITHIN_S
    waiting = dict(processes)
    while waiting:
        waiting = {name: part for name, part in waiting.items() if not is_ready(part[0])}
        for name, (_, process) in processes.items():
            assert process.poll() is None, (tmp_path / f"{name}.log").read_text()[-2000:]
        assert time.monotonic() < deadline, f"not ready: {', '.join(waiting)}"
        time.sleep(0.2)

    api = f"http://127.0.0.1:{processes['gateway'][0]}"
    job = {"image": "sum:1", "resources": {"cpu": 1}, "duration_estimate": 60}
    answer = httpx.post(f"{api}/v1/jobs", json=job, headers={"Authorization": f"Bearer {key}"})
    assert answer.status_code == 202, answer.text

    for _, process in processes.values():
        process.send_signal(signal.SIGTERM)
    assert {name: process.wait(60) for name, (_, process) in processes.items()} == dict.fromkeys(SERVICES, 0)
    for name in SERVICES:
        assert '"event":"ready"' in (tmp_path / f"{name}.log").read_text(), name


def test_a_wrong_setting_ends_a_service_with_status_2_and_its_name(environment: dict[str, str]) -> None:
    for service in SERVICES:
        done = subprocess.run(
            [sys.executable, "-m", f"services.{service}"],
            env=environment | {"SOLYX_BATCH_MAX_RECORDS": "many"},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 2, (service, done.stderr)
        assert "SOLYX_BATCH_MAX_RECORDS" in done.stderr, (service, done.stderr)
