import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

import httpx
import psutil
import pytest

from devstack.broker import KafkaBroker
from solyx.scenario import generate

ROOT = Path(__file__).resolve().parents[2]
READY_S = 120.0  # far above what it takes alone: the tests' machine may be busy
JOB = {
    "name": "by-hand",
    "image": "example/train:1",
    "resources": {"cpu": 1, "memory": "1Gi"},
    "duration_estimate": "10m",
    "max_delay": 0,
    "labels": {"solyx.io/simulated-duration-s": "600"},
}

pytestmark = pytest.mark.timeout(400)


class Run:
    """`./run` as a user starts it, with its output read line by line."""

    def __init__(self, *arguments: str, state: Path, env: dict[str, str] | None = None) -> None:
        self.state = state
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "run"), *arguments, "--state", str(state), "--api-port", "0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env=os.environ | (env or {}),
        )
        self.output = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def read_until(self, pattern: str, within_s: float = READY_S) -> re.Match[str]:
        deadline = time.monotonic() + within_s
        while (found := re.search(pattern, self.output)) is None:
            assert self._read(deadline - time.monotonic()), f"no {pattern!r} in:\n{self.output}"
        return found

    def end(self, within_s: float = READY_S) -> int:
        deadline = time.monotonic() + within_s
        while self._read(deadline - time.monotonic()):
            pass
        return self.process.wait(max(deadline - time.monotonic(), 1.0))

    def _read(self, within_s: float) -> bool:
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], max(within_s, 0))
        text = os.read(self.process.stdout.fileno(), 65536).decode() if ready else ""
        self.output += text
        return bool(text)

    def api(self) -> httpx.Client:
        """A client with the address and the key that were printed."""
        url = self.read_until(r"API +(http://\S+)")[1]
        key = self.read_until(r"API key +(sk_\S+)")[1]
        return httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=20)

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)


def left_of(family: list[psutil.Process], within_s: float = 60.0) -> list[str]:
    _, alive = psutil.wait_procs(family, timeout=within_s)
    return [" ".join(process.cmdline()) for process in alive if process.status() != psutil.STATUS_ZOMBIE]


def jobs_of(api: httpx.Client) -> dict[str, str]:
    """Every job's state, by id."""
    states: dict[str, str] = {}
    parameters: dict[str, str | int] = {"limit": 1000}
    while True:
        page = api.get("/v1/jobs", params=parameters).raise_for_status().json()
        states |= {job["id"]: job["state"] for job in page["jobs"]}
        if not page.get("next"):
            return states
        parameters["cursor"] = page["next"]


def wait_for_state(api: httpx.Client, job_id: str, state: str, within_s: float = READY_S) -> dict[str, object]:
    deadline = time.monotonic() + within_s
    while True:
        response = api.get(f"/v1/jobs/{job_id}")
        if response.status_code == 200 and response.json()["state"] == state:
            return response.json()
        assert time.monotonic() < deadline, response.text
        time.sleep(0.1)


@pytest.fixture(scope="module")
def scenario(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("scenario")
    generate(directory, seed=3, sites=3, hours=12, jobs=150)
    return directory


@pytest.fixture(scope="module")
def story(scenario: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, object]]:
    """The state and the report of a first run, in which a user submitted a job by hand and then pressed Ctrl-C."""
    state, report = tmp_path_factory.mktemp("state"), tmp_path_factory.mktemp("report") / "r.json"
    arguments = ("--scenario", str(scenario), "--speed", "1800", "--report", str(report))
    with Run(*arguments, state=state) as run:
        with run.api() as api:
            submitted = api.post("/v1/jobs", json=JOB)
            assert submitted.status_code == 202, submitted.text
            job = wait_for_state(api, submitted.json()["id"], "succeeded")
            run.read_until(r"against at once at home")
            connection = json.loads((state / "connection.json").read_text())
        family = run.family()
        run.process.send_signal(signal.SIGINT)
        assert run.end() == 0, run.output
        assert not left_of(family)
    return state, {
        "report": json.loads(report.read_text()),
        "job": job,
        "output": run.output,
        "connection": connection,
    }


def test_a_job_submitted_with_the_printed_key_succeeds(story: tuple[Path, dict[str, object]]) -> None:
    job = story[1]["job"]
    types = [entry["type"].split(".", 2)[2] for entry in job["history"]]
    assert "job.placed.v1" in types
    assert "job.allocated.v1" in types
    assert "workload.reported.v1" in types


