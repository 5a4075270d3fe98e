"""The gateway as its users run it: a process on a real broker and a real database, and the loss of each."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from devstack.broker import KafkaBroker
from devstack.child import free_port, release_port
from devstack.postgres import PostgresServer
from services.gateway.bootstrap import bootstrap
from solyx.bus.kafka import KafkaBus
from tests.gateway_app import JOB
from tests.gateway_events import placed, record

pytestmark = pytest.mark.timeout(300)  # several starts of a process, on a busy machine
ROOT = Path(__file__).parents[2]


class Process:
    """``python -m services.gateway`` with its log at hand."""

    def __init__(self, env: dict[str, str], port: int) -> None:
        self._env = {**os.environ, **env, "SOLYX_GATEWAY_HTTP_PORT": str(port)}
        self.url = f"http://127.0.0.1:{port}"
        self.lines: list[dict[str, object]] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "services.gateway"], cwd=ROOT, env=self._env, stderr=subprocess.PIPE, text=True
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            try:
                self.lines.append(json.loads(line))
            except ValueError:
                self.lines.append({"event": line})

    def wait_for(self, event: str, within_s: float = 90.0) -> None:
        wait(lambda: any(line.get("event") == event for line in self.lines), within_s, self.lines)

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(how)
        try:
            return self.process.wait(60)
        finally:
            self.process.kill()
            self._reader.join()
            assert self.process.stderr is not None
            self.process.stderr.close()


def wait(condition: object, within_s: float = 90.0, shown: object = "") -> None:
    deadline = time.monotonic() + within_s
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, f"it did not happen in time: {shown}"
        time.sleep(0.05)


class Installation:
    """A broker and a database of this test's own, because it takes them away."""

    def __init__(self, directory: Path) -> None:
        self.broker = KafkaBroker(directory / "kafka").start()
        self.database = PostgresServer(directory / "postgres").start()
        self.port = free_port()
        self.key_file = directory / "keys.json"
        self.env = {
            "SOLYX_KAFKA_BOOTSTRAP_SERVERS": self.broker.bootstrap_servers,
            "SOLYX_DATABASE_URL": self.database.url,
            "SOLYX_GATEWAY_POLL_S": "0.2",
        }

    def bootstrap(self) -> dict[str, str]:
        command = ["bootstrap", "--admin-key-file", str(self.key_file), "--tenants", "3"]
        sites = ["--home-site", "oslo", "--home-site", "bergen"]
        done = subprocess.run(
            [sys.executable, "-m", "services.gateway", *command, *sites],
            cwd=ROOT,
            env={**os.environ, **self.env},
            capture_output=True,
            text=True,
            check=True,
        )
        keys = json.loads(self.key_file.read_text())
        assert all(key not in done.stdout + done.stderr for key in keys.values())
        return keys

    def start(self) -> Process:
        return Process(self.env, self.port)

    def close(self) -> None:
        self.database.stop()
        self.broker.stop()
        release_port(self.port)


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    installed = Installation(tmp_path)
    yield installed
    installed.close()


def submitted_ids(bus: KafkaBus) -> list[str]:
    """The keys on the topic, whoever wrote them: the broker of the session has other tests' jobs too."""
    tail, found = bus.tail(["jobs"]), list[str]()
    while not tail.caught_up():
        found.extend(received.key for received in tail.read(max_records=1000, timeout_s=0.2))
    tail.close()
    return found


def test_a_gateway_serves_survives_its_broker_and_its_database_and_leaves_with_0(installation: Installation) -> None:
    keys = installation.bootstrap()
    assert set(keys) == {"admin", "tenant-0", "tenant-1", "tenant-2"}
    assert installation.key_file.stat().st_mode & 0o077 == 0
    assert installation.bootstrap() == keys, "running it again keeps the keys that work"

    gateway = installation.start()
    bus = KafkaBus(installation.broker.bootstrap_servers, client_name="test")
    headers = {"Authorization": f"Bearer {keys['tenant-1']}"}
    try:
        gateway.wait_for("ready")
        with httpx.Client(base_url=gateway.url, headers=headers, timeout=40) as client:
            accepted = [client.post("/v1/jobs", json=JOB).json()["id"]]
            assert client.get(f"/v1/jobs/{accepted[0]}").json()["spec"]["home_site"] == "bergen", "1 modulo 2 sites"
            wait(lambda: submitted_ids(bus) == accepted)
            follow_the_stream(client, bus)

            installation.broker.kill()
            accepted.append(client.post("/v1/jobs", json=JOB).json()["id"])
            wait(lambda: client.get("/readyz").status_code == 503)
            assert client.get("/readyz").json()["database"] == "ok"
            assert client.get("/readyz").json()["oldest_unpublished_s"] > 0, "what is accepted waits, whoever leads"
            installation.broker.start()
            wait(lambda: set(submitted_ids(bus)) == set(accepted))
            wait(lambda: client.get("/readyz").status_code == 200)

            installation.database.stop()
            refused = client.post("/v1/jobs", json=JOB)
            assert refused.status_code == 503
            assert refused.headers["retry-after"]
            unready = client.get("/readyz")
            assert (unready.status_code, unready.json()["oldest_unpublished_s"]) == (503, None), (
                "nobody knows what waits"
            )
            assert client.get("/healthz").status_code == 200
            installation.database.start()
            wait(lambda: client.get("/readyz").status_code == 200)
            accepted.append(client.post("/v1/jobs", json=JOB).json()["id"])
            wait(lambda: set(submitted_ids(bus)) == set(accepted))
    finally:
        status = gateway.end()
    assert status == 0
    assert gateway.lines[-1]["event"] == "stopped"


