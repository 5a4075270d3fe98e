"""A real Prometheus for tests: found, or installed with Debian's package manager where that is allowed; run on loopback."""

import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, flock
from pathlib import Path
from tempfile import gettempdir

INSTALL_S = 240
READY_S = 60
STOP_S = 20


class PrometheusMissingError(Exception):
    """There is no `prometheus` on this machine; the message says what to install."""


def prometheus_binary() -> str:
    """The path of `prometheus`; root on Debian installs it when it is missing.

    Raises:
        PrometheusMissingError: it is not there and cannot be installed from here.
    """
    with Path(gettempdir(), "solyx-prometheus-install.lock").open("w") as lock:
        flock(lock, LOCK_EX)  # parallel test workers: one installs, the others wait
        if found := shutil.which("prometheus"):
            return found
        if os.geteuid() != 0 or not shutil.which("apt-get"):
            msg = "these tests need the `prometheus` program: install it (Debian: apt-get install prometheus)"
            raise PrometheusMissingError(msg)
        _install()
        if found := shutil.which("prometheus"):
            return found
        msg = "apt-get installed the package prometheus, but there is no `prometheus` in PATH"
        raise PrometheusMissingError(msg)


def _install() -> None:
    """Without its service: Debian's package would start one, which no test wants."""
    policy = Path("/usr/sbin/policy-rc.d")
    forbids = not policy.exists()
    if forbids:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    try:
        for command in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", "prometheus"]):
            done = subprocess.run(
                ["apt-get", *command], env=environment, capture_output=True, text=True, timeout=INSTALL_S, check=False
            )
            if done.returncode:
                last = (done.stderr.strip().splitlines() or ["no message"])[-1]
                msg = f"apt-get {command[0]} failed ({last}): install the package prometheus by hand"
                raise PrometheusMissingError(msg)
    finally:
        if forbids:
            policy.unlink()


@contextmanager
def running_prometheus(directory: Path, config: str) -> Iterator[str]:
    """A server with this configuration; yields its address, ends it and its data afterwards."""
    (directory / "prometheus.yml").write_text(config)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        prometheus_binary(),
        f"--config.file={directory / 'prometheus.yml'}",
        f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    with (directory / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            _wait_ready(process, port, directory / "prometheus.log")
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_ready(process: subprocess.Popen, port: int, log: Path) -> None:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise AssertionError(f"prometheus ended: {log.read_text()[-2000:]}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=1) as answer:
                if answer.status == 200:
                    return
        except (OSError, urllib.error.URLError):
            time.sleep(0.1)
    raise AssertionError(f"prometheus is not ready after {READY_S} s: {log.read_text()[-2000:]}")