def test_the_command_line_finds_the_api_while_it_runs_and_only_then(story: tuple[Path, dict[str, object]]) -> None:
    state, first = story
    assert first["connection"]["url"] in first["output"]
    assert first["connection"]["key"] in first["output"]
    assert first["connection"]["kafka_bootstrap_servers"].startswith("127.0.0.1:")
    assert not (state / "connection.json").exists()


def test_the_report_accounts_for_every_job(story: tuple[Path, dict[str, object]]) -> None:
    report = story[1]["report"]
    jobs = report["jobs"]
    assert jobs["lost"] == 0
    assert jobs["succeeded"] >= 1
    assert jobs["total"] == sum(jobs[state] for state in jobs if state not in ("lost", "total"))
    assert jobs["total"] >= 2
    assert report["energy_kwh"] > 0
    assert report["baseline"]["energy_kwh"] > 0
    assert report["latency_ms"]["p50"] > 0
    assert report["events_per_s"] > 0
    assert report["scenario_hours"] > 0.5
    services = {"gateway", "collector", "forecaster", "cmo", "drm", "sdn", "actuator", "kafka", "postgres"}
    assert set(report["services"]) == services
    for service in report["services"].values():
        assert service["ready_s"] > 0
        assert service["rss_mb"] > 5
        assert service["restarts"] == 0
    assert report["rss_total_mb"] <= 2000


def test_output_without_a_terminal_is_lines(story: tuple[Path, dict[str, object]]) -> None:
    output = story[1]["output"]
    assert "all services ready after" in output
    assert "against at once at home" in output
    assert "\x1b[" not in output


def test_a_second_start_goes_on_where_the_first_stopped_and_ends_by_itself(
    story: tuple[Path, dict[str, object]], tmp_path: Path
) -> None:
    state, first = story
    report = tmp_path / "r.json"
    with Run("--speed", "1800", "--for", "3", "--report", str(report), state=state) as run:
        with run.api() as api:
            assert first["job"]["id"] in jobs_of(api)
            family = run.family()
        assert run.end() == 0, run.output
        assert not left_of(family)
    assert "going on at" in run.output
    after = json.loads(report.read_text())
    assert 3.0 <= after["wall_s"] < 20
    assert after["scenario_hours"] >= first["report"]["scenario_hours"] + 1.5
    assert after["jobs"]["lost"] == 0
    assert after["jobs"]["succeeded"] >= first["report"]["jobs"]["succeeded"]


def test_a_start_after_a_kill_goes_on_too_and_no_process_outlives_it(story: tuple[Path, dict[str, object]]) -> None:
    state, first = story
    for _ in range(2):
        with Run("--speed", "1800", state=state) as run, run.api() as api:
            states = jobs_of(api)
            assert states[first["job"]["id"]] == "succeeded"
            names = [job["name"] for job in api.get("/v1/jobs", params={"limit": 1000}).json()["jobs"]]
            assert len(names) == len(set(names))  # no job of the scenario came twice
            family = run.family()
            assert len(family) >= 9
            run.process.kill()
            run.process.wait()
            assert not left_of(family)


def test_fresh_forgets_and_a_killed_service_comes_back(scenario: Path, story: tuple[Path, dict[str, object]]) -> None:
    state, first = story
    arguments = ("--fresh", "--scenario", str(scenario), "--speed", "60", "--replicas", "drm=2")
    with Run(*arguments, state=state) as run, run.api() as api:
        assert "going on at" not in run.output
        assert first["job"]["id"] not in jobs_of(api)
        drm = [process for process in run.family() if "services.drm" in " ".join(process.cmdline())]
        assert len(drm) == 2
        drm[0].kill()
        run.read_until(r"drm(-1)? ended \(SIGKILL\) and is started again")
        submitted = api.post("/v1/jobs", json=JOB | {"labels": {"solyx.io/simulated-duration-s": "60"}})
        wait_for_state(api, submitted.json()["id"], "succeeded")
        family = run.family()
        run.process.send_signal(signal.SIGTERM)
        assert run.end() == 0, run.output
        assert not left_of(family)


def test_ctrl_c_while_everything_starts_leaves_nothing_behind(scenario: Path, tmp_path: Path) -> None:
    with Run("--scenario", str(scenario), state=tmp_path) as run:
        run.read_until("starting")
        time.sleep(1.0)
        family = run.family()
        run.process.send_signal(signal.SIGINT)
        assert run.end() == 0, run.output
        assert not left_of(family)
    assert "API key" not in run.output