def follow_the_stream(client: httpx.Client, bus: KafkaBus) -> None:
    """An open stream hears of an event soon after it is on the log."""
    with client.stream("GET", "/v1/events", params={"type": "job.placed.v1"}) as response:
        lines = response.iter_lines()
        assert next(lines).startswith("retry:")
        publisher = bus.publisher(name="test")
        publisher.publish([record(placed("j1", tenant="tenant-1"))])
        publisher.close()
        data = next(line for line in lines if line.startswith("data:"))
    assert json.loads(data.removeprefix("data: "))["subject"] == "j1"


async def test_a_stop_ends_open_streams_and_leaves_with_0(
    postgres_url: str, kafka: KafkaBroker, tmp_path: Path
) -> None:
    env = {"SOLYX_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers, "SOLYX_DATABASE_URL": postgres_url}
    await bootstrap(postgres_url, tmp_path / "keys.json", tenants=1, home_sites=[])
    key = json.loads((tmp_path / "keys.json").read_text())["tenant-0"]
    port = free_port()
    gateway = await asyncio.to_thread(Process, env, port)
    try:
        await asyncio.to_thread(gateway.wait_for, "ready")
        headers = {"Authorization": f"Bearer {key}"}
        async with (
            httpx.AsyncClient(base_url=gateway.url, headers=headers, timeout=40) as client,
            client.stream("GET", "/v1/events") as response,
        ):
            ending = asyncio.create_task(asyncio.to_thread(gateway.end))
            lines = [line async for line in response.aiter_lines()]
            assert lines[0].startswith("retry:")
            assert await ending == 0
    finally:
        gateway.process.kill()
        release_port(port)


def submit_until_accepted(client: httpx.Client, number: int, turn: Callable[[int], None]) -> str:
    """As a careful user does it: the same key until there is an answer."""
    deadline = time.monotonic() + 90
    while True:
        turn(number)
        try:
            response = client.post("/v1/jobs", json=JOB, headers={"Idempotency-Key": f"k{number}"})
        except httpx.TransportError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
            continue
        if response.status_code == 202:
            return response.json()["id"]
        assert response.status_code == 503, response.text
        time.sleep(0.05)


async def test_jobs_survive_kill_9_and_retries_make_no_second_one(
    postgres_url: str, kafka: KafkaBroker, tmp_path: Path
) -> None:
    await bootstrap(postgres_url, tmp_path / "keys.json", tenants=1, home_sites=[])
    key = json.loads((tmp_path / "keys.json").read_text())["tenant-0"]
    env = {"SOLYX_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers, "SOLYX_DATABASE_URL": postgres_url}
    accepted, counted = await asyncio.to_thread(kill_while_submitting, env, key)
    assert len(accepted) == len(set(accepted)) == counted == 90
    bus = KafkaBus(kafka.bootstrap_servers, client_name="test")
    await asyncio.to_thread(wait, lambda: set(accepted) <= set(submitted_ids(bus)))


def kill_while_submitting(env: dict[str, str], key: str) -> tuple[list[str], int]:
    port = free_port()
    running = [Process(env, port)]
    to_kill = {20, 50, 70}

    def turn(number: int) -> None:
        if number in to_kill:
            to_kill.remove(number)
            running[-1].end(signal.SIGKILL)
            running.append(Process(env, port))

    try:
        running[0].wait_for("ready")
        with httpx.Client(base_url=running[0].url, headers={"Authorization": f"Bearer {key}"}, timeout=40) as client:
            accepted = [submit_until_accepted(client, number, turn) for number in range(90)]
            pages = client.get("/v1/jobs", params={"limit": 1000}).json()["jobs"]
            wait(lambda: client.get("/readyz").json()["oldest_unpublished_s"] == 0)
    finally:
        assert running[-1].end() == 0
        release_port(port)
    return accepted, len(pages)


def test_a_taken_port_ends_the_start_with_a_message_and_status_1(
    postgres_server: PostgresServer, kafka: KafkaBroker
) -> None:
    env = {
        "SOLYX_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "SOLYX_DATABASE_URL": postgres_server.url,
    }
    process = Process(env, postgres_server.port)
    assert process.process.wait(60) == 1
    process.end()
    assert any("SOLYX_GATEWAY_HTTP_PORT" in str(line) for line in process.lines)


def test_a_wrong_setting_ends_the_start_with_status_2() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "services.gateway"],
        cwd=ROOT,
        env={**os.environ, "SOLYX_GATEWAY_RELAY_BATCH": "many"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "SOLYX_RELAY_BATCH" in done.stderr
