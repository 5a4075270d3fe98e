"""One running installation for all of these tests: every service real, three generated sites, a minute of scenario a second."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from benchmarks.installation import SITES, Installation, installation
from devstack.bootstrap import ROOT
from solyx.client import Client, Job

SPEED = 60.0
QUOTA_TENANT = "with-quota"
WITHIN_S = 90.0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first of these tests waits for the start of everything; on a busy machine that takes its time."""
    for item in items:
        if Path(__file__).parent in item.path.parents and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(300))


@pytest.fixture(scope="session")
def trace_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("traces") / "spans.jsonl"


@pytest.fixture(scope="session")
def system(trace_file: Path) -> Iterator[Installation]:
    environment = {
        "SOLYX_TRACE_SAMPLE_RATIO": "1",
        "SOLYX_TRACE_FILE": str(trace_file),
        "SOLYX_DRM_QUOTAS": json.dumps({QUOTA_TENANT: {"cpu_milli": 2000}}),  # nobody else is limited
    }
    with installation(nodes_per_site=4, speed=SPEED, tell=print, environment=environment) as running:
        with Client(running.stack.api, key=running.stack.admin_key()) as client:
            eventually(lambda: is_told(client), "all that the tests take as known: sites, their energy, and routes")
        yield running


def is_told(client: Client) -> bool:
    """Services that are ready have yet to hear of the world, a moment later on a busy machine."""
    sites, routes = client.sites(), client.routes()
    priced = [entry.site for entry in client.energy().sites if entry.price_eur_per_mwh is not None]
    applied = [route for route in routes if route.status == "applied"]
    return len(sites) == len(priced) == SITES and len(applied) == SITES * (SITES - 1)


@pytest.fixture(scope="session")
def admin_key(system: Installation) -> str:
    return system.stack.admin_key()


@pytest.fixture
def client(system: Installation, admin_key: str) -> Iterator[Client]:
    with Client(system.stack.api, key=admin_key) as made:
        yield made


@pytest.fixture(scope="session")
def tenant_key(system: Installation, admin_key: str) -> Callable[[str], str]:
    """Makes a tenant and returns a submitter's key of it."""

    def make(name: str) -> str:
        with httpx.Client(base_url=system.stack.api, headers={"Authorization": f"Bearer {admin_key}"}) as http:
            http.post("/v1/tenants", json={"name": name}).raise_for_status()
            answer = http.post(f"/v1/tenants/{name}/keys", json={"role": "submitter"}).raise_for_status()
            return answer.json()["key"]

    return make


class CommandLine:
    """The real process, connected by its environment."""

    def __init__(self, system: Installation, key: str, directory: Path) -> None:
        self.environment = {
            "PATH": os.environ["PATH"],
            "SOLYX_URL": system.stack.api,
            "SOLYX_API_KEY": key,
            "SOLYX_KAFKA_BOOTSTRAP_SERVERS": system.stack.kafka,
            "SOLYX_STATE_DIR": str(directory),
        }

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        # Who runs these tests in the background of a shell ignores interrupts, and so would the command.
        return subprocess.Popen(
            ["env", "--default-signal=INT", sys.executable, "-m", "solyx.cli", *arguments],
            env=self.environment,
            cwd=ROOT,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, *arguments: str, text: str = "") -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "solyx.cli", *arguments],
            env=self.environment,
            cwd=ROOT,
            input=text,
            text=True,
            capture_output=True,
            timeout=WITHIN_S + 30,
            check=False,
        )

    def json(self, *arguments: str, text: str = "") -> list[Any]:
        """The documents that a command prints with --json; it must have succeeded."""
        done = self.run(*arguments, "--json", text=text)
        assert done.returncode == 0, done.stderr
        return [msgspec.json.decode(line) for line in done.stdout.splitlines()]


@pytest.fixture
def command_line(system: Installation, tmp_path: Path) -> Callable[[str], CommandLine]:
    return lambda key: CommandLine(system, key, tmp_path)


@pytest.fixture
def solyx(command_line: Callable[[str], CommandLine], admin_key: str) -> CommandLine:
    """The command line with the administrator's key."""
    return command_line(admin_key)


def eventually(look: Callable[[], Any], what: str, within_s: float = WITHIN_S) -> Any:
    """The first answer that is one."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(0.1)
    pytest.fail(f"{what}: not within {within_s:g} s")


@pytest.fixture
def until_state(client: Client) -> Callable[[str, str], Job]:
    """Waits until a job is in a state."""

    def wait(job_id: str, state: str) -> Job:
        def look() -> Job | None:
            job = client.job(job_id)
            return job if job.state == state else None

        return eventually(look, f"job {job_id} {state}")

    return wait