def test_a_taken_port_is_told_with_a_cure(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = _fails("--api-port", str(port), state=tmp_path)
    assert f"port {port} is taken" in done
    assert "--api-port" in done


def test_a_broken_scenario_is_told_with_file_line_and_key(tmp_path: Path) -> None:
    generate(tmp_path / "mine", jobs=20, hours=6)
    file = tmp_path / "mine" / "scenario.toml"
    file.write_text(re.sub(r"pue = [\d.]+", "pue = 'x'", file.read_text(), count=1))
    done = _fails("--scenario", str(tmp_path / "mine"), state=tmp_path / "state")
    assert re.search(r"scenario\.toml:\d+: .*pue", done)


def test_a_broken_energy_file_is_told_in_the_collectors_words(tmp_path: Path) -> None:
    generate(tmp_path / "mine", sites=1, jobs=20, hours=6)
    file = next(file for file in (tmp_path / "mine").rglob("*.csv") if "price_eur_mwh" in file.read_text())
    lines = file.read_text().splitlines()
    lines[40] = lines[40].replace(lines[40].split(",")[1], "cheap", 1)
    file.write_text("\n".join(lines) + "\n")
    done = _fails("--scenario", str(tmp_path / "mine"), state=tmp_path / "state")
    assert f"{file.name}:41" in done
    assert "price_eur_mwh" in done
    assert "cheap" in done


def test_a_state_directory_of_another_version_is_told_with_a_cure(tmp_path: Path) -> None:
    (tmp_path / "version.json").write_text('{"layout": 99, "solyx": "9.9"}')
    done = _fails(state=tmp_path)
    assert "Solyx 9.9" in done
    assert "--fresh" in done


def test_a_first_install_without_network_is_told_with_a_cure(tmp_path: Path) -> None:
    for name in ("run", "devstack/__init__.py", "devstack/bootstrap.py", "requirements/run.lock"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    offline = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "0", "PIP_CONFIG_FILE": os.devnull}
    done = subprocess.run(
        [sys.executable, str(tmp_path / "run")],
        env=os.environ | offline,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=READY_S,
    )
    assert done.returncode != 0
    assert "no package index answers: the first start needs the network" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_existing_kafka_and_postgres_are_used_instead_of_embedded_ones(
    postgres_url: str, scenario: Path, tmp_path: Path
) -> None:
    report = tmp_path / "r.json"
    arguments = ("--scenario", str(scenario), "--speed", "1800", "--report", str(report))
    with KafkaBroker(tmp_path / "kafka") as kafka:
        env = {"SOLYX_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers, "SOLYX_DATABASE_URL": postgres_url}
        with Run(*arguments, state=tmp_path / "state", env=env) as run:
            with run.api() as api:
                submitted = api.post("/v1/jobs", json=JOB).json()["id"]
                wait_for_state(api, submitted, "succeeded")
            run.process.send_signal(signal.SIGINT)
            assert run.end() == 0, run.output
        services = json.loads(report.read_text())["services"]
        assert "gateway" in services
        assert not {"kafka", "postgres"} & set(services)
        assert not (tmp_path / "state" / "kafka").exists()

        with Run("--for", "1", *arguments, state=tmp_path / "state", env=env) as run:
            with run.api() as api:
                assert submitted in jobs_of(api)
            assert run.end() == 0, run.output
        assert "going on at" in run.output

        for fresh in (("--fresh", "--state", str(tmp_path / "state")), ("--state", str(tmp_path / "other"))):
            told = _fails(*arguments, *fresh, state=tmp_path / "state", env=env)
            assert f"Kafka at {kafka.bootstrap_servers} holds the records of another installation" in told
        with_our_kafka = {"SOLYX_DATABASE_URL": postgres_url}
        told = _fails(*arguments, state=tmp_path / "other", env=with_our_kafka)
        assert "the database in SOLYX_DATABASE_URL holds the jobs of another installation" in told


def test_an_existing_kafka_or_database_that_does_not_answer_is_told_with_a_cure(tmp_path: Path) -> None:
    away = {"SOLYX_DATABASE_URL": "postgresql+asyncpg://solyx:secret@127.0.0.1:9/solyx"}
    told = _fails(state=tmp_path, env=away)
    assert "the database in SOLYX_DATABASE_URL is not usable" in told
    assert "secret" not in told
    told = _fails(state=tmp_path, env={"SOLYX_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9"})
    assert "Kafka at 127.0.0.1:9 is not usable" in told


def _fails(*arguments: str, state: Path, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        [sys.executable, str(ROOT / "run"), "--state", str(state), "--for", "1", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | (env or {}),
        check=False,
        timeout=READY_S,
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert "what to do:" in done.stderr or "scenario is broken" in done.stderr
    return done.stderr
